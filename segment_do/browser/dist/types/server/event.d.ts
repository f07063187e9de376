/**
 * From a call to one event's JSON, checked and encoded within the call: what the caller does to its objects afterwards
 * changes nothing. Both spellings are read: `track("Event", {…}, {userId})` and analytics-node's `track({event, userId})`.
 */
import type { Fields, Kind } from "../message.js";
/** The largest event that the platform takes, bytes of its JSON. */
export declare const EVENT_BYTES_MAX = 32768;
/** The wire's fields of a call, from either spelling. */
export declare function fieldsOf(kind: Kind, first: unknown, second: unknown, options: unknown): Fields;
/**
 * One event's JSON and its messageId. `speaker` is whom an event speaks for that names nobody.
 *
 * Throws an AnalyticsError that says what the spec misses.
 */
export declare function eventJson(fields: Fields, speaker: string | undefined, nowMs: number): {
    json: string;
    id: string;
};
