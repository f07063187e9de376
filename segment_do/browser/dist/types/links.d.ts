/**
 * Clicks on links and submitted forms. The event is queued and sent in the same moment, by a request that outlives the
 * page, so the visitor's way is never held up: no default is prevented, no navigation is made.
 */
import type { Fields } from "./message.js";
/** An element, several, or nothing. */
export type Elements = Element | ArrayLike<Element> | null | undefined;
export type EventName = string | ((element: Element) => string);
export type EventFields = Fields | ((element: Element) => Fields);
/** Calls `happened` for each `kind` of DOM event on the elements. */
export declare function listen(elements: Elements, kind: "click" | "submit", name: EventName, fields: EventFields | undefined, happened: (event: string, properties: Fields) => void): void;
