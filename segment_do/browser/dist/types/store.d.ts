/**
 * Where identity is kept: cookie, then localStorage, then memory, under analytics.js's keys and in its encodings.
 *
 * A cookie holds text as it is and anything else as JSON; localStorage always holds JSON. Reading takes the first place
 * that has a value and repairs the others, so an id survives the loss of either. Never throws.
 */
import { type CookieOptions } from "./cookie.js";
export interface Store {
    /** `shared`: also in the cookie, where servers and subdomains read it. */
    get(key: string, shared: boolean): unknown;
    /** `null` removes. */
    set(key: string, value: unknown, shared: boolean): void;
}
export declare class MemoryStore implements Store {
    private readonly values;
    get(key: string): unknown;
    set(key: string, value: unknown): void;
}
export declare class BrowserStore implements Store {
    private readonly options;
    private readonly memory;
    constructor(options: CookieOptions);
    get(key: string, shared: boolean): unknown;
    set(key: string, value: unknown, shared: boolean): void;
}
/** null where storage is blocked, or has nothing. */
export declare function readLocal(key: string): string | null;
/** False where storage is blocked or full. `null` removes. */
export declare function writeLocal(key: string, value: string | null): boolean;
