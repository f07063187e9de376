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
export function listen(
  elements: Elements,
  kind: "click" | "submit",
  name: EventName,
  fields: EventFields | undefined,
  happened: (event: string, properties: Fields) => void,
): void {
  if (!elements) return;
  // A form is like a list, of its fields: what can be listened to is one element.
  for (const element of "addEventListener" in elements ? [elements as Element] : Array.from(elements)) {
    element.addEventListener(kind, () => {
      try {
        const event = typeof name === "function" ? name(element) : name;
        happened(event, (typeof fields === "function" ? fields(element) : fields) ?? {});
      } catch {
        // the page's own functions; its link works all the same
      }
    });
  }
}
