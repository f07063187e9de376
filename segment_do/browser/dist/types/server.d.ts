/** `segment.do/server`: the client for Node.js 18 and newer. */
export type { Agent } from "./agent.js";
export type { CallOptions, Fields, Id, Kind, Message } from "./message.js";
export { Analytics, type AgentOptions, type ServerOptions } from "./server/analytics.js";
export { AnalyticsError } from "./server/errors.js";
export type { MiddlewareOptions } from "./server/express.js";
export { VERSION } from "./version.js";
