/** The `context` of an event: what analytics.js sends, under a library name of its own. What a call gives wins. */
import type { Fields } from "./message.js";
import type { PageFacts } from "./page.js";
/** `given` is the call's own context, `page` the facts when it was made. */
export declare function contextOf(page: PageFacts, given: Fields, persist: boolean): Fields;
export declare const isObject: (value: unknown) => value is Fields;
