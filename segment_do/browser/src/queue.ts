/**
 * Events that are not acknowledged yet, in order, in memory and in localStorage.
 *
 * An event leaves only when the platform has answered for it, or at one of the bounds below. What a page leaves behind is
 * taken over by the next page of the same origin; it may then be sent twice, under the same messageId, which the platform
 * counts once. Where storage is blocked or full, the events live as long as the page.
 */

import { uuid } from "./ids.js";
import type { Kind, Message } from "./message.js";
import { readLocal, writeLocal } from "./store.js";

/** At these bounds a new event is not taken; those that wait are older and may be under way. */
export const QUEUE_EVENTS_MAX = 500;
export const QUEUE_BYTES_MAX = 512 * 1024;
/** The largest event that the platform takes, bytes of its JSON. */
export const EVENT_BYTES_MAX = 32_768;
/** Older events are let go: well within the platform's seven days of counting once. */
export const EVENT_AGE_MAX_MS = 3 * 24 * 3600 * 1000;
/** A page that has not written for so long and did not say goodbye is taken for dead. */
export const LEASE_MS = 5 * 60 * 1000;

export interface Entry {
  readonly id: string;
  readonly type: Kind;
  readonly json: string;
  readonly bytes: number;
  readonly bornMs: number;
  /** Times that it was sent. */
  attempts: number;
  /** Under way now. */
  away: boolean;
}

export class Queue {
  private entries: Entry[] = [];
  private bytes = 0;
  private readonly prefix: string;
  private readonly key: string;
  private left = false;
  private saving = false;

  constructor(
    writeKey: string,
    private readonly persist: boolean,
    private readonly nowMs: () => number,
  ) {
    this.prefix = `sdo_queue.${writeKey}.`;
    this.key = this.prefix + uuid();
  }

  get length(): number {
    return this.entries.length;
  }

  /** How many are not under way. */
  get ready(): number {
    return this.entries.reduce((count, entry) => count + (entry.away ? 0 : 1), 0);
  }

  /** Takes an event, or says why not. */
  add(message: Message): string | undefined {
    const entry = entryOf(message, 0, this.nowMs());
    if (entry.bytes > EVENT_BYTES_MAX) return `the event has ${entry.bytes} bytes; ${EVENT_BYTES_MAX} are allowed`;
    if (!this.fits(entry)) return "the queue is full";
    this.entries.push(entry);
    this.bytes += entry.bytes;
    this.changed();
    return undefined;
  }

  /** The first events that are not under way and were sent equally often, so that one count is true for all. */
  take(eventsMax: number, bytesMax: number): Entry[] {
    const taken: Entry[] = [];
    let room = bytesMax;
    for (const entry of this.entries) {
      if (entry.away) continue;
      room -= entry.bytes + 1;
      if (taken.length >= eventsMax || room < 0 || entry.attempts !== (taken[0] ?? entry).attempts) break;
      taken.push(entry);
    }
    for (const entry of taken) entry.away = true;
    return taken;
  }

  /** The platform has answered for these. */
  remove(settled: readonly Entry[]): void {
    const gone = new Set(settled);
    this.entries = this.entries.filter((entry) => !gone.has(entry));
    this.bytes = this.entries.reduce((sum, entry) => sum + entry.bytes, 0);
    this.changed();
  }

  /** Takes over what pages before left. */
  adopt(): void {
    if (!this.persist) return;
    for (const key of this.storedKeys()) {
      if (key === this.key) continue;
      const stored = readQueue(key);
      if (stored && this.nowMs() - stored.at < LEASE_MS && stored.at <= this.nowMs()) continue;
      writeLocal(key, null);
      if (stored) this.restore(stored.events);
    }
    this.save();
  }

  /** The page goes away: whoever comes next may take what is left. */
  leave(): void {
    this.left = true;
    this.save();
  }

  /** The page came back from the browser's cache; what it had may be another page's now. */
  comeBack(): void {
    if (!this.left) return;
    this.left = false;
    if (!this.persist) return;
    const stored = readQueue(this.key);
    this.entries = [];
    this.bytes = 0;
    this.restore(stored?.events ?? []);
    this.save();
  }

  /** Whether a storage key is of a queue that this one could take over. */
  isKin(key: string | null): boolean {
    return key !== null && key.startsWith(this.prefix) && key !== this.key;
  }

  private fits(entry: Entry): boolean {
    return this.entries.length < QUEUE_EVENTS_MAX && this.bytes + entry.bytes <= QUEUE_BYTES_MAX;
  }

  private restore(events: readonly [number, Message][]): void {
    const older: Entry[] = [];
    for (const [attempts, message] of events) {
      const entry = entryOf(message, attempts, this.nowMs());
      if (this.nowMs() - entry.bornMs > EVENT_AGE_MAX_MS || !this.fits(entry)) continue;
      if (this.entries.some((other) => other.id === entry.id)) continue;
      older.push(entry);
      this.bytes += entry.bytes;
    }
    this.entries.unshift(...older);
  }

  /** Written once a task, right after the code that runs now: a burst of calls costs one write. */
  private changed(): void {
    if (this.saving) return;
    this.saving = true;
    void Promise.resolve().then(() => this.save());
  }

  private save(): void {
    this.saving = false;
    if (!this.persist) return;
    const events = this.entries.map((entry) => `[${entry.attempts},${entry.json}]`);
    const at = this.left ? 0 : this.nowMs();
    writeLocal(this.key, events.length ? `{"at":${at},"events":[${events.join(",")}]}` : null);
  }

  private storedKeys(): string[] {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
    } catch {
      return [];
    }
  }
}

function entryOf(message: Message, attempts: number, nowMs: number): Entry {
  const json = JSON.stringify(message);
  const born = new Date(message.timestamp).getTime();
  return {
    id: message.messageId,
    type: message.type,
    json,
    bytes: new TextEncoder().encode(json).length,
    bornMs: attempts === 0 || Number.isNaN(born) ? nowMs : born,
    attempts,
    away: false,
  };
}

function readQueue(key: string): { at: number; events: [number, Message][] } | null {
  try {
    const found = JSON.parse(readLocal(key) ?? "null") as { at: number; events: [number, Message][] } | null;
    return found && Array.isArray(found.events) ? found : null;
  } catch {
    return null; // cut off, or another program's
  }
}
