/**
 * Who the visitor is, and which group they belong to, as analytics.js keeps it.
 *
 * A new user id after another one takes away the traits and the anonymous id: they were somebody else's. Every read looks
 * into the store, so tabs and servers that changed it are heard.
 */

import { text } from "./arguments.js";
import { isObject } from "./context.js";
import { uuid } from "./ids.js";
import type { Fields } from "./message.js";
import type { Store } from "./store.js";

/** A group, and what a user has in common with one. */
export class Group {
  constructor(
    protected readonly store: Store,
    private readonly idKey = "ajs_group_id",
    private readonly traitsKey = "ajs_group_properties",
  ) {}

  /** The id, null when there is none; with an argument also sets it (null: removes). */
  id(id?: string | null): string | null {
    if (id !== undefined) this.store.set(this.idKey, asText(id), true);
    return asText(this.store.get(this.idKey, true));
  }

  /** A copy of the traits; with an argument also replaces them. */
  traits(traits?: Fields | null): Fields {
    if (traits !== undefined) this.store.set(this.traitsKey, traits ?? {}, false);
    const found = this.store.get(this.traitsKey, false);
    return isObject(found) ? found : {};
  }

  /** Traits add to those that are there, unless the id is another one than before. */
  identify(id: string | undefined, traits: Fields): void {
    const before = this.id();
    const kept = before === null || id === undefined || before === id ? this.traits() : {};
    this.traits({ ...kept, ...traits }); // first: where they have no JSON, nothing has changed
    if (id !== undefined) this.id(id);
  }

  reset(): void {
    this.id(null);
    this.traits({});
  }

  logout(): void {
    this.reset();
  }
}

const ANONYMOUS = "ajs_anonymous_id";

export class User extends Group {
  constructor(
    store: Store,
    private readonly speaker?: string,
  ) {
    super(store, "ajs_user_id", "ajs_user_traits");
  }

  override id(id?: string | null): string | null {
    if (id !== undefined && id !== null) {
      const before = super.id();
      if (before !== null && before !== asText(id)) this.store.set(ANONYMOUS, null, true);
    }
    return super.id(id) ?? this.speaker ?? null;
  }

  /** Made at the first look where there is none, never for an agent; with an argument also sets it (null: a new one). */
  anonymousId(id?: string | null): string | undefined {
    if (id !== undefined) this.store.set(ANONYMOUS, asText(id), true);
    const found = asText(this.store.get(ANONYMOUS, true));
    if (found !== null) return found;
    if (this.speaker !== undefined) return undefined;
    const made = uuid();
    this.store.set(ANONYMOUS, made, true);
    return made;
  }

  override reset(): void {
    this.store.set(ANONYMOUS, null, true);
    super.reset();
  }
}

/** Numbers become their digits; "" is no id. */
const asText = (value: unknown): string | null => text(value) ?? null;
