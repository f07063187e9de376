/**
 * Which answers mean "again", and when. Pure: time and chance are parameters. Browser and Node.js share it.
 *
 * Segment's clients retry 408, 410, 429, 460, 5xx except 501, 505 and 511, and requests that got no answer (status 0).
 */

export const FIRST_BACKOFF_MS = 500;
export const MAX_BACKOFF_MS = 60_000;
/** A server is believed up to here when it asks for a longer wait. */
export const MAX_RETRY_AFTER_MS = 300_000;

export function isRetryable(status: number): boolean {
  if (status >= 500) return status !== 501 && status !== 505 && status !== 511;
  return status === 0 || status === 408 || status === 410 || status === 429 || status === 460;
}

/** Full jitter: anywhere from 0 up to a ceiling that doubles with every failure. `failures` from 1, `random` in [0, 1). */
export function backoffMs(failures: number, random: number): number {
  return random * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 16));
}

/** What a `Retry-After` asks for; undefined where there is none or it cannot be read. */
export function retryAfterMs(header: string | null | undefined, nowMs: number): number | undefined {
  if (!header) return undefined;
  const text = header.trim();
  const asked = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(asked) ? undefined : Math.min(Math.max(0, asked), MAX_RETRY_AFTER_MS);
}

/**
 * How long until the next attempt: what the server asked for, else the backoff. A little is added to the server's wish,
 * so that clients told the same do not all come back in one moment.
 */
export function waitMs(failures: number, asked: number | undefined, random: number): number {
  return asked ? asked + random * FIRST_BACKOFF_MS : backoffMs(failures, random);
}
