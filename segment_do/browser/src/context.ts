/** The `context` of an event: what analytics.js sends, under a library name of its own. What a call gives wins. */

import { adReferrer, campaign } from "./campaign.js";
import type { Fields } from "./message.js";
import type { PageFacts } from "./page.js";
import { readLocal, writeLocal } from "./store.js";
import { VERSION } from "./version.js";

const REFERRER_KEY = "s:context.referrer"; // analytics.js's own: the click id of a visit's first page

/** `given` is the call's own context, `page` the facts when it was made. */
export function contextOf(page: PageFacts, given: Fields, persist: boolean): Fields {
  const context: Fields = {
    page,
    userAgent: navigator.userAgent,
    locale: navigator.language,
    library: { name: "segment_do.js", version: VERSION },
    timezone: timezone(),
  };
  const agentData = (navigator as { userAgentData?: { toJSON?: () => unknown } }).userAgentData;
  if (agentData) context["userAgentData"] = agentData.toJSON ? agentData.toJSON() : agentData;
  const from = campaign(page.search);
  if (from) context["campaign"] = from;
  const referrer = clickId(page.search, persist);
  if (referrer) context["referrer"] = referrer;
  const merged = { ...context, ...given };
  if (isObject(given["page"])) merged["page"] = { ...page, ...given["page"] };
  if (isObject(given["library"])) merged["library"] = { ...(context["library"] as Fields), ...given["library"] };
  return merged;
}

export const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function clickId(search: string, persist: boolean): unknown {
  const now = adReferrer(search);
  if (!persist) return now;
  if (now) writeLocal(REFERRER_KEY, JSON.stringify(now));
  else {
    try {
      return JSON.parse(readLocal(REFERRER_KEY) ?? "null") as unknown;
    } catch {
      return undefined;
    }
  }
  return now;
}

function timezone(): string | undefined {
  try {
    return Intl.DateTimeFormat().resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
