/**
 * From the queue to the platform: batches, retries, and the last moments of a page.
 *
 * Bodies go as text/plain and carry the write key, so that a first attempt needs no preflight; a retry says how many went
 * before it in `X-Retry-Count`. Requests may outlive the page (`keepalive`), for which browsers allow 64 KB in all. The same
 * events go again with the same messageIds until the platform has taken or refused them; nothing is sent while offline.
 * A redirect is no answer: it could lead to another host, and would turn the request into one without events.
 */

import { reasonOf } from "./emitter.js";
import { EVENT_BYTES_MAX, type Entry, type Queue } from "./queue.js";
import { isRetryable, retryAfterMs, waitMs } from "./retry.js";

/** Events of one request, bytes of JSON. */
export const REQUEST_BYTES_MAX = 60_000;
/** Bodies that may outlive the page at once; browsers refuse a request that goes beyond. */
export const KEEPALIVE_BYTES_MAX = 65_536;
/** An unanswered request is given up after so long, and tried again. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** An event sent so often without an answer for good is let go. With the backoff this takes more than an hour online. */
export const ATTEMPTS_MAX = 100;

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

export class Delivery {
  private busy = false;
  private failures = 0;
  private linger: ReturnType<typeof setTimeout> | undefined;
  private pause: ReturnType<typeof setTimeout> | undefined;
  /** The platform answered that it wants to be left alone; otherwise it was not reached. */
  private wished = false;
  private flushing: ((empty: boolean) => void)[] = [];
  /** Bytes under way that may outlive the page. */
  private bytesAway = 0;
  /** What a request has besides its events, bytes at most. */
  private readonly envelopeBytes: number;

  constructor(
    private readonly queue: Queue,
    private readonly options: DeliveryOptions,
    private readonly told: Told,
  ) {
    this.envelopeBytes = 100 + 3 * options.writeKey.length;
  }

  /** Something was queued. */
  wake(): void {
    if (this.queue.left) this.leave();
    else if (this.queue.ready >= this.options.batchEvents) this.send();
    else if (this.linger === undefined && !this.busy) {
      this.linger = setTimeout(() => {
        this.linger = undefined;
        this.send();
      }, this.options.lingerMs);
    }
  }

  /** Sends now what waits; true when nothing is left, false when something has to wait for the network or the platform. */
  flush(): Promise<boolean> {
    return new Promise((resolve) => {
      this.flushing.push(resolve);
      this.send();
      this.settleFlush();
    });
  }

  /** The network is there again, or events of a page before are. A wait that the platform asked for goes on. */
  online(): void {
    if (!this.wished) {
      clearTimeout(this.pause);
      this.pause = undefined;
      this.failures = 0;
    }
    this.send();
  }

  /** The page may go away: everything leaves now, as far as browsers allow, and stays in the queue until answered. */
  leave(): void {
    if (this.pause !== undefined || !isOnline()) return;
    for (;;) {
      const room = Math.min(REQUEST_BYTES_MAX, KEEPALIVE_BYTES_MAX - this.bytesAway - this.envelopeBytes);
      const batch = room > 0 ? this.queue.take(this.options.delivery === "single" ? 1 : Infinity, room) : [];
      if (batch.length === 0) return;
      void this.attempt(batch, true).then(() => this.settleFlush());
    }
  }

  private send(): void {
    if (this.busy || this.pause !== undefined || !isOnline()) return;
    const old = this.queue.lapsed();
    if (old.length > 0) this.told("delivery_failure", { messageIds: idsOf(old), status: 0, reason: "too old to be sent again" });
    const batch = this.queue.take(this.options.delivery === "single" ? 1 : this.options.batchEvents, REQUEST_BYTES_MAX);
    if (batch.length === 0) return;
    clearTimeout(this.linger);
    this.linger = undefined;
    this.busy = true;
    void this.attempt(batch).then((settled) => {
      this.busy = false;
      if (settled && (this.flushing.length > 0 || this.options.delivery === "single" || batch[0]!.attempts > 1)) {
        this.send();
      } else if (settled && this.queue.ready > 0) {
        this.wake();
      }
      this.settleFlush();
    });
  }

  /** One request and what follows from its answer; true when the platform has answered for good. Never rejects. */
  private async attempt(batch: Entry[], leaving = false): Promise<boolean> {
    const { attempts } = batch[0]!;
    const { status, retryAfter, reason } = await this.post(batch, leaving);
    const what = { messageIds: idsOf(batch), status, reason };
    if (!isRetryable(status)) {
      this.failures = 0;
      this.queue.remove(batch);
      this.told(status < 400 ? "delivery_success" : "delivery_failure", what);
      return true;
    }
    for (const entry of batch) entry.away = false;
    if (attempts >= ATTEMPTS_MAX) {
      this.queue.remove(batch);
      this.told("delivery_failure", what);
    } else {
      this.told("delivery_retry", what);
    }
    this.failures++;
    this.wished = status !== 0;
    const wait = waitMs(this.failures, retryAfterMs(retryAfter, Date.now()), Math.random());
    clearTimeout(this.pause);
    this.pause = setTimeout(() => {
      this.pause = undefined;
      this.send();
    }, wait);
    return false;
  }

  private async post(
    batch: readonly Entry[],
    leaving: boolean,
  ): Promise<{ status: number; retryAfter?: string | null; reason: string }> {
    const { writeKey, apiHost, delivery } = this.options;
    const { attempts, type, json } = batch[0]!;
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes + 1, this.envelopeBytes);
    const single = delivery === "single" && bytes <= EVENT_BYTES_MAX; // there the envelope counts as part of the event
    const envelope = `"writeKey":${JSON.stringify(writeKey)},"sentAt":"${new Date().toISOString()}"}`;
    const url = `${apiHost}/v1/${single ? type[0] : "b"}`;
    const body = single
      ? `${json.slice(0, -1)},${envelope}`
      : `{"batch":[${batch.map((entry) => entry.json).join(",")}],${envelope}`;
    const headers: Record<string, string> = { "Content-Type": "text/plain" };
    if (attempts > 1) headers["X-Retry-Count"] = String(attempts - 1);
    const keepalive = this.bytesAway + bytes <= KEEPALIVE_BYTES_MAX;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), REQUEST_TIMEOUT_MS);
    if (keepalive) this.bytesAway += bytes;
    try {
      if (leaving && !("keepalive" in Request.prototype)) {
        // An older browser cuts requests off with the page; a beacon lives on, but brings no answer: the event stays.
        return { status: 0, reason: navigator.sendBeacon(url, body) ? "a beacon has no answer" : "no beacon was taken" };
      }
      const response = await fetch(url, {
        method: "POST",
        body,
        headers,
        keepalive,
        credentials: "omit",
        redirect: "error",
        signal: limit.signal,
      });
      return {
        status: response.status,
        retryAfter: response.headers.get("Retry-After"),
        reason: `the platform answered ${response.status}`,
      };
    } catch (error) {
      return { status: 0, reason: reasonOf(error) };
    } finally {
      clearTimeout(timer);
      if (keepalive) this.bytesAway -= bytes;
    }
  }

  private settleFlush(): void {
    const empty = this.queue.length === 0;
    if (this.flushing.length === 0 || (!empty && (this.busy || this.queue.ready === 0))) return;
    for (const resolve of this.flushing.splice(0)) resolve(empty);
  }
}

const idsOf = (batch: readonly Entry[]): string[] => batch.map((entry) => entry.id);
const isOnline = (): boolean => navigator.onLine !== false;
