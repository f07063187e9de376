/**
 * From the queue to the platform: batches, retries, and the last moments of a page.
 *
 * Bodies go as text/plain and carry the write key, so that a first attempt needs no preflight; a retry says how many went
 * before it in `X-Retry-Count`. Requests may outlive the page (`keepalive`), for which browsers allow 64 KB in all. The same
 * events go again with the same messageIds until the platform has taken or refused them; nothing is sent while offline.
 * A redirect is no answer: it could lead to another host, and would turn the request into one without events.
 */
import { type Queue } from "./queue.js";
/** Events of one request, bytes of JSON. */
export declare const REQUEST_BYTES_MAX = 60000;
/** Bodies that may outlive the page at once; browsers refuse a request that goes beyond. */
export declare const KEEPALIVE_BYTES_MAX = 65536;
/** An unanswered request is given up after so long, and tried again. */
export declare const REQUEST_TIMEOUT_MS = 30000;
/** An event sent so often without an answer for good is let go. With the backoff this takes more than an hour online. */
export declare const ATTEMPTS_MAX = 100;
export interface DeliveryOptions {
    writeKey: string;
    /** Base address, without `/v1`. */
    apiHost: string;
    /** `batch`: to /v1/b; `single`: one event a request, to /v1/t, /v1/p, … */
    delivery: "batch" | "single";
    /** So many waiting events are sent at once. */
    batchEvents: number;
    /** Longest an event waits for company, milliseconds. */
    lingerMs: number;
}
export interface Delivered {
    messageIds: string[];
    /** HTTP status; 0 where there was no answer. */
    status: number;
    reason: string;
}
type Told = (name: "delivery_success" | "delivery_retry" | "delivery_failure", what: Delivered) => unknown;
export declare class Delivery {
    private readonly queue;
    private readonly options;
    private readonly told;
    private busy;
    private failures;
    private linger;
    private pause;
    /** The platform answered that it wants to be left alone; otherwise it was not reached. */
    private wished;
    private flushing;
    /** Bytes under way that may outlive the page. */
    private bytesAway;
    /** What a request has besides its events, bytes at most. */
    private readonly envelopeBytes;
    constructor(queue: Queue, options: DeliveryOptions, told: Told);
    /** Something was queued. */
    wake(): void;
    /** Sends now what waits; true when nothing is left, false when something has to wait for the network or the platform. */
    flush(): Promise<boolean>;
    /** The network is there again, or events of a page before are. A wait that the platform asked for goes on. */
    online(): void;
    /** The page may go away: everything leaves now, as far as browsers allow, and stays in the queue until answered. */
    leave(): void;
    private send;
    /** One request and what follows from its answer; true when the platform has answered for good. Never rejects. */
    private attempt;
    private post;
    private settleFlush;
}
export {};
