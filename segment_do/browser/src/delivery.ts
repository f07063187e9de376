/**
 * From the queue to the platform: batches, retries, and the last moments of a page.
 *
 * Bodies go as text/plain and carry the write key, so that a first attempt needs no preflight; a retry says how many went
 * before it in `X-Retry-Count`. Every request may outlive the page (`keepalive`), for which browsers allow 64 KB. The same
 * events go again with the same messageIds until the platform has taken or refused them; nothing is sent while offline.
 */

import type { Entry, Queue } from "./queue.js";
import { isRetryable, retryAfterMs, waitMs } from "./retry.js";

/** Events of one request, bytes of JSON; with the envelope it stays below the browsers' 64 KB. */
export const REQUEST_BYTES_MAX = 60_000;
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
  private flushing: ((empty: boolean) => void)[] = [];
  private bytesAway = 0;

  constructor(
    private readonly queue: Queue,
    private readonly options: DeliveryOptions,
    private readonly told: Told,
    private readonly random: () => number = Math.random,
  ) {}

  /** Something was queued. */
  wake(): void {
    if (this.queue.ready >= this.options.batchEvents) this.send();
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

  /** The network is there again, or events of a page before are. */
  online(): void {
    this.unpause();
    this.send();
  }

  /** The page may go away: everything leaves now, as far as browsers allow, and stays in the queue until answered. */
  leave(): void {
    if (this.pause !== undefined || !isOnline()) return;
    for (;;) {
      const room = REQUEST_BYTES_MAX - this.bytesAway;
      const batch = room > 0 ? this.queue.take(this.options.delivery === "single" ? 1 : Infinity, room) : [];
      if (batch.length === 0) return;
      void this.attempt(batch).then(() => this.settleFlush());
    }
  }

  private send(): void {
    if (this.busy || this.pause !== undefined || !isOnline()) return;
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
  private async attempt(batch: Entry[]): Promise<boolean> {
    const retries = batch[0]!.attempts;
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of batch) entry.attempts++;
    this.bytesAway += bytes;
    const { status, retryAfter, reason } = await this.post(batch, retries);
    this.bytesAway -= bytes;
    const what = { messageIds: batch.map((entry) => entry.id), status, reason };
    if (!isRetryable(status)) {
      this.failures = 0;
      this.queue.remove(batch);
      this.told(status < 400 ? "delivery_success" : "delivery_failure", what);
      return true;
    }
    for (const entry of batch) entry.away = false;
    if (retries + 1 >= ATTEMPTS_MAX) {
      this.queue.remove(batch);
      this.told("delivery_failure", what);
    } else {
      this.told("delivery_retry", what);
    }
    this.failures++;
    const wait = waitMs(this.failures, retryAfterMs(retryAfter, Date.now()), this.random());
    clearTimeout(this.pause);
    this.pause = setTimeout(() => {
      this.pause = undefined;
      this.send();
    }, wait);
    return false;
  }

  private async post(
    batch: readonly Entry[],
    retries: number,
  ): Promise<{ status: number; retryAfter?: string | null; reason: string }> {
    const { writeKey, apiHost, delivery } = this.options;
    const envelope = `"writeKey":${JSON.stringify(writeKey)},"sentAt":"${new Date().toISOString()}"}`;
    const single = delivery === "single";
    const path = single ? batch[0]!.type[0]! : "b";
    const body = single
      ? `${batch[0]!.json.slice(0, -1)},${envelope}`
      : `{"batch":[${batch.map((entry) => entry.json).join(",")}],${envelope}`;
    const headers: Record<string, string> = { "Content-Type": "text/plain" };
    if (retries > 0) headers["X-Retry-Count"] = String(retries);
    const url = `${apiHost}/v1/${path}`;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), REQUEST_TIMEOUT_MS);
    try {
      if (!("keepalive" in Request.prototype) && document.visibilityState === "hidden") {
        // An older browser cuts requests off with the page; a beacon lives on, but brings no answer: the event stays.
        navigator.sendBeacon(url, body);
        return { status: 0, reason: "beacon" };
      }
      const response = await fetch(url, {
        method: "POST",
        body,
        headers,
        keepalive: true,
        credentials: "omit",
        signal: limit.signal,
      });
      return {
        status: response.status,
        retryAfter: response.headers.get("Retry-After"),
        reason: `the platform answered ${response.status}`,
      };
    } catch (error) {
      return { status: 0, reason: String(error) };
    } finally {
      clearTimeout(timer);
    }
  }

  private settleFlush(): void {
    const empty = this.queue.length === 0;
    if (this.flushing.length === 0 || (!empty && (this.busy || this.queue.ready === 0))) return;
    for (const resolve of this.flushing.splice(0)) resolve(empty);
  }

  private unpause(): void {
    clearTimeout(this.pause);
    this.pause = undefined;
    this.failures = 0;
  }
}

const isOnline = (): boolean => navigator.onLine !== false;
