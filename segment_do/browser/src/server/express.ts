/**
 * Requests as events. The event is made after the response has left, so it delays none; what goes wrong with it stays
 * here. Neither query strings nor bodies are sent: they hold secrets more often than not.
 */

import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Fields } from "../message.js";
import type { Analytics } from "./analytics.js";

export type Handler = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;

export interface MiddlewareOptions {
  /** The event's name; default "HTTP Request". */
  event?: string;
  /** Who made the request; default the ids in analytics.js's cookies, else nobody in particular. */
  identify?: (request: IncomingMessage) => { userId?: string | undefined; anonymousId?: string | undefined };
  /** More properties. */
  properties?: (request: IncomingMessage, response: ServerResponse) => Fields;
  /** Requests to leave out, such as health checks. */
  skip?: (request: IncomingMessage) => boolean;
}

/** `speaks`: the client speaks for an agent when nobody is known. */
export function middleware(client: Analytics, speaks: boolean, options: MiddlewareOptions): Handler {
  const nobody = speaks ? {} : { anonymousId: `server-${randomUUID()}` };
  return (request, response, next) => {
    const started = performance.now();
    const url = (request as { originalUrl?: string }).originalUrl ?? request.url ?? "/"; // before routers change it
    response.once("close", () => {
      try {
        if (options.skip?.(request)) return;
        const ids = (options.identify ?? cookieIds)(request);
        void client.track({
          ...(ids.userId || ids.anonymousId ? ids : nobody),
          event: options.event ?? "HTTP Request",
          properties: {
            method: request.method,
            path: url.split("?")[0],
            ...routeOf(request),
            status: response.statusCode,
            durationMs: Math.round((performance.now() - started) * 1000) / 1000,
            completed: response.writableFinished,
            ...options.properties?.(request, response),
          },
          context: { userAgent: request.headers["user-agent"] },
        });
      } catch {
        // the program's own functions; its response has long left
      }
    });
    next();
  };
}

/** The pattern that Express matched, with that of the router it is in; nothing elsewhere. */
function routeOf(request: IncomingMessage): { route?: string } {
  const { baseUrl, route } = request as { baseUrl?: unknown; route?: { path?: unknown } };
  if (typeof route?.path !== "string") return {};
  return { route: (typeof baseUrl === "string" ? baseUrl : "") + route.path };
}

function cookieIds(request: IncomingMessage): { userId?: string | undefined; anonymousId?: string | undefined } {
  const read = (name: string): string | undefined => {
    const pair = request.headers.cookie?.split(/; */).find((each) => each.startsWith(name + "="));
    const id = decoded(pair?.slice(name.length + 1) ?? "").replace(/^"(.*)"$/, "$1");
    return id === "null" ? undefined : id || undefined; // analytics.js once wrote null where nobody was known
  };
  return { userId: read("ajs_user_id"), anonymousId: read("ajs_anonymous_id") };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // whoever sent it, it did not come from the SDK
  }
}
