/** Ids made in the browser. `crypto.randomUUID` is missing on pages without TLS, so the digits are put together here. */

/** A random (version 4) UUID. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The platform counts an event once by this, however often it is sent. */
export const newMessageId = (nowMs: number): string => `ajs-sdo-${nowMs}-${uuid()}`;
