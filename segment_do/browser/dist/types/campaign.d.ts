/** Where a visit came from, told by the query string: utm_* parameters, and click ids of two ad networks. Pure. */
import type { Fields } from "./message.js";
/** Query parameters, decoded; "+" is a space. What cannot be decoded stays as it is. The first of a name counts. */
export declare function parameters(search: string): Record<string, string>;
/** `utm_source=a&utm_campaign=b` is `{source: "a", name: "b"}`; undefined where there is none. */
export declare function campaign(search: string): Fields | undefined;
/** The click id that an ad network added to the link; undefined where there is none. */
export declare function adReferrer(search: string): Fields | undefined;
