/**
 * `segment.do/react`: the client for React 18 and newer, as a provider, hooks, and handlers for links, forms and errors.
 *
 * One page view a change of path, also under StrictMode, which runs effects twice. Without a provider nothing is sent and
 * nothing breaks: it is told once on the console.
 */

import {
  Component,
  createContext,
  createElement,
  useContext,
  useEffect,
  useRef,
  useState,
  type ReactElement,
  type ReactNode,
} from "react";

import { Analytics, Client, type AnalyticsOptions, type Fields } from "./index.js";

const Context = createContext<Client | undefined>(undefined);

/** Give `client`, or the options to make one with; what is given first stays. */
export type AnalyticsProviderProps = { children?: ReactNode } & ({ client: Client } | AnalyticsOptions);

export function AnalyticsProvider({ children, ...given }: AnalyticsProviderProps): ReactElement {
  const [client] = useState(() => ("client" in given ? given.client : new Client()));
  useEffect(() => {
    if (!("client" in given)) client.load(given.writeKey, given); // in an effect: a server that renders loads nothing
  }, []);
  return createElement(Context.Provider, { value: client }, children);
}

let missing: Client | undefined;

/** The provider's client. */
export function useAnalytics(): Client {
  const client = useContext(Context);
  if (client) return client;
  if (!missing) console.error("segment_do: useAnalytics() without an AnalyticsProvider sends nothing");
  return (missing ??= new Client());
}

/** A page view for each change of `path` (what a router calls its location), the first one included. */
export function usePageViews(path: string, name?: string, properties?: Fields): void {
  const client = useAnalytics();
  const seen = useRef<string | undefined>(undefined);
  useEffect(() => {
    if (seen.current === path) return;
    seen.current = path;
    void client.page(name ?? null, properties ?? {});
  }, [client, path]);
}

/** `<a href="/signup" onClick={trackLink(analytics, "Signup Clicked")}>`: the link works as ever, and is not delayed. */
export function trackLink(client: Client, event: string, properties?: Fields): () => void {
  return () => now(client, event, properties);
}

/** `<form onSubmit={trackForm(analytics, "Form Sent")}>` */
export function trackForm(client: Client, event: string, properties?: Fields): () => void {
  return () => now(client, event, properties);
}

/** An error that is thrown again and again, by a render loop say, is told so often a page. */
export const ERRORS_MAX = 20;

let errors = 0;
const told = new WeakSet<object>();

/** "Error Shown" with the error's name and message; the same error object counts once. */
export function trackError(client: Client, error: unknown, properties?: Fields): void {
  if (typeof error === "object" && error !== null) {
    if (told.has(error)) return;
    told.add(error);
  }
  if (errors++ >= ERRORS_MAX) return;
  void client.track("Error Shown", { ...described(error), ...properties });
}

/** Anything can be thrown: what has no text is told without one. */
function described(error: unknown): Fields {
  try {
    const { name, message } = error instanceof Error ? error : { name: "Error", message: error };
    return { name: String(name), message: String(message).slice(0, TEXT_MAX) };
  } catch {
    return { name: "Error" };
  }
}

const TEXT_MAX = 2_000; // characters; an event has room for 32 KB

export interface TrackErrorsProps {
  children?: ReactNode;
  /** Shown in place of children that threw. */
  fallback?: ReactNode;
}

/** Around a part of the page: errors of its rendering, of the window and of promises nobody handled are told. */
export class TrackErrors extends Component<TrackErrorsProps, { broken: boolean }> {
  static override contextType = Context;
  override state = { broken: false };

  static getDerivedStateFromError(): { broken: boolean } {
    return { broken: true };
  }

  override componentDidMount(): void {
    addEventListener("error", this.onError);
    addEventListener("unhandledrejection", this.onRejection);
  }

  override componentWillUnmount(): void {
    removeEventListener("error", this.onError);
    removeEventListener("unhandledrejection", this.onRejection);
  }

  override componentDidCatch(error: unknown, { componentStack }: { componentStack?: string | null }): void {
    this.tell(error, { componentStack: componentStack?.slice(0, TEXT_MAX) });
  }

  override render(): ReactNode {
    return this.state.broken ? this.props.fallback : this.props.children;
  }

  private readonly onError = (happened: ErrorEvent): void => this.tell(happened.error ?? happened.message);
  private readonly onRejection = (happened: PromiseRejectionEvent): void => this.tell(happened.reason);

  private tell(error: unknown, properties?: Fields): void {
    const client = this.context as Client | undefined;
    if (client) trackError(client, error, properties);
  }
}

function now(client: Client, event: string, properties?: Fields): void {
  void client.track(event, properties);
  void client.flush();
}

export { Analytics };
