/**
 * Which answers mean "again", and when. Pure: time and chance are parameters. Browser and Node.js share it.
 *
 * Segment's clients retry 408, 410, 429, 460, 5xx except 501, 505 and 511, and requests that got no answer (status 0).
 */
export declare const FIRST_BACKOFF_MS = 500;
export declare const MAX_BACKOFF_MS = 60000;
/** A server is believed up to here when it asks for a longer wait. */
export declare const MAX_RETRY_AFTER_MS = 300000;
export declare function isRetryable(status: number): boolean;
/** Full jitter: anywhere from 0 up to a ceiling that doubles with every failure. `failures` from 1, `random` in [0, 1). */
export declare function backoffMs(failures: number, random: number): number;
/** What a `Retry-After` asks for; undefined where there is none or it cannot be read. */
export declare function retryAfterMs(header: string | null | undefined, nowMs: number): number | undefined;
/**
 * How long until the next attempt: what the server asked for, else the backoff. A little is added to the server's wish,
 * so that clients told the same do not all come back in one moment.
 */
export declare function waitMs(failures: number, asked: number | undefined, random: number): number;
