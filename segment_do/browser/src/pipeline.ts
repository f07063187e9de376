/**
 * What happens to an event between the call and the queue: source middleware, consent, destination middleware.
 *
 * Without middleware or asynchronous consent an event is in the queue before the call returns. Where a step has to wait,
 * later events wait behind it, so the order stays. A middleware that does not call `next`, throws, or never ends takes the
 * event out of the stream: what it would have removed is never sent.
 */

import { isObject } from "./context.js";
import { reasonOf } from "./emitter.js";
import type { Fields, Message } from "./message.js";

/** Events waiting for a step; at the bound new ones are not taken. */
export const PIPELINE_EVENTS_MAX = 500;

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

type Step = (message: Message) => Message | null | PromiseLike<Message | null>;

/** The one destination that a browser sends to by itself. */
const DESTINATION = "Segment.io";

export class Pipeline {
  private readonly source: Step[] = [];
  private readonly destination: Step[] = [];
  private tail: Promise<unknown> | undefined;
  private waiting = 0;

  constructor(
    private readonly out: (message: Message) => void,
    private readonly failed: (message: Message, reason: string) => void,
  ) {}

  consent: Consent | undefined;

  addSource(middleware: Middleware): void {
    this.source.push(stepOf(middleware));
  }

  /** Only those for "Segment.io" ever run: there are no destinations inside the page. */
  addDestination(name: string, middlewares: Middleware[]): void {
    if (name === DESTINATION) {
      for (const middleware of middlewares) this.destination.push(stepOf(middleware, name));
    }
  }

  /** The event itself where nothing can happen to it; else a copy, so that no step changes what the caller goes on using. */
  own(message: Message): Message {
    return this.source.length || this.destination.length || this.consent ? copied(message) : message;
  }

  /** Resolves when the event is in the queue, or taken out of the stream; undefined when that is so already. */
  run(message: Message): Promise<unknown> | undefined {
    if (this.tail) {
      if (this.waiting >= PIPELINE_EVENTS_MAX) {
        this.failed(message, "too many events wait for middleware or consent");
        return undefined;
      }
      return this.wait(this.tail.then(() => this.through(message)));
    }
    const going = this.through(message);
    return going && this.wait(going);
  }

  private wait(going: Promise<unknown>): Promise<unknown> {
    this.waiting++;
    const mine: Promise<unknown> = going.then(() => {
      this.waiting--;
      if (this.tail === mine) this.tail = undefined;
    });
    this.tail = mine;
    return mine;
  }

  /** Runs the steps; a promise only where one of them is asynchronous. Never rejects. */
  private through(message: Message): Promise<unknown> | undefined {
    const steps = [...this.source, (given: Message) => this.stamped(given), ...this.destination];
    const from = (given: Message | null, index: number): Promise<unknown> | undefined => {
      try {
        for (let at = index; given && at < steps.length; at++) {
          const result: ReturnType<Step> = steps[at]!(given);
          if (isThenable(result)) {
            return Promise.resolve(result).then(
              (later) => from(later, at + 1),
              (error: unknown) => this.failed(message, reasonOf(error)),
            );
          }
          given = result;
        }
        if (given) this.out(given);
      } catch (error) {
        this.failed(message, reasonOf(error));
      }
      return undefined;
    };
    return from(message, 0);
  }

  /** Consent that cannot be asked is consent to nothing: no category is allowed. */
  private stamped(message: Message): Message | Promise<Message> {
    if (!this.consent) return message;
    const stamp = (answer: unknown): Message => {
      const given = message.context["consent"];
      const consent = { ...(isObject(given) ? given : {}), categoryPreferences: isObject(answer) ? answer : {} };
      return { ...message, context: { ...message.context, consent } };
    };
    try {
      const asked: unknown = this.consent.categories();
      return isThenable(asked) ? Promise.resolve(asked).then(stamp, () => stamp({})) : stamp(asked);
    } catch {
      return stamp({});
    }
  }
}

function stepOf(middleware: Middleware, integration?: string): Step {
  return (message) => {
    let passed: Message | null = null;
    const next = (payload?: Payload | null): void => {
      passed = payload === undefined ? message : (payload?.obj ?? null);
    };
    const result = middleware({ payload: { obj: message }, next, integrations: message.integrations, integration });
    if (isThenable(result)) return Promise.resolve(result).then(() => passed);
    return passed;
  };
}

const isThenable = <T>(value: T | PromiseLike<T>): value is PromiseLike<T> =>
  typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";

/** Plain objects and arrays anew, all else as it is: as far as JSON would look. */
function copied<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copied) as T;
  const isPlain = isObject(value) && Object.prototype.toString.call(value) === "[object Object]" && typeof value["toJSON"] !== "function";
  if (!isPlain) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, copied(each)])) as T;
}
