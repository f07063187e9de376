/** Ids made in the browser. `crypto.randomUUID` is missing on pages without TLS, so the digits are put together here. */
/** A random (version 4) UUID. */
export declare function uuid(): string;
/** The platform counts an event once by this, however often it is sent. */
export declare const newMessageId: (nowMs: number) => string;
