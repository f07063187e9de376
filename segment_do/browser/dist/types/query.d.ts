/**
 * The query-string API of analytics.js: a link can say who comes and what happened.
 *
 *     ?ajs_uid=u1&ajs_trait_plan=pro     identify("u1", {plan: "pro"})
 *     ?ajs_event=Clicked&ajs_prop_a=1    track("Clicked", {a: "1"})
 *     ?ajs_aid=a1                        setAnonymousId("a1")
 */
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
export declare function obeyQuery(search: string, client: Asked, { aid, uid }: QueryPatterns): void;
