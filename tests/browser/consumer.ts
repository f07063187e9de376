// What a TypeScript program writes that uses the package; compiled, never run.
import { Analytics, Client, VERSION, type Consent, type Delivered, type LoadOptions, type Message, type Middleware } from "segment.do";
import { AnalyticsProvider, TrackErrors, trackError, trackForm, trackLink, useAnalytics, usePageViews } from "segment.do/react";
import { Analytics as Server, AnalyticsError, type AgentOptions, type MiddlewareOptions, type ServerOptions } from "segment.do/server";

const consent: Consent = { categories: async () => ({ ads: true }) };
const options: LoadOptions = { apiHost: "https://cdp.example.com", consent, cookie: { maxage: 7 }, useQueryString: { uid: /^u/ } };
const client: Client = Analytics({ writeKey: "k", ...options });
const tom: Client = Analytics.for({ id: "tom" }, { writeKey: "k" });
const made = new Analytics({ writeKey: "k" });
const stamp: Middleware = ({ payload, next, integrations }) => {
  payload.obj.context["version"] = VERSION;
  if (integrations["All"] !== false) next(payload);
};
client.addSourceMiddleware(stamp).addDestinationMiddleware("Segment.io", stamp).debug().on("delivery_failure", (what: Delivered) => what.status);

export async function browser(): Promise<Message | undefined> {
  await client.identify(7, { plan: "pro" });
  await client.identify({ plan: "pro" }, { integrations: { All: false } });
  await client.page("Docs", "Start", { a: 1 });
  await client.group("acme", { size: 3 });
  await client.alias("new", "old");
  await client.screen("Home");
  client.trackLink(document.querySelectorAll("a"), (element) => element.id, { a: 1 });
  client.trackForm(document.querySelector("form"), "Sent");
  client.setAnonymousId("a").reset();
  const id: string | null = client.user().id();
  const group: string | null = client.group().id();
  const sent: boolean = await tom.flush();
  const { event } = await made.track("Order Completed", { id, group, sent }, { timestamp: new Date() }, () => 0);
  // @ts-expect-error: an event has a name
  await client.track();
  return event;
}

export async function server(): Promise<string> {
  const given: ServerOptions = { writeKey: "k", host: "http://127.0.0.1:8000", onError: (error) => error.code };
  const agent: AgentOptions = { token: "t" };
  const middleware: MiddlewareOptions = { identify: () => ({ userId: "u1" }), skip: (request) => request.url === "/health" };
  const node = new Server(given);
  node.middleware(middleware);
  await Server.for("tom", agent).track("Answered");
  await node.batch([{ type: "track", event: "E", userId: "u" }]);
  try {
    return (await node.track("Order Completed", { revenue: 42 }, { userId: "u1" })).messageId;
  } catch (error) {
    return error instanceof AnalyticsError && error.retryable ? error.code : "";
  } finally {
    await node.closeAndFlush({ timeout: 100 });
  }
}

export function useAll(): unknown {
  const analytics: Client = useAnalytics();
  usePageViews("/path", "Name", { a: 1 });
  trackError(analytics, new Error("shown"));
  const handlers: (() => void)[] = [trackLink(analytics, "Clicked"), trackForm(analytics, "Sent", { a: 1 })];
  return [AnalyticsProvider({ client, children: null }), AnalyticsProvider({ writeKey: "k" }), TrackErrors, handlers];
}
