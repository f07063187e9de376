/**
 * The bounded queue of a client, and the loop that empties it: one batch at a time, in order, each to its end.
 *
 * The same events go with the same messageIds on every attempt; only `sentAt` and `X-Retry-Count` differ. Whoever queued
 * an event hears what became of it once, when the platform has answered for good or time is up.
 */

import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import { isRetryable, retryAfterMs, waitMs } from "../retry.js";
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

interface Failure {
  error: AnalyticsError;
  /** Whether the events may have arrived. */
  sent: boolean;
  retryAfter?: number | undefined;
}

/** Events of one request, bytes of JSON; the platform takes 512,000. */
const REQUEST_BYTES_MAX = 475_000;
/** Below this compressing costs more than it saves. */
const GZIP_ABOVE_BYTES = 1_024;

const compress = promisify(gzip);

export class Outbox {
  private waiting: Entry[] = [];
  private bytes = 0;
  private under: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly end = new AbortController();
  /** Cuts off the request that is under way. */
  private limit: AbortController | undefined;
  /** Events not yet settled, those under way included. */
  private unsettled = 0;

  constructor(
    private readonly source: Source,
    private readonly options: OutboxOptions,
  ) {}

  /** Takes all of them or, at the bound, none: then it throws. */
  add(entries: readonly Entry[]): void {
    const bytes = entries.reduce((sum, entry) => sum + Buffer.byteLength(entry.json), 0);
    if (this.end.signal.aborted) throw new AnalyticsError("the client is closed", "client_closed");
    if (this.unsettled + entries.length > this.options.maxQueue || this.bytes + bytes > this.options.maxQueueBytes) {
      throw new AnalyticsError("the queue is full; the event was not taken", "busy", true);
    }
    this.unsettled += entries.length;
    this.bytes += bytes;
    for (const entry of entries) this.waiting.push(entry);
    if (this.waiting.length >= this.options.flushAt) this.go();
    else this.timer ??= setTimeout(() => this.go(), this.options.flushInterval);
  }

  /** Resolves when all that is queued now is settled. */
  async flush(): Promise<void> {
    this.go();
    await this.under;
  }

  /** Delivers what is queued for at most so long; what is left then fails, a request under way included. */
  async close(timeoutMs: number): Promise<void> {
    const limit = setTimeout(() => {
      this.end.abort();
      this.limit?.abort();
    }, timeoutMs);
    await this.flush();
    clearTimeout(limit);
    this.end.abort();
  }

  private go(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting.length > 0) this.under ??= this.empty();
  }

  private async empty(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.take();
      const error = await this.deliver(batch);
      for (const entry of batch) {
        this.unsettled--;
        this.bytes -= Buffer.byteLength(entry.json);
        entry.settle(error);
      }
    }
    this.under = undefined; // in the same moment as the look above: what comes now starts anew
  }

  private take(): Entry[] {
    let count = 0;
    for (let bytes = 0; count < Math.min(this.waiting.length, this.options.flushAt); count++) {
      bytes += Buffer.byteLength(this.waiting[count]!.json) + 1;
      if (count > 0 && bytes > REQUEST_BYTES_MAX) break;
    }
    return this.waiting.splice(0, count);
  }

  /** undefined when the platform has stored the batch. Never rejects. */
  private async deliver(batch: readonly Entry[]): Promise<AnalyticsError | undefined> {
    const started = performance.now();
    let sent = 0;
    let renewed = false;
    for (let failures = 1; ; failures++) {
      if (this.end.signal.aborted) return new AnalyticsError("the client was closed first", "not_delivered", true);
      const result = await this.attempt(batch, sent);
      if (result === undefined) return undefined;
      if (result.sent) sent++;
      if (result.error.code === "unauthorized" && !renewed && this.source.forget()) {
        renewed = true; // the key was rotated, or the platform is another one now: look again, once
        continue;
      }
      if (!result.error.retryable) return result.error;
      const wait = waitMs(failures, result.retryAfter, Math.random());
      if (performance.now() - started + wait > this.options.retrySeconds * 1000) {
        return new AnalyticsError(`not taken within ${this.options.retrySeconds} s: ${result.error.message}`, "retries_exhausted", true);
      }
      await pause(wait, undefined, { signal: this.end.signal }).catch(() => undefined);
    }
  }

  private async attempt(batch: readonly Entry[], retries: number): Promise<Failure | undefined> {
    const limit = (this.limit = new AbortController());
    const timer = setTimeout(() => limit.abort(), this.options.timeoutSeconds * 1000);
    const failure = await this.request(batch, retries, limit.signal);
    clearTimeout(timer);
    return failure;
  }

  private async request(batch: readonly Entry[], retries: number, signal: AbortSignal): Promise<Failure | undefined> {
    let endpoint: Awaited<ReturnType<Source["endpoint"]>>;
    try {
      endpoint = await this.source.endpoint(signal);
    } catch (error) {
      const known = error instanceof AnalyticsError;
      return { error: known ? error : new AnalyticsError(String(error), "settings"), sent: false };
    }
    const text = `{"batch":[${batch.map((entry) => entry.json).join(",")}],"sentAt":"${new Date().toISOString()}"}`;
    const headers: Record<string, string> = {
      Authorization: "Basic " + Buffer.from(`${endpoint.writeKey}:`).toString("base64"),
      "Content-Type": "application/json",
    };
    if (retries > 0) headers["X-Retry-Count"] = String(retries);
    let body: string | Uint8Array<ArrayBuffer> = text;
    if (this.options.gzip && text.length > GZIP_ABOVE_BYTES) {
      body = new Uint8Array(await compress(text, { level: 1 }));
      headers["Content-Encoding"] = "gzip";
    }
    try {
      const response = await fetch(`${endpoint.url}/v1/batch`, { method: "POST", headers, body, redirect: "error", signal });
      await response.arrayBuffer(); // read to its end, so that the connection serves again
      if (response.ok) return undefined;
      const again = isRetryable(response.status);
      const refused = response.status === 401 || response.status === 403;
      const error = new AnalyticsError(
        `the platform answered ${response.status}`,
        refused ? "unauthorized" : again ? "unavailable" : "invalid_request",
        again,
      );
      return { error, sent: true, retryAfter: retryAfterMs(response.headers.get("retry-after"), Date.now()) };
    } catch (error) {
      this.source.forget(); // a platform that was restarted may have another address
      const reason = (error as { cause?: { code?: string } }).cause?.code ?? String(error);
      return { error: new AnalyticsError(`the platform cannot be reached (${reason})`, "unavailable", true), sent: true };
    }
  }
}
