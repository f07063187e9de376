/**
 * The client of a page: analytics.js's calls, from the moment it exists.
 *
 * A call builds its event at once, with the identity and the page of that moment, and is in the queue when it returns
 * (unless middleware or consent has to wait). Calls before `load` wait for it. Nothing is ever thrown into the page, and
 * no promise rejects: `on("error")` and `on("delivery_failure")` tell what went wrong, `debug()` tells everything.
 */

import { callOf, givenContext, text, type Call } from "./arguments.js";
import { contextOf } from "./context.js";
import { Delivery } from "./delivery.js";
import { Emitter, reasonOf, type Listener } from "./emitter.js";
import { Group, User } from "./identity.js";
import { newMessageId } from "./ids.js";
import { listen, type Elements, type EventFields, type EventName } from "./links.js";
import type { CallOptions, Fields, Id, Kind, Message } from "./message.js";
import { deliveryOptions, type LoadOptions } from "./options.js";
import { pageFacts, queuedFacts, type PageFacts } from "./page.js";
import { Pipeline, type Middleware } from "./pipeline.js";
import { Queue, RENEW_MS } from "./queue.js";
import { obeyQuery } from "./query.js";
import { BrowserStore, MemoryStore } from "./store.js";
import { VERSION } from "./version.js";

/** Calls kept before `load`; at the bound further ones are lost. */
export const EARLY_CALLS_MAX = 500;

/** What a call resolves to, once its event is queued or was taken out of the stream. */
export interface Sent {
  event?: Message | undefined;
}

type Callback = (sent: Sent) => unknown;

/** Calls that have to come before the events that waited for `load`. */
const FIRST = ["on", "once", "off", "debug", "addSourceMiddleware", "addDestinationMiddleware", "setAnonymousId"];

export class Client {
  /** The snippet looks at these three before it does anything. */
  readonly initialize = true;
  readonly invoked = true;
  initialized = false;
  readonly VERSION = VERSION;

  private readonly emitter = new Emitter();
  private readonly pipeline = new Pipeline(
    (message) => this.enqueue(message),
    (message, reason) => this.fail(message.messageId, reason),
  );
  private early: (() => void)[] = [];
  private options: LoadOptions = {};
  private people = new User(new MemoryStore());
  private company = new Group(new MemoryStore());
  private queue: Queue | undefined;
  private delivery: Delivery | undefined;
  private talking = false;
  private givenAnonymousId: string | undefined;
  /** Ends what the client hears of its page. */
  private readonly hearing = new AbortController();

  /** `agent`: whom events speak for that name no user; then nothing is read from or written to the visitor's identity. */
  constructor(private readonly agent?: string) {}

  /** Begin: `load("writeKey", {apiHost: "https://cdp.example.com"})`. Loading again does nothing. */
  load(writeKey: string, given?: LoadOptions | null, scriptHost?: string): this {
    return this.safely(() => {
      const options = given ?? {};
      if (this.initialized || typeof window === "undefined") return;
      if (typeof writeKey !== "string" || !writeKey) {
        this.fail("", "load() needs a write key");
        return;
      }
      this.options = options;
      const store = this.persists() ? new BrowserStore(options.cookie ?? {}) : new MemoryStore();
      this.people = new User(store, this.agent);
      this.company = new Group(store);
      if (this.givenAnonymousId !== undefined) this.people.anonymousId(this.givenAnonymousId);
      this.pipeline.consent = options.consent;
      if (!options.disable && options.integrations?.["Segment.io"] !== false) this.connect(writeKey, scriptHost);
      this.initialized = true;
      this.emitter.emit("initialize", { writeKey }, options);
      const fromQuery = options.useQueryString ?? true;
      if (fromQuery && this.agent === undefined) obeyQuery(location.search, this, fromQuery === true ? {} : fromQuery);
      for (const call of this.early.splice(0)) call();
      if (options.initialPageview) void this.page();
      this.emitter.emit("ready");
    });
  }

  /** Something happened: `track("Order Completed", {revenue: 42})`. */
  track(event: string, properties?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
  track(...args: unknown[]): Promise<Sent> {
    return this.call("track", args);
  }

  /** Who the visitor is: `identify("u1", {plan: "pro"})`, or only traits. The event carries all traits known. */
  identify(id?: Id | null, traits?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
  identify(traits: Fields, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
  identify(...args: unknown[]): Promise<Sent> {
    return this.call("identify", args);
  }

  /** A page was seen: `page()`, `page("Pricing")`, `page("Docs", "Start", {…})` (category, name, properties). */
  page(...args: (string | Fields | CallOptions | Callback | null | undefined)[]): Promise<Sent> {
    return this.call("page", args);
  }

  /** A screen of an app was seen; arguments as in `page`. */
  screen(...args: (string | Fields | CallOptions | Callback | null | undefined)[]): Promise<Sent> {
    return this.call("screen", args);
  }

  /** Without arguments the group itself; else the visitor belongs to it: `group("acme", {plan: "pro"})`. */
  group(): Group;
  group(id: Id | Fields | null, traits?: Fields | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
  group(...args: unknown[]): Group | Promise<Sent> {
    return args.length === 0 ? this.company : this.call("group", args);
  }

  /** `to` was known as `from`; default the id so far. */
  alias(to: Id, from?: Id | null, options?: CallOptions | null, callback?: Callback): Promise<Sent>;
  alias(...args: unknown[]): Promise<Sent> {
    return this.call("alias", args);
  }

  user(): User {
    return this.people;
  }

  setAnonymousId(id: string): this {
    if (!this.initialized) this.givenAnonymousId = id; // before anything that waits, as analytics.js has it
    return this.safely(() => this.initialized && this.people.anonymousId(id));
  }

  /** Forget who the visitor is: the next event has a new anonymous id. */
  reset(): this {
    return this.soon(() => {
      this.people.reset();
      this.company.reset();
      this.emitter.emit("reset");
    });
  }

  /** Called once loaded; the promise resolves then. */
  ready(callback?: () => unknown): Promise<void> {
    return new Promise((resolve) => {
      const go: Listener = () => {
        resolve();
        return callback?.();
      };
      if (this.initialized) this.safely(go);
      else this.emitter.once("ready", go);
    });
  }

  on(name: string, listener: Listener): this {
    this.emitter.on(name, listener);
    return this;
  }

  once(name: string, listener: Listener): this {
    this.emitter.once(name, listener);
    return this;
  }

  off(name: string, listener: Listener): this {
    this.emitter.off(name, listener);
    return this;
  }

  emit(name: string, ...args: unknown[]): this {
    this.emitter.emit(name, ...args);
    return this;
  }

  addSourceMiddleware(middleware: Middleware): this {
    this.pipeline.addSource(middleware);
    return this;
  }

  /** "Segment.io" is the one destination inside a page; middleware for others is never called. */
  addDestinationMiddleware(name: string, ...middlewares: Middleware[]): this {
    this.pipeline.addDestination(name, middlewares);
    return this;
  }

  /** Track clicks on links; `event` and `properties` may be functions of the element. */
  trackLink(links: Elements, event: EventName, properties?: EventFields): this {
    return this.listening(links, "click", event, properties);
  }

  /** Track submitted forms, likewise. */
  trackForm(forms: Elements, event: EventName, properties?: EventFields): this {
    return this.listening(forms, "submit", event, properties);
  }

  trackClick(links: Elements, event: EventName, properties?: EventFields): this {
    return this.trackLink(links, event, properties);
  }

  trackSubmit(forms: Elements, event: EventName, properties?: EventFields): this {
    return this.trackForm(forms, event, properties);
  }

  /** Send what is queued; true when the platform has answered for all of it. */
  flush(): Promise<boolean> {
    return Promise.resolve(this.delivery?.flush() ?? true);
  }

  /** Hear of the page no more. What is queued still leaves; on the last moments of the page nothing does. */
  forget(): void {
    this.hearing.abort();
  }

  /** analytics.js's older spelling of `page({path})`. */
  pageview(path?: string): Promise<Sent> {
    return this.page(path === undefined ? {} : { path });
  }

  /** analytics.js has plugins, which are not run here, and a time to wait for them. Pages that ask for either go on. */
  register(..._plugins: unknown[]): Promise<void> {
    return Promise.resolve(this.fail("", "plugins are not run"));
  }

  deregister(..._names: string[]): Promise<void> {
    return Promise.resolve();
  }

  timeout(_milliseconds: number): void {}

  /** Say on the console what happens. */
  debug(on = true): this {
    this.talking = on;
    return this;
  }

  /** A call by its name, as the snippet queues them: `["track", "Signed Up"]`. */
  invoke(call: ArrayLike<unknown>): unknown {
    const [name, ...args] = Array.from(call);
    const method = (this as unknown as Record<string, unknown>)[String(name)];
    if (typeof method !== "function") return undefined;
    return this.safely(() => (method as (...given: unknown[]) => unknown).apply(this, args));
  }

  /** The old array's own method, for pages that push calls. */
  push(...calls: ArrayLike<unknown>[]): void {
    for (const call of calls) this.invoke(call);
  }

  /** Calls that the snippet queued, those first that prepare the others. */
  replay(calls: readonly ArrayLike<unknown>[]): void {
    const first = (call: ArrayLike<unknown>): boolean => FIRST.includes(String(call[0]));
    for (const call of calls) if (first(call)) this.invoke(call);
    for (const call of calls) if (!first(call) && call[0] !== "load") this.invoke(call);
  }

  private call(kind: Kind, args: unknown[]): Promise<Sent> {
    return new Promise((resolve) => {
      const lost = (): void => resolve({});
      this.safely(() => {
        if (typeof window === "undefined") return lost();
        const queued = queuedFacts(args[args.length - 1]);
        const page = queued ?? pageFacts();
        const call = callOf(kind, queued ? args.slice(0, -1) : args);
        const timestamp = call.options.timestamp ?? new Date();
        this.soon(() => {
          const message = this.messageOf(kind, call, page, timestamp);
          if (!message) return lost();
          this.tell(kind, call);
          const done = (): void => {
            resolve({ event: message });
            if (call.callback) this.safely(() => call.callback!({ event: message }));
          };
          const waiting = this.accepts(message) ? this.pipeline.run(message) : undefined;
          if (waiting) void waiting.then(done);
          else done();
        }, lost);
      }, lost);
    });
  }

  private messageOf(kind: Kind, call: Call, page: PageFacts, timestamp: string | Date): Message | undefined {
    const { first, second, fields, options } = call;
    const own: Partial<Message> = {};
    const user = this.people;
    const anonymousId = text(options.anonymousId);
    // A call that says who the visitor is says so for the next ones too, as analytics.js has it.
    if (anonymousId !== undefined && this.agent === undefined) user.anonymousId(anonymousId);
    let userId = text(options.userId) ?? user.id() ?? undefined;
    if (kind === "track") {
      if (!first) return void this.fail("", "track() needs the event's name");
      own.event = first;
      own.properties = fields;
    } else if (kind === "identify") {
      user.identify(first, fields);
      userId = user.id() ?? userId; // whoever is known or named; the options' user only where nobody is
      own.traits = user.traits();
    } else if (kind === "group") {
      this.company.identify(first, fields);
      const groupId = this.company.id();
      if (!groupId) return void this.fail("", "group() needs an id");
      own.groupId = groupId;
      own.traits = this.company.traits();
    } else if (kind === "alias") {
      if (!first) return void this.fail("", "alias() needs the new id");
      own.previousId = second ?? user.id() ?? user.anonymousId();
      userId = first;
    } else {
      const named: Fields = {};
      if (first !== undefined) own.name = named["name"] = first;
      if (second !== undefined) own.category = named["category"] = second;
      own.properties = kind === "page" ? { ...page, ...fields, ...named } : fields;
    }
    return this.pipeline.own({
      ...own,
      type: kind,
      messageId: text(options.messageId) ?? newMessageId(Date.now()),
      timestamp,
      userId,
      anonymousId: anonymousId ?? user.anonymousId(),
      context: contextOf(kind === "page" ? factsIn(own.properties!, page) : page, givenContext(options), this.persists()),
      integrations: { ...this.options.integrations, ...options.integrations },
    });
  }

  /** An event that must not go to "Segment.io" goes nowhere: a page has no other destination. */
  private accepts(message: Message): boolean {
    return message.integrations["Segment.io"] !== false && !this.options.disable;
  }

  private enqueue(message: Message): void {
    if (!this.queue || message.integrations["Segment.io"] === false) return;
    const refused = this.queue.add(message);
    if (refused) return this.fail(message.messageId, refused);
    if (this.talking) console.log("segment_do", message.type, message);
    this.delivery!.wake();
  }

  private connect(writeKey: string, scriptHost: string | undefined): void {
    const where = deliveryOptions(writeKey, this.options, scriptHost);
    const queue = (this.queue = new Queue(writeKey, !this.options.disableClientPersistence, Date.now));
    const delivery = (this.delivery = new Delivery(queue, where, (name, what) => {
      if (this.talking) console.log("segment_do", name, what);
      this.emitter.emit(name, what);
    }));
    const adopt = (): void => {
      queue.adopt();
      if (queue.length > 0) delivery.online(); // they have waited long enough
    };
    const { signal } = this.hearing;
    addEventListener("online", () => delivery.online(), { signal });
    const hide = (): void => {
      if (document.visibilityState === "hidden") delivery.leave();
    };
    document.addEventListener("visibilitychange", hide, { signal });
    const leave = (): void => {
      delivery.leave();
      queue.leave();
    };
    addEventListener("pagehide", leave, { signal });
    const comeBack = (shown: PageTransitionEvent): void => {
      if (!shown.persisted) return;
      queue.comeBack();
      adopt();
    };
    addEventListener("pageshow", comeBack, { signal });
    // The page before may say goodbye only now. One tab takes over what it left: the one that is looked at.
    const inherit = ({ key, newValue }: StorageEvent): void => {
      if (queue.isLeft(key, newValue) && document.visibilityState === "visible") adopt();
    };
    addEventListener("storage", inherit, { signal });
    const renewing = setInterval(() => queue.renew(), RENEW_MS);
    signal.addEventListener("abort", () => clearInterval(renewing));
    adopt();
  }

  private listening(on: Elements, kind: "click" | "submit", event: EventName, properties?: EventFields): this {
    return this.safely(() =>
      listen(on, kind, event, properties, (name, fields) => {
        void this.track(name, fields);
        void this.flush();
      }),
    );
  }

  /** What listeners hear of a call, in analytics.js's order. */
  private tell(kind: Kind, call: Call): void {
    const { first, second, fields, options } = call;
    if (kind === "page" || kind === "screen") this.emitter.emit(kind, second, first, fields, options);
    else if (kind === "alias") this.emitter.emit(kind, first, second, options);
    else this.emitter.emit(kind, first, fields, options);
  }

  private soon(action: () => unknown, lost?: () => void): this {
    return this.safely(() => {
      if (this.initialized) this.safely(action, lost);
      else if (this.early.length < EARLY_CALLS_MAX) this.early.push(() => this.safely(action, lost));
      else lost?.();
    });
  }

  /** Whether the visitor's identity is read and written. */
  private persists(): boolean {
    return !this.options.disableClientPersistence && !this.options.disable && this.agent === undefined;
  }

  private fail(messageId: string, reason: string): void {
    if (this.talking) console.warn("segment_do", reason);
    this.emitter.emit("error", { messageId, reason });
  }

  private safely(action: () => unknown, otherwise?: () => void): this {
    try {
      action();
    } catch (error) {
      this.fail("", reasonOf(error));
      otherwise?.();
    }
    return this;
  }
}

/** A page call's properties say what its page is, also in the context. */
function factsIn(properties: Fields, page: PageFacts): PageFacts {
  const facts = { ...page };
  for (const name of Object.keys(page) as (keyof PageFacts)[]) {
    const given = properties[name];
    if (typeof given === "string") facts[name] = given;
  }
  return facts;
}

