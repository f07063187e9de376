/**
 * Requests as events. The event is made after the response has left, so it delays none; what goes wrong with it stays
 * here. Neither query strings nor bodies are sent: they hold secrets more often than not.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Fields } from "../message.js";
import type { Analytics } from "./analytics.js";
export type Handler = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;
export interface MiddlewareOptions {
    /** The event's name; default "HTTP Request". */
    event?: string;
    /** Who made the request; default the ids in analytics.js's cookies, else nobody in particular. */
    identify?: (request: IncomingMessage) => {
        userId?: string | undefined;
        anonymousId?: string | undefined;
    };
    /** More properties. */
    properties?: (request: IncomingMessage, response: ServerResponse) => Fields;
    /** Requests to leave out, such as health checks. */
    skip?: (request: IncomingMessage) => boolean;
}
/** `speaks`: the client speaks for an agent when nobody is known. */
export declare function middleware(client: Analytics, speaks: boolean, options: MiddlewareOptions): Handler;
