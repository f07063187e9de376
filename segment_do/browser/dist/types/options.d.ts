/** How a client behaves: every option, its default, and what an address may look like. */
import type { CookieOptions } from "./cookie.js";
import type { DeliveryOptions } from "./delivery.js";
import type { Fields } from "./message.js";
import type { Consent } from "./pipeline.js";
import type { QueryPatterns } from "./query.js";
export interface LoadOptions {
    /** The platform's address; default the script's own origin, else the page's. A trailing `/v1` is allowed. */
    apiHost?: string | undefined;
    /** `batch` (default): to /v1/b; `single`: one event a request. */
    delivery?: "batch" | "single" | undefined;
    /** So many waiting events are sent at once; 1 to 100, default 10. */
    batchEvents?: number | undefined;
    /** Longest an event waits for company, milliseconds; default 1000. */
    lingerMs?: number | undefined;
    consent?: Consent | undefined;
    /** Default for every event; `"Segment.io": false` sends nothing. */
    integrations?: Fields | undefined;
    cookie?: CookieOptions | undefined;
    /** Keep nothing in cookies or localStorage; default false. */
    disableClientPersistence?: boolean | undefined;
    /** `page()` right after loading; default false. */
    initialPageview?: boolean | undefined;
    /** `false`: `ajs_*` in the address mean nothing. `{uid: /^[0-9]+$/}`: only such ids may come from a link. */
    useQueryString?: boolean | QueryPatterns | undefined;
    /** Send nothing, remember nothing. */
    disable?: boolean | undefined;
}
/** What delivery needs, from our options or from those that analytics.js has for its "Segment.io" part. */
export declare function deliveryOptions(writeKey: string, options: LoadOptions, scriptHost: string | undefined): DeliveryOptions;
/** `host/v1/`, `https://host/v1` and `https://host` are one address. */
export declare function address(host: string, protocol: unknown): string;
