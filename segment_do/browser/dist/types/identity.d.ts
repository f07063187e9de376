/**
 * Who the visitor is, and which group they belong to, as analytics.js keeps it.
 *
 * A new user id after another one takes away the traits and the anonymous id: they were somebody else's. Every read looks
 * into the store, so tabs and servers that changed it are heard.
 */
import type { Fields } from "./message.js";
import type { Store } from "./store.js";
/** A group, and what a user has in common with one. */
export declare class Group {
    protected readonly store: Store;
    private readonly idKey;
    private readonly traitsKey;
    constructor(store: Store, idKey?: string, traitsKey?: string);
    /** The id, null when there is none; with an argument also sets it (null: removes). */
    id(id?: string | null): string | null;
    /** A copy of the traits; with an argument also replaces them. */
    traits(traits?: Fields | null): Fields;
    /** Traits add to those that are there, unless the id is another one than before. */
    identify(id: string | undefined, traits: Fields): void;
    reset(): void;
    logout(): void;
}
export declare class User extends Group {
    private readonly speaker?;
    constructor(store: Store, speaker?: string | undefined);
    id(id?: string | null): string | null;
    /** Made at the first look where there is none, never for an agent; with an argument also sets it (null: a new one). */
    anonymousId(id?: string | null): string | undefined;
    reset(): void;
}
