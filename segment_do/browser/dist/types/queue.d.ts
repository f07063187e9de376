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
/** Older events are let go: well within the platform's seven days of counting once. */
export declare const EVENT_AGE_MAX_MS: number;
/** A page that has not written for so long and did not say goodbye is taken for dead. */
export declare const LEASE_MS: number;
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
    private left;
    private saving;
    constructor(writeKey: string, persist: boolean, nowMs: () => number);
    get length(): number;
    /** How many are not under way. */
    get ready(): number;
    /** Takes an event, or says why not. */
    add(message: Message): string | undefined;
    /** The first events that are not under way and were sent equally often, so that one count is true for all. */
    take(eventsMax: number, bytesMax: number): Entry[];
    /** The platform has answered for these. */
    remove(settled: readonly Entry[]): void;
    /** Takes over what pages before left. */
    adopt(): void;
    /** The page goes away: whoever comes next may take what is left. */
    leave(): void;
    /** The page came back from the browser's cache; what it had may be another page's now. */
    comeBack(): void;
    /** Whether a storage key is of a queue that this one could take over. */
    isKin(key: string | null): boolean;
    private fits;
    private restore;
    /** Written once a task, right after the code that runs now: a burst of calls costs one write. */
    private changed;
    private save;
    private storedKeys;
}
