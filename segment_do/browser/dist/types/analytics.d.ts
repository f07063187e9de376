/** `Analytics`: a loaded client from its options, or an agent's. Works with and without `new`. */
import { type Agent } from "./agent.js";
import { Client } from "./client.js";
import type { LoadOptions } from "./options.js";
export interface AnalyticsOptions extends LoadOptions {
    /** Of the source, as `segment-do sources` lists it. */
    writeKey: string;
}
export interface AnalyticsFactory {
    (options: AnalyticsOptions): Client;
    new (options: AnalyticsOptions): Client;
    /**
     * The client of an agent (text, or an object with an id or a name). It speaks for the agent: an event that names no
     * user has userId = the agent, or, after `identify(user)` on it, that user, until `reset()`. The visitor's own identity
     * is neither read nor written. The same agent with the same key gives the same client; options count when it is made.
     */
    for(agent: Agent, options: AnalyticsOptions): Client;
}
export declare const Analytics: AnalyticsFactory;
