/**
 * Where identity is kept: cookie, then localStorage, then memory, under analytics.js's keys and in its encodings.
 *
 * A cookie holds text as it is and anything else as JSON; localStorage always holds JSON. Reading takes the first place
 * that has a value and repairs the others, so an id survives the loss of either. Never throws.
 */

import { readCookie, writeCookie, type CookieOptions } from "./cookie.js";

export interface Store {
  /** `shared`: also in the cookie, where servers and subdomains read it. */
  get(key: string, shared: boolean): unknown;
  /** `null` removes. */
  set(key: string, value: unknown, shared: boolean): void;
}

export class MemoryStore implements Store {
  private readonly values: Record<string, unknown> = {};

  get(key: string): unknown {
    return this.values[key] ?? null;
  }

  set(key: string, value: unknown): void {
    this.values[key] = value;
  }
}

export class BrowserStore implements Store {
  private readonly memory = new MemoryStore();

  constructor(private readonly options: CookieOptions) {}

  get(key: string, shared: boolean): unknown {
    const cookie = shared ? parsed(readCookie(key)) : null;
    const local = parsed(readLocal(key));
    const value = cookie ?? local ?? this.memory.get(key);
    if (value !== null) {
      if (shared && cookie === null) writeCookie(key, text(value), this.options);
      if (shared && local !== value) writeLocal(key, JSON.stringify(value));
    }
    return value;
  }

  set(key: string, value: unknown, shared: boolean): void {
    this.memory.set(key, value);
    if (shared) writeCookie(key, value === null ? null : text(value), this.options);
    writeLocal(key, value === null ? null : JSON.stringify(value));
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

const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

function parsed(raw: string | null | undefined): unknown {
  if (raw === null || raw === undefined || raw === "") return null;
  try {
    return (JSON.parse(raw) as unknown) ?? null;
  } catch {
    return raw; // text as it is
  }
}
