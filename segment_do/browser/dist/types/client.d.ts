/**
 * The client of a page: analytics.js's calls, from the moment it exists.
 *
 * A call builds its event at once, with the identity and the page of that moment, and is in the queue when it returns
 * (unless middleware or consent has to wait). Calls before `load` wait for it. Nothing is ever thrown into the page, and
 * no promise rejects: `on("error")` and `on("delivery_failure")` tell what went wrong, `debug()` tells everything.
 */
import { type Listener } from "./emitter.js";
import { Group, User } from "./identity.js";
import { type Elements, type EventFields, type EventName } from "./links.js";
import type { CallOptions, Fields, Id, Message } from "./message.js";
import { type LoadOptions } from "./options.js";
import { type Middleware } from "./pipeline.js";
/** Calls kept before `load`; at the bound further ones are lost. */
export declare const EARLY_CALLS_MAX = 500;
/** What a call resolves to, once its event is queued or was taken out of the stream. */
export interface Sent {
    event?: Message | undefined;
}
type Callback = (sent: Sent) => unknown;
export declare class Client {
    private readonly agent?;
    /** The snippet looks at these three before it does anything. */
    readonly initialize = true;
    readonly invoked = true;
    initialized: boolean;
    readonly VERSION: string;
    private readonly emitter;
    private readonly pipeline;
    private early;
    private options;
    private people;
    private company;
    private queue;
    private delivery;
    private talking;
    private givenAnonymousId;
    /** Ends what the client hears of its page. */
    private readonly hearing;
    /** `agent`: whom events speak for that name no user; then nothing is read from or written to the visitor's identity. */
    constructor(agent?: string | undefined);
    /** Begin: `load("writeKey", {apiHost: "https://cdp.example.com"})`. Loading again does nothing. */
    load(writeKey: string, given?: LoadOptions | null, scriptHost?: string): this;
    /** Something happened: `track("Order Completed", {revenue: 42})`. */
    track(event: string, properties?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
    /** Who the visitor is: `identify("u1", {plan: "pro"})`, or only traits. The event carries all traits known. */
    identify(id?: Id | null, traits?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
    identify(traits: Fields, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
    /** A page was seen: `page()`, `page("Pricing")`, `page("Docs", "Start", {…})` (category, name, properties). */
    page(...args: (string | Fields | CallOptions | Callback | null | undefined)[]): Promise<Sent>;
    /** A screen of an app was seen; arguments as in `page`. */
    screen(...args: (string | Fields | CallOptions | Callback | null | undefined)[]): Promise<Sent>;
    /** Without arguments the group itself; else the visitor belongs to it: `group("acme", {plan: "pro"})`. */
    group(): Group;
    group(id: Id | Fields | null, traits?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
    /** `to` was known as `from`; default the id so far. */
    alias(to: Id, from?: Id | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
    user(): User;
    setAnonymousId(id: string): this;
    /** Forget who the visitor is: the next event has a new anonymous id. */
    reset(): this;
    /** Called once loaded; the promise resolves then. */
    ready(callback?: () => unknown): Promise<void>;
    on(name: string, listener: Listener): this;
    once(name: string, listener: Listener): this;
    off(name: string, listener: Listener): this;
    emit(name: string, ...args: unknown[]): this;
    addSourceMiddleware(middleware: Middleware): this;
    /** "Segment.io" is the one destination inside a page; middleware for others is never called. */
    addDestinationMiddleware(name: string, ...middlewares: Middleware[]): this;
    /** Track clicks on links; `event` and `properties` may be functions of the element. */
    trackLink(links: Elements, event: EventName, properties?: EventFields): this;
    /** Track submitted forms, likewise. */
    trackForm(forms: Elements, event: EventName, properties?: EventFields): this;
    trackClick(links: Elements, event: EventName, properties?: EventFields): this;
    trackSubmit(forms: Elements, event: EventName, properties?: EventFields): this;
    /** Send what is queued; true when the platform has answered for all of it. */
    flush(): Promise<boolean>;
    /** Hear of the page no more. What is queued still leaves; on the last moments of the page nothing does. */
    forget(): void;
    /** analytics.js's older spelling of `page({path})`. */
    pageview(path?: string): Promise<Sent>;
    /** analytics.js has plugins, which are not run here, and a time to wait for them. Pages that ask for either go on. */
    register(..._plugins: unknown[]): Promise<void>;
    deregister(..._names: string[]): Promise<void>;
    timeout(_milliseconds: number): void;
    /** Say on the console what happens. */
    debug(on?: boolean): this;
    /** A call by its name, as the snippet queues them: `["track", "Signed Up"]`. */
    invoke(call: ArrayLike<unknown>): unknown;
    /** The old array's own method, for pages that push calls. */
    push(...calls: ArrayLike<unknown>[]): void;
    /** Calls that the snippet queued, those first that prepare the others. */
    replay(calls: readonly ArrayLike<unknown>[]): void;
    private call;
    private messageOf;
    /** An event that must not go to "Segment.io" goes nowhere: a page has no other destination. */
    private accepts;
    private enqueue;
    private connect;
    private listening;
    /** What listeners hear of a call, in analytics.js's order. */
    private tell;
    private soon;
    /** Whether the visitor's identity is read and written. */
    private persists;
    private fail;
    private safely;
}
export {};
