"""All six calls with everything that a page may say, and one with nothing but the defaults, by analytics-next in Chromium.

``python -m tests.wire.clients.send_next URL KEY MODE RUN PACKAGE``, PACKAGE being an installed @segment/analytics-next.
MODE: standard, batching, closed (events still held when the visitor leaves). Before 1.84 batching speaks only https.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import Chromium, Visitor
from tests.browser.conftest import BROWSER
from tests.browser.recorder import recording

_SCRIPT = """<!doctype html><html lang="en"><title>A page</title><script src="/bundle.js"></script><script>
const run = "%(run)s";
const said = (call) => ({
    messageId: `${run}-${call}`, timestamp: new Date("2026-01-02T03:04:05.678Z"),
    context: {ip: "203.0.113.7", campaign: {name: "spring", source: "news"}},
    integrations: {All: true, Mixpanel: false, Amplitude: {session_id: 1767323045678}},
});
const traits = {name: "Zoë Ångström ☕", email: "zoe@example.com", age: 36, address: {city: "Gent", zip: null}};
const order = {revenue: 42.5, currency: "EUR", products: [{sku: "a-1", n: 2}], gift: true, when: new Date(1767323045678)};
const analytics = AnalyticsBrowser.load({writeKey: "%(key)s", cdnURL: "%(url)s"}, %(options)s);
analytics.setAnonymousId(`anon-${run}`);
const calls = [
    analytics.identify(`user-${run}`, traits, said("identify")),
    analytics.track("Order Completed 🎉", order, said("track")),
    analytics.page("Docs", "Home", {section: 'A "quoted" \\\\ title'}, said("page")),
    analytics.screen("App", "Start", {build: 7}, said("screen")),
    analytics.group(`group-${run}`, {plan: "pro", employees: 12}, said("group")),
    analytics.alias(`new-${run}`, `user-${run}`, said("alias")),
    analytics.track("Plain"),
];
%(done)s;
</script></html>"""
_BATCHING = """{integrations: {"Segment.io": {apiHost: "%s/v1", protocol: "%s",
    deliveryStrategy: {strategy: "batching", config: {size: %d, timeout: %d}}}}}"""


def main() -> None:
    """The command line."""
    url, key, mode, run, package = sys.argv[1:]
    protocol, _, host = url.partition("://")
    options = {
        "standard": "{}",
        "batching": _BATCHING % (host, protocol, 3, 500),
        "closed": _BATCHING % (host, protocol, 100, 600_000),
    }[mode]
    done = "Promise.all(calls).then(() => { window.sent = true; })"
    if mode == "closed":  # a batch's promise is kept when it is queued
        done = "analytics.ready(() => setTimeout(() => { window.sent = true; }, 500))"
    with tempfile.TemporaryDirectory() as folder, recording() as site:
        entry, bundle = Path(folder) / "entry.js", Path(folder) / "bundle.js"
        module = Path(package).resolve() / "dist" / "pkg" / "index.js"
        entry.write_text(
            f'import {{ AnalyticsBrowser }} from "{module}";\nwindow.AnalyticsBrowser = AnalyticsBrowser;\n'
        )
        esbuild = BROWSER / "node_modules" / ".bin" / "esbuild"
        production = "--define:process.env.NODE_ENV='\"production\"'"
        packed = [str(esbuild), str(entry), "--bundle", "--log-level=error", f"--outfile={bundle}", production]
        subprocess.run(packed, check=True)
        site.serve("/favicon.ico", "", "image/x-icon")
        site.serve_file("/bundle.js", bundle)
        page = site.serve("/docs", _SCRIPT % {"run": run, "key": key, "url": url, "options": options, "done": done})
        executable = shutil.which("chromium")
        assert executable is not None, "needs Chromium"
        chromium = Chromium(executable)
        visitor = Visitor(chromium, any_certificate=True)
        opened = visitor.page(f"{page}?utm_source=letter&utm_campaign=may")
        opened.until("window.sent === true")
        if mode == "closed":
            opened.goto(f"{site.url}/favicon.ico")
        assert visitor.errors() == []
        hosts = visitor.hosts()
        visitor.close()
        chromium.close()
    assert hosts <= {host, site.host}, hosts


if __name__ == "__main__":
    main()
