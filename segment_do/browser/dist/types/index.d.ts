/** `segment.do` for browsers, as a module. Importing it does nothing; it may be imported where there is no page. */
export type { Agent } from "./agent.js";
export { Analytics, type AnalyticsFactory, type AnalyticsOptions } from "./analytics.js";
export { Client, type Sent } from "./client.js";
export type { CookieOptions } from "./cookie.js";
export type { Delivered } from "./delivery.js";
export type { Group, User } from "./identity.js";
export type { CallOptions, Fields, Id, Kind, Message } from "./message.js";
export type { LoadOptions } from "./options.js";
export type { Consent, Middleware, Payload } from "./pipeline.js";
export { VERSION } from "./version.js";
