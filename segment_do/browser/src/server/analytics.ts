/**
 * `Analytics` for Node.js: a call queues its event and returns a promise that resolves when the platform has stored it.
 *
 * A call never throws and never waits. A promise that nobody looks at may fail without ending the process; `onError`
 * hears of every failure. While events are queued the process stays alive; `closeAndFlush` bounds that.
 */

import { agentId, type Agent } from "../agent.js";
import type { CallOptions, Fields, Id, Kind } from "../message.js";
import { AnalyticsError } from "./errors.js";
import { eventJson, fieldsOf } from "./event.js";
import { middleware, type Handler, type MiddlewareOptions } from "./express.js";
import { Outbox, type Entry, type OutboxOptions } from "./outbox.js";
import { AgentSource, FixedSource, type Source } from "./source.js";

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
export type Stored = Promise<{ messageId: string }>;

/** analytics-node's spelling: one object with the wire's fields. */
type Whole = Fields;

/** Clients of agents that are kept; of more, the one not asked for longest is forgotten and made anew when asked for again. */
const AGENTS_MAX = 1_024;
const agents = new Map<string, Analytics>();

export class Analytics {
  private readonly outbox: Outbox;
  private readonly onError: BehaviourOptions["onError"];
  private agent: string | undefined;
  private identified: string | undefined;
  private closed = false;

  constructor(options: ServerOptions);
  constructor(options: BehaviourOptions, source: Source, agent: string);
  constructor(options: BehaviourOptions & Partial<ServerOptions>, source?: Source, agent?: string) {
    this.outbox = new Outbox(source ?? new FixedSource(options.writeKey ?? "", options.host), outboxOptions(options));
    this.onError = options.onError;
    this.agent = agent;
  }

  /**
   * The client of an agent (text, or an object with an id or a name), whose source is made at the first event. It speaks
   * for the agent: an event that names nobody has userId = the agent, or, after `identify(user)`, that user, until
   * `reset()`. The same agent at the same platform gives the same client. Throws when the agent has neither id nor name.
   */
  static for(agent: Agent, options: AgentOptions = {}): Analytics {
    const id = agentId(agent);
    if (id === undefined) throw new AnalyticsError("an agent needs an id or a name", "invalid_request");
    const key = JSON.stringify([id, options.host ?? process.env["SEGMENT_DO_URL"], options.token]);
    let client = agents.get(key);
    if (client === undefined || client.closed) {
      client = new Analytics(options, new AgentSource(id, options.host, options.token), id);
    }
    agents.delete(key); // to the end: the first is the one that was not asked for longest
    agents.set(key, client);
    if (agents.size > AGENTS_MAX) agents.delete(agents.keys().next().value!);
    return client;
  }

  /** `track("Order Completed", {revenue: 42}, {userId: "u1"})`, or `track({userId, event, properties})`. */
  track(event: string | Whole, properties?: Fields, options?: CallOptions): Stored {
    return this.send("track", event, properties, options);
  }

  /** `identify("u1", {plan: "pro"})`, or `identify({userId, traits})`. */
  identify(userId: Id | Whole, traits?: Fields, options?: CallOptions): Stored {
    const stored = this.send("identify", userId, traits, options);
    if (this.agent !== undefined) {
      const user = typeof userId === "object" ? userId["userId"] : userId;
      if (user !== undefined && user !== null && user !== "") this.identified = String(user);
    }
    return stored;
  }

  page(name?: string | Whole, properties?: Fields, options?: CallOptions): Stored {
    return this.send("page", name, properties, options);
  }

  screen(name?: string | Whole, properties?: Fields, options?: CallOptions): Stored {
    return this.send("screen", name, properties, options);
  }

  group(groupId: Id | Whole, traits?: Fields, options?: CallOptions): Stored {
    return this.send("group", groupId, traits, options);
  }

  /** `alias("new", "old")`: the new id comes first. */
  alias(userId: Id | Whole, previousId?: Id, options?: CallOptions): Stored {
    return this.send("alias", userId, previousId, options);
  }

  /** Many events, spelled as on the wire; queued all or none. Resolves when all are stored. */
  batch(events: readonly Fields[]): Promise<{ messageIds: string[] }> {
    return quiet(
      (async () => {
        const stored: Stored[] = [];
        this.queue(events, stored);
        return { messageIds: (await Promise.all(stored)).map((one) => one.messageId) };
      })(),
    );
  }

  /** An agent's client speaks for the agent itself again. */
  reset(): void {
    this.identified = undefined;
  }

  /** Send what is queued; resolves when all of it is settled. Never rejects: each call's own promise tells. */
  flush(): Promise<void> {
    return this.outbox.flush();
  }

  /** Take no more events, deliver what is queued for at most `timeout` milliseconds (default 5000), and stop. */
  closeAndFlush({ timeout = 5_000 }: { timeout?: number } = {}): Promise<void> {
    this.closed = true;
    return this.outbox.close(timeout);
  }

  /** Express (and Connect) middleware that tracks each request once its response is done; see MiddlewareOptions. */
  middleware(options: MiddlewareOptions = {}): Handler {
    return middleware(this, this.agent !== undefined, options);
  }

  private send(kind: Kind, first: unknown, second: unknown, options: unknown): Stored {
    const stored: Stored[] = [];
    try {
      this.queue([fieldsOf(kind, first, second, options)], stored);
    } catch (error) {
      return quiet(Promise.reject(error as Error));
    }
    return stored[0]!;
  }

  /** All of them or, when one is invalid or there is no room, none: then it throws. */
  private queue(events: readonly Fields[], stored: Stored[]): void {
    try {
      if (this.closed) throw new AnalyticsError("the client is closed", "client_closed");
      const entries = events.map((fields): Entry => {
        const { json, id } = eventJson(fields, this.identified ?? this.agent, Date.now());
        const entry: Entry = { json, id, settle: () => undefined };
        const promise: Stored = new Promise((resolve, reject) => {
          entry.settle = (error) => {
            if (!error) return resolve({ messageId: id });
            this.failed(error, [id]);
            reject(error);
          };
        });
        stored.push(quiet(promise));
        return entry;
      });
      this.outbox.add(entries);
    } catch (error) {
      this.failed(error as AnalyticsError, []);
      throw error;
    }
  }

  private failed(error: AnalyticsError, messageIds: string[]): void {
    try {
      this.onError?.(error, messageIds);
    } catch {
      // the program's own handler
    }
  }
}

/** A rejection that nobody handles ends a Node.js process; an event that was not stored must not. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

function outboxOptions(options: BehaviourOptions): OutboxOptions {
  return {
    flushAt: Math.min(2_500, Math.max(1, options.flushAt ?? 15)),
    flushInterval: options.flushInterval ?? 1_000,
    maxQueue: options.maxQueue ?? 10_000,
    maxQueueBytes: options.maxQueueBytes ?? 32 * 2 ** 20,
    retrySeconds: options.retrySeconds ?? 1_800,
    timeoutSeconds: options.timeoutSeconds ?? 10,
    gzip: options.gzip ?? true,
  };
}
