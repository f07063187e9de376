/**
 * Where identity is kept: cookie and localStorage, under analytics.js's keys and in its encodings; memory where both refuse.
 *
 * A cookie holds text as it is; localStorage holds JSON. Reading takes the first place that has a value and repairs the
 * other, so an id survives the loss of either; what another tab forgot is forgotten here. Blocked or full storage is no error.
 */
import { type CookieOptions } from "./cookie.js";
export interface Store {
    /** `shared`: an id, also in the cookie, where servers and subdomains read it. null where there is none. */
    get(key: string, shared: boolean): unknown;
    /** `null` removes. Throws where the value has no JSON; then nothing is changed. */
    set(key: string, value: unknown, shared: boolean): void;
}
/** Keeps JSON, so that what is kept is nobody else's to change. */
export declare class MemoryStore implements Store {
    private readonly values;
    get(key: string): unknown;
    set(key: string, value: unknown): void;
}
export declare class BrowserStore implements Store {
    private readonly options;
    /** Only what neither of the two places took. */
    private readonly refused;
    constructor(options: CookieOptions);
    get(key: string, shared: boolean): unknown;
    set(key: string, value: unknown, shared: boolean): void;
}
/** null where storage is blocked, or has nothing. */
export declare function readLocal(key: string): string | null;
/** False where storage is blocked or full. `null` removes. */
export declare function writeLocal(key: string, value: string | null): boolean;
