/**
 * Events that are not acknowledged yet, in order, in memory and in localStorage.
 *
 * An event leaves only when the platform has answered for it, or at one of the bounds below. What a page leaves behind is
 * taken over by the next page of the same origin; it may then be sent twice, under the same messageId, which the platform
 * counts once. Where storage is blocked or full, the events live as long as the page.
 */

import { isObject } from "./context.js";
import { uuid } from "./ids.js";
import type { Kind, Message } from "./message.js";
import { readLocal, writeLocal } from "./store.js";

/** At these bounds a new event is not taken; those that wait are older and may be under way. */
export const QUEUE_EVENTS_MAX = 500;
export const QUEUE_BYTES_MAX = 512 * 1024;
/** The largest event that the platform takes, bytes of its JSON. */
export const EVENT_BYTES_MAX = 32_768;
/**
 * An event that was sent, and whose answer nobody heard, is let go when it is older: well within the platform's seven days
 * of counting once. One that never was sent may be of any age.
 */
export const EVENT_AGE_MAX_MS = 3 * 24 * 3600 * 1000;
/** A page that has not written for so long and did not say goodbye is taken for dead. */
export const LEASE_MS = 5 * 60 * 1000;
/** So a living page writes this often; browsers let pages in the background have a timer a minute. */
export const RENEW_MS = LEASE_MS / 5;

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
  /** The page has said goodbye. */
  left = false;
  private saving = false;
  /** Whether storage holds what memory does. */
  private saved = false;
  /** Pages before left more than there was room for. */
  private more = false;

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
    for (const entry of taken) {
      entry.away = true;
      entry.attempts++;
    }
    if (taken.length > 0) this.changed();
    return taken;
  }

  /** Lets go of what is too old to be sent again, and gives it. */
  lapsed(): Entry[] {
    const latest = this.nowMs() - EVENT_AGE_MAX_MS;
    const old = this.entries.filter((entry) => entry.attempts > 0 && !entry.away && entry.bornMs < latest);
    if (old.length > 0) this.remove(old);
    return old;
  }

  /** The platform has answered for these. */
  remove(settled: readonly Entry[]): void {
    const gone = new Set(settled);
    this.keep((entry) => !gone.has(entry));
    this.changed();
    if (this.more && this.entries.length === 0) this.adopt();
  }

  /** Takes over what pages before left, as far as there is room. */
  adopt(): void {
    if (!this.persist) return;
    this.more = false;
    for (const key of this.storedKeys()) {
      if (key === this.key) continue;
      if (!this.hasRoom) {
        this.more = true; // whoever it is of: looked at when this queue is empty
        break;
      }
      const stored = readQueue(key);
      if (stored && this.nowMs() - stored.at < LEASE_MS && stored.at <= this.nowMs()) continue;
      const rest = this.restore(stored?.events ?? []);
      if (rest.length > 0) this.more = true;
      writeLocal(key, rest.length > 0 ? JSON.stringify({ at: 0, events: rest }) : null);
    }
    this.save();
  }

  /** The page lives, and has something to send. */
  renew(): void {
    if (this.entries.length > 0) this.save();
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
    if (this.persist && this.saved) {
      const ours = new Set(readQueue(this.key)?.events.map(([, , message]) => message.messageId));
      this.keep((entry) => ours.has(entry.id));
    }
    this.save();
  }

  /** Whether what was stored is of a page that has said goodbye, and ours to take over. */
  isLeft(key: string | null, value: string | null): boolean {
    return !!key?.startsWith(this.prefix) && key !== this.key && !!value?.startsWith(GOODBYE);
  }

  private keep(wanted: (entry: Entry) => boolean): void {
    this.entries = this.entries.filter(wanted);
    this.bytes = this.entries.reduce((sum, entry) => sum + entry.bytes, 0);
  }

  /** For any event at all. */
  private get hasRoom(): boolean {
    return this.entries.length < QUEUE_EVENTS_MAX && this.bytes + EVENT_BYTES_MAX <= QUEUE_BYTES_MAX;
  }

  private fits(entry: Entry): boolean {
    return this.entries.length < QUEUE_EVENTS_MAX && this.bytes + entry.bytes <= QUEUE_BYTES_MAX;
  }

  /** Puts older events in front; gives back those for which there is no room. */
  private restore(events: readonly Stored[]): Stored[] {
    const known = new Set(this.entries.map((entry) => entry.id));
    const older: Entry[] = [];
    const rest: Stored[] = [];
    for (const stored of events) {
      const [attempts, bornMs, message] = stored;
      const entry = entryOf(message, attempts, bornMs);
      if (known.has(entry.id)) continue;
      if (older.length + this.entries.length >= QUEUE_EVENTS_MAX || !this.fits(entry)) {
        rest.push(stored);
        continue;
      }
      older.push(entry);
      this.bytes += entry.bytes;
    }
    this.entries.unshift(...older);
    return rest;
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
    const events = this.entries.map((entry) => `[${entry.attempts},${entry.bornMs},${entry.json}]`);
    const at = this.left ? GOODBYE : `{"at":${this.nowMs()},`;
    this.saved = writeLocal(this.key, events.length ? `${at}"events":[${events.join(",")}]}` : null);
  }

  private storedKeys(): string[] {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
    } catch {
      return [];
    }
  }
}

/** How often it was sent, when it was made, and the event. */
type Stored = [attempts: number, bornMs: number, message: Message];

/** How the queue of a page that is gone begins. */
const GOODBYE = '{"at":0,';

function entryOf(message: Message, attempts: number, bornMs: number): Entry {
  const json = JSON.stringify(message);
  const bytes = new TextEncoder().encode(json).length;
  return { id: message.messageId, type: message.type, json, bytes, bornMs, attempts, away: false };
}

/** null where it is cut off, or another program's. */
function readQueue(key: string): { at: number; events: Stored[] } | null {
  try {
    const { at, events } = JSON.parse(readLocal(key)!) as { at: number; events: Stored[] };
    return { at, events: events.filter(isStored) };
  } catch {
    return null;
  }
}

function isStored(given: unknown): boolean {
  const [attempts, bornMs, message] = Array.isArray(given) ? (given as unknown[]) : [];
  const isEvent = isObject(message) && typeof message["messageId"] === "string" && typeof message["type"] === "string";
  return typeof attempts === "number" && typeof bornMs === "number" && isEvent;
}
