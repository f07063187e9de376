/**
 * Where identity is kept: cookie and localStorage, under analytics.js's keys and in its encodings; memory where both refuse.
 *
 * A cookie holds text as it is; localStorage holds JSON. Reading takes the first place that has a value and repairs the
 * other, so an id survives the loss of either; what another tab forgot is forgotten here. Blocked or full storage is no error.
 */

import { readCookie, writeCookie, type CookieOptions } from "./cookie.js";

export interface Store {
  /** `shared`: an id, also in the cookie, where servers and subdomains read it. null where there is none. */
  get(key: string, shared: boolean): unknown;
  /** `null` removes. Throws where the value has no JSON; then nothing is changed. */
  set(key: string, value: unknown, shared: boolean): void;
}

/** Keeps JSON, so that what is kept is nobody else's to change. */
export class MemoryStore implements Store {
  private readonly values = new Map<string, string>();

  get(key: string): unknown {
    return JSON.parse(this.values.get(key) ?? "null") as unknown;
  }

  set(key: string, value: unknown): void {
    this.values.set(key, JSON.stringify(value));
  }
}

export class BrowserStore implements Store {
  /** Only what neither of the two places took. */
  private readonly refused = new MemoryStore();

  constructor(private readonly options: CookieOptions) {}

  get(key: string, shared: boolean): unknown {
    const refused = this.refused.get(key);
    if (refused !== null) return refused;
    const local = read(readLocal(key), shared);
    if (!shared) return local;
    const cookie = read(readCookie(key), true);
    const value = cookie ?? local;
    if (value !== null) {
      if (cookie === null) writeCookie(key, String(value), this.options);
      if (local !== value) writeLocal(key, JSON.stringify(value));
    }
    return value;
  }

  set(key: string, value: unknown, shared: boolean): void {
    const json = JSON.stringify(value);
    if (shared) writeCookie(key, value === null ? null : String(value), this.options);
    writeLocal(key, value === null ? null : json);
    this.refused.set(key, null);
    if (JSON.stringify(this.get(key, shared)) !== json) this.refused.set(key, value);
  }
}

/** null where storage is blocked, or has nothing. */
export function readLocal(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** False where storage is blocked or full. `null` removes. */
export function writeLocal(key: string, value: string | null): boolean {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

/** An id of digits stays the text that it is: as a number it would lose zeros in front, and digits beyond the sixteenth. */
function read(raw: string | null | undefined, isId: boolean): unknown {
  if (raw === null || raw === undefined || raw === "") return null;
  let value: unknown;
  try {
    value = JSON.parse(raw) as unknown;
  } catch {
    return raw; // text as it is
  }
  return isId && value !== null && typeof value !== "string" ? raw : value;
}
