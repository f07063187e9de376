/** One event as it goes over the wire, in the words of Segment's spec. Types only: nothing here runs. */
export type Fields = Record<string, unknown>;
export type Kind = "track" | "identify" | "page" | "screen" | "group" | "alias";
/** Numbers become their digits. */
export type Id = string | number;
export interface Message {
    type: Kind;
    messageId: string;
    /** ISO 8601, or a Date until it is encoded. */
    timestamp: string | Date;
    userId?: string | undefined;
    anonymousId?: string | undefined;
    event?: string | undefined;
    name?: string | undefined;
    category?: string | undefined;
    groupId?: string | undefined;
    previousId?: string | undefined;
    properties?: Fields | undefined;
    traits?: Fields | undefined;
    context: Fields;
    integrations: Fields;
    [extra: string]: unknown;
}
/** The last object of a call: common fields by name; what the spec does not know goes into `context`. */
export interface CallOptions {
    userId?: Id | undefined;
    anonymousId?: string | undefined;
    timestamp?: string | Date | undefined;
    messageId?: string | undefined;
    context?: Fields | undefined;
    integrations?: Fields | undefined;
    [extra: string]: unknown;
}
