/**
 * The bounded queue of a client, and the loop that empties it: one batch at a time, in order, each to its end.
 *
 * The same events go with the same messageIds on every attempt; only `sentAt` and `X-Retry-Count` differ. Whoever queued
 * an event hears what became of it once, when the platform has answered for good or time is up.
 */
import { AnalyticsError } from "./errors.js";
import type { Source } from "./source.js";
export interface OutboxOptions {
    flushAt: number;
    flushInterval: number;
    maxQueue: number;
    maxQueueBytes: number;
    retrySeconds: number;
    timeoutSeconds: number;
    gzip: boolean;
}
export interface Entry {
    json: string;
    id: string;
    settle: (error?: AnalyticsError) => void;
}
export declare class Outbox {
    private readonly source;
    private readonly options;
    private waiting;
    private bytes;
    private under;
    private timer;
    private readonly end;
    /** Cuts off the request that is under way. */
    private limit;
    /** Events not yet settled, those under way included. */
    private unsettled;
    constructor(source: Source, options: OutboxOptions);
    /** Takes all of them or, at the bound, none: then it throws. */
    add(entries: readonly Entry[]): void;
    /** Resolves when all that is queued now is settled. */
    flush(): Promise<void>;
    /** Delivers what is queued for at most so long; what is left then fails, a request under way included. */
    close(timeoutMs: number): Promise<void>;
    private go;
    private empty;
    private take;
    /** undefined when the platform has stored the batch. Never rejects. */
    private deliver;
    private attempt;
    private request;
}
