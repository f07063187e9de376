// The page of the React tests; it starts with window.start(client).
import { createElement as h, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { AnalyticsProvider, trackForm, trackLink, TrackErrors, useAnalytics, usePageViews } from "segment-react";

function Broken({ broken }) {
  if (broken) throw new TypeError("broken on purpose");
  return null;
}

function Page() {
  const [path, go] = useState("/a");
  const [broken, breakIt] = useState(false);
  const analytics = useAnalytics();
  usePageViews(path, path);
  return h(
    "main", {},
    h("button", { id: "go", onClick: () => go("/b") }),
    h("button", { id: "break", onClick: () => breakIt(true) }),
    h("a", { id: "link", href: "#x", onClick: trackLink(analytics, "Link Clicked", { n: 1 }) }, "link"),
    h("form", { onSubmit: (event) => (event.preventDefault(), trackForm(analytics, "Form Sent")()) }, h("button", { id: "send" })),
    h(TrackErrors, { fallback: h("p", { id: "fallback" }, "sorry") }, h(Broken, { broken })),
  );
}

window.start = (writeKey, apiHost) => {
  const root = createRoot(document.getElementById("root"));
  const given = { writeKey, apiHost, lingerMs: 50 };
  const show = (key) => root.render(h(StrictMode, {}, h(AnalyticsProvider, given, h(Page, { key }))));
  window.remount = () => show("again");
  show("first");
};
