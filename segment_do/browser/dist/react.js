// src/react.ts
import {
  Component,
  createContext,
  createElement,
  useContext,
  useEffect,
  useRef,
  useState
} from "react";
import { Analytics, Client } from "./analytics.esm.js";
var Context = createContext(void 0);
function AnalyticsProvider({ children, ...given }) {
  const [client] = useState(() => "client" in given ? given.client : new Client());
  useEffect(() => {
    if (!("client" in given)) client.load(given.writeKey, given);
  }, []);
  return createElement(Context.Provider, { value: client }, children);
}
var missing;
function useAnalytics() {
  const client = useContext(Context);
  if (client) return client;
  if (!missing) console.error("segment_do: useAnalytics() without an AnalyticsProvider sends nothing");
  return missing ?? (missing = new Client());
}
function usePageViews(path, name, properties) {
  const client = useAnalytics();
  const seen = useRef(void 0);
  useEffect(() => {
    if (seen.current === path) return;
    seen.current = path;
    void client.page(name ?? null, properties ?? {});
  }, [client, path]);
}
function trackLink(client, event, properties) {
  return () => now(client, event, properties);
}
function trackForm(client, event, properties) {
  return () => now(client, event, properties);
}
var ERRORS_MAX = 20;
var errors = 0;
var told = /* @__PURE__ */ new WeakSet();
function trackError(client, error, properties) {
  if (typeof error === "object" && error !== null) {
    if (told.has(error)) return;
    told.add(error);
  }
  if (errors++ >= ERRORS_MAX) return;
  void client.track("Error Shown", { ...described(error), ...properties });
}
function described(error) {
  try {
    const { name, message } = error instanceof Error ? error : { name: "Error", message: error };
    return { name: String(name), message: String(message).slice(0, TEXT_MAX) };
  } catch {
    return { name: "Error" };
  }
}
var TEXT_MAX = 2e3;
var TrackErrors = class extends Component {
  constructor() {
    super(...arguments);
    this.state = { broken: false };
    this.onError = (happened) => this.tell(happened.error ?? happened.message);
    this.onRejection = (happened) => this.tell(happened.reason);
  }
  static getDerivedStateFromError() {
    return { broken: true };
  }
  componentDidMount() {
    addEventListener("error", this.onError);
    addEventListener("unhandledrejection", this.onRejection);
  }
  componentWillUnmount() {
    removeEventListener("error", this.onError);
    removeEventListener("unhandledrejection", this.onRejection);
  }
  componentDidCatch(error, { componentStack }) {
    this.tell(error, { componentStack: componentStack?.slice(0, TEXT_MAX) });
  }
  render() {
    return this.state.broken ? this.props.fallback : this.props.children;
  }
  tell(error, properties) {
    const client = this.context;
    if (client) trackError(client, error, properties);
  }
};
TrackErrors.contextType = Context;
function now(client, event, properties) {
  void client.track(event, properties);
  void client.flush();
}
export {
  Analytics,
  AnalyticsProvider,
  ERRORS_MAX,
  TrackErrors,
  trackError,
  trackForm,
  trackLink,
  useAnalytics,
  usePageViews
};
