/**
 * Events that are not acknowledged yet, in order, in memory and in localStorage.
 *
 * An event leaves only when the platform has answered for it, or at one of the bounds below. What a page leaves behind is
 * taken over by the next page of the same origin; it may then be sent twice, under the same messageId, which the platform
 * counts once. Where storage is blocked or full, the events live as long as the page.
 */
import type { Kind, Message } from "./message.js";
/** At these bounds a new event is not taken; those that wait are older and may be under way. */
export declare const QUEUE_EVENTS_MAX = 500;
export declare const QUEUE_BYTES_MAX: number;
/** The largest event that the platform takes, bytes of its JSON. */
export declare const EVENT_BYTES_MAX = 32768;
/**
 * An event that was sent, and whose answer nobody heard, is let go when it is older: well within the platform's seven days
 * of counting once. One that never was sent may be of any age.
 */
export declare const EVENT_AGE_MAX_MS: number;
/** A page that has not written for so long and did not say goodbye is taken for dead. */
export declare const LEASE_MS: number;
/** So a living page writes this often; browsers let pages in the background have a timer a minute. */
export declare const RENEW_MS: number;
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
export declare class Queue {
    private readonly persist;
    private readonly nowMs;
    private entries;
    private bytes;
    private readonly prefix;
    private readonly key;
    /** The page has said goodbye. */
    left: boolean;
    private saving;
    /** Whether storage holds what memory does. */
    private saved;
    /** Pages before left more than there was room for. */
    private more;
    constructor(writeKey: string, persist: boolean, nowMs: () => number);
    get length(): number;
    /** How many are not under way. */
    get ready(): number;
    /** Takes an event, or says why not. */
    add(message: Message): string | undefined;
    /** The first events that are not under way and were sent equally often, so that one count is true for all. */
    take(eventsMax: number, bytesMax: number): Entry[];
    /** Lets go of what is too old to be sent again, and gives it. */
    lapsed(): Entry[];
    /** The platform has answered for these. */
    remove(settled: readonly Entry[]): void;
    /** Takes over what pages before left, as far as there is room. */
    adopt(): void;
    /** The page lives, and has something to send. */
    renew(): void;
    /** The page goes away: whoever comes next may take what is left. */
    leave(): void;
    /** The page came back from the browser's cache; what it had may be another page's now. */
    comeBack(): void;
    /** Whether what was stored is of a page that has said goodbye, and ours to take over. */
    isLeft(key: string | null, value: string | null): boolean;
    private keep;
    /** For any event at all. */
    private get hasRoom();
    private fits;
    /** Puts older events in front; gives back those for which there is no room. */
    private restore;
    /** Written once a task, right after the code that runs now: a burst of calls costs one write. */
    private changed;
    private save;
    private storedKeys;
}
