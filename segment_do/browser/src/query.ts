/**
 * The query-string API of analytics.js: a link can say who comes and what happened.
 *
 *     ?ajs_uid=u1&ajs_trait_plan=pro     identify("u1", {plan: "pro"})
 *     ?ajs_event=Clicked&ajs_prop_a=1    track("Clicked", {a: "1"})
 *     ?ajs_aid=a1                        setAnonymousId("a1")
 */

import { parameters } from "./campaign.js";
import type { Fields } from "./message.js";

export interface Asked {
  setAnonymousId(id: string): unknown;
  identify(id: string, traits: Fields): unknown;
  track(event: string, properties: Fields): unknown;
}

/** Which ids a link may give; default any. */
export interface QueryPatterns {
  aid?: RegExp | undefined;
  uid?: RegExp | undefined;
}

export function obeyQuery(search: string, client: Asked, { aid = /./, uid = /./ }: QueryPatterns): void {
  if (!search.includes("ajs_")) return;
  const given = parameters(search);
  if (given["ajs_aid"] && aid.test(given["ajs_aid"])) client.setAnonymousId(given["ajs_aid"]);
  if (given["ajs_uid"] && uid.test(given["ajs_uid"])) client.identify(given["ajs_uid"], named(given, "ajs_trait_"));
  if (given["ajs_event"]) client.track(given["ajs_event"], named(given, "ajs_prop_"));
}

function named(given: Record<string, string>, prefix: string): Fields {
  const found: Fields = {};
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith(prefix)) found[name.slice(prefix.length)] = value;
  }
  return found;
}
