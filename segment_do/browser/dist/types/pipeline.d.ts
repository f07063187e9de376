/**
 * What happens to an event between the call and the queue: source middleware, consent, destination middleware.
 *
 * Without middleware or asynchronous consent an event is in the queue before the call returns. Where a step has to wait,
 * later events wait behind it, so the order stays. A middleware that does not call `next`, throws, or never ends takes the
 * event out of the stream: what it would have removed is never sent.
 */
import type { Fields, Message } from "./message.js";
/** Events waiting for a step; at the bound new ones are not taken. */
export declare const PIPELINE_EVENTS_MAX = 500;
export interface Payload {
    obj: Message;
}
export type Middleware = (given: {
    payload: Payload;
    next: (payload?: Payload | null) => void;
    integrations: Fields;
    integration?: string | undefined;
}) => unknown;
export interface Consent {
    /** Which categories the visitor allows now; asked for every event. */
    categories: () => Record<string, boolean> | PromiseLike<Record<string, boolean>>;
}
export declare class Pipeline {
    private readonly out;
    private readonly failed;
    private readonly source;
    private readonly destination;
    private tail;
    private waiting;
    constructor(out: (message: Message) => void, failed: (message: Message, reason: string) => void);
    consent: Consent | undefined;
    addSource(middleware: Middleware): void;
    /** Only those for "Segment.io" ever run: there are no destinations inside the page. */
    addDestination(name: string, middlewares: Middleware[]): void;
    /** The event itself where nothing can happen to it; else a copy, so that no step changes what the caller goes on using. */
    own(message: Message): Message;
    /** Resolves when the event is in the queue, or taken out of the stream; undefined when that is so already. */
    run(message: Message): Promise<unknown> | undefined;
    private wait;
    /** Runs the steps; a promise only where one of them is asynchronous. Never rejects. */
    private through;
    /** Consent that cannot be asked is consent to nothing: no category is allowed. */
    private stamped;
}
