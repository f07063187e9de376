/**
 * What each argument of a call is. analytics.js lets callers leave out those in front, and puts a callback anywhere.
 * Pure; it never throws, and what it cannot place it leaves out.
 */
import type { CallOptions, Fields, Kind } from "./message.js";
export type Callback = (sent: unknown) => unknown;
export interface Call {
    /** track: the event; page and screen: the name; identify and group: the id; alias: the new id. */
    first?: string | undefined;
    /** page and screen: the category; alias: the id before. */
    second?: string | undefined;
    /** Properties or traits. */
    fields: Fields;
    options: CallOptions;
    callback?: Callback | undefined;
}
export declare function callOf(kind: Kind, args: readonly unknown[]): Call;
/** The call's context: `options.context`, and the options that the spec does not know. */
export declare function givenContext(options: CallOptions): Fields;
/** An id or a name; numbers become their digits, "" is none. */
export declare function text(value: unknown): string | undefined;
