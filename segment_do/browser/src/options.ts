/** How a client behaves: every option, its default, and what an address may look like. */

import type { CookieOptions } from "./cookie.js";
import type { DeliveryOptions } from "./delivery.js";
import type { Fields } from "./message.js";
import type { Consent } from "./pipeline.js";
import type { QueryPatterns } from "./query.js";
import { isObject } from "./context.js";

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

const BATCH_EVENTS = 10;
const BATCH_EVENTS_MAX = 100;
const LINGER_MS = 1000;

/** What delivery needs, from our options or from those that analytics.js has for its "Segment.io" part. */
export function deliveryOptions(writeKey: string, options: LoadOptions, scriptHost: string | undefined): DeliveryOptions {
  const given = options.integrations?.["Segment.io"];
  const theirs = isObject(given) ? given : {};
  const strategy = isObject(theirs["deliveryStrategy"]) ? theirs["deliveryStrategy"] : {};
  const config = isObject(strategy["config"]) ? strategy["config"] : {};
  const ownHost = location.protocol.startsWith("http") ? location.origin : ""; // pages of files and apps have none
  const host = options.apiHost || theirs["apiHost"] || scriptHost || ownHost;
  if (!host) throw new Error("load() needs apiHost: this page has no host of its own");
  const delivery = options.delivery ?? (strategy["strategy"] === "standard" ? "single" : "batch");
  return {
    writeKey,
    apiHost: address(String(host), theirs["protocol"]),
    delivery,
    batchEvents: between(1, options.batchEvents ?? config["size"], BATCH_EVENTS_MAX, BATCH_EVENTS),
    lingerMs: between(0, options.lingerMs ?? config["timeout"], 60_000, LINGER_MS),
  };
}

/** `host/v1/`, `https://host/v1` and `https://host` are one address. */
export function address(host: string, protocol: unknown): string {
  const bare = host.trim().replace(/^\/+/, "").replace(/\/+$/, "").replace(/\/v1$/, "");
  if (/^https?:\/\//.test(bare)) return bare;
  return `${typeof protocol === "string" ? protocol.replace(/:?\/*$/, "") : "https"}://${bare}`;
}

function between(least: number, given: unknown, most: number, otherwise: number): number {
  const number = typeof given === "number" && !Number.isNaN(given) ? given : otherwise;
  return Math.min(most, Math.max(least, number));
}
