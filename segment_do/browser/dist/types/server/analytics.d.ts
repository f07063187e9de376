/**
 * `Analytics` for Node.js: a call queues its event and returns a promise that resolves when the platform has stored it.
 *
 * A call never throws and never waits. A promise that nobody looks at may fail without ending the process; `onError`
 * hears of every failure. While events are queued the process stays alive; `closeAndFlush` bounds that.
 */
import { type Agent } from "../agent.js";
import type { CallOptions, Fields, Id } from "../message.js";
import { AnalyticsError } from "./errors.js";
import { type Handler, type MiddlewareOptions } from "./express.js";
import { type Source } from "./source.js";
export interface BehaviourOptions {
    /** Events of one request; so many waiting are sent at once. 1 to 2,500, default 15. */
    flushAt?: number;
    /** Longest an event waits for company, milliseconds; default 1000. */
    flushInterval?: number;
    /** Events not yet settled, those under way included; at the bound a call's promise rejects ("busy"). Default 10,000. */
    maxQueue?: number;
    /** The same in bytes of JSON; default 32 MiB. */
    maxQueueBytes?: number;
    /** A batch that was not taken for so long fails, seconds; default 1800. */
    retrySeconds?: number;
    /** One request, seconds; default 10. */
    timeoutSeconds?: number;
    /** Compress bodies over 1 KB; default true. */
    gzip?: boolean;
    /** Told of every failure. */
    onError?: (error: AnalyticsError, messageIds: string[]) => unknown;
}
export interface ServerOptions extends BehaviourOptions {
    writeKey: string;
    /** The platform's address; default `SEGMENT_DO_URL`, else `http://127.0.0.1:8000`. */
    host?: string;
}
export interface AgentOptions extends BehaviourOptions {
    /** Default `SEGMENT_DO_URL`, else the platform that runs from the home directory. */
    host?: string;
    /** The admin token; default `SEGMENT_DO_TOKEN`, else the home directory's. */
    token?: string;
}
/** Resolves when the platform has stored the event; rejects with an AnalyticsError. */
export type Stored = Promise<{
    messageId: string;
}>;
/** analytics-node's spelling: one object with the wire's fields. */
type Whole = Fields;
export declare class Analytics {
    private readonly outbox;
    private readonly onError;
    private agent;
    private identified;
    private closed;
    constructor(options: ServerOptions);
    constructor(options: BehaviourOptions, source: Source, agent: string);
    /**
     * The client of an agent (text, or an object with an id or a name), whose source is made at the first event. It speaks
     * for the agent: an event that names nobody has userId = the agent, or, after `identify(user)`, that user, until
     * `reset()`. The same agent at the same platform gives the same client. Throws when the agent has neither id nor name.
     */
    static for(agent: Agent, options?: AgentOptions): Analytics;
    /** `track("Order Completed", {revenue: 42}, {userId: "u1"})`, or `track({userId, event, properties})`. */
    track(event: string | Whole, properties?: Fields, options?: CallOptions): Stored;
    /** `identify("u1", {plan: "pro"})`, or `identify({userId, traits})`. */
    identify(userId: Id | Whole, traits?: Fields, options?: CallOptions): Stored;
    page(name?: string | Whole, properties?: Fields, options?: CallOptions): Stored;
    screen(name?: string | Whole, properties?: Fields, options?: CallOptions): Stored;
    group(groupId: Id | Whole, traits?: Fields, options?: CallOptions): Stored;
    /** `alias("new", "old")`: the new id comes first. */
    alias(userId: Id | Whole, previousId?: Id, options?: CallOptions): Stored;
    /** Many events, spelled as on the wire; queued all or none. Resolves when all are stored. */
    batch(events: readonly Fields[]): Promise<{
        messageIds: string[];
    }>;
    /** An agent's client speaks for the agent itself again. */
    reset(): void;
    /** Send what is queued; resolves when all of it is settled. Never rejects: each call's own promise tells. */
    flush(): Promise<void>;
    /** Take no more events, deliver what is queued for at most `timeout` milliseconds (default 5000), and stop. */
    closeAndFlush({ timeout }?: {
        timeout?: number;
    }): Promise<void>;
    /** Express (and Connect) middleware that tracks each request once its response is done; see MiddlewareOptions. */
    middleware(options?: MiddlewareOptions): Handler;
    private send;
    /** All of them or, when one is invalid or there is no room, none: then it throws. */
    private queue;
    private failed;
}
export {};
