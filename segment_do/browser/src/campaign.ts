/** Where a visit came from, told by the query string: utm_* parameters, and click ids of two ad networks. Pure. */

import type { Fields } from "./message.js";

/** Query parameters, decoded; "+" is a space. What cannot be decoded stays as it is. The first of a name counts. */
export function parameters(search: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of search.replace(/^[?#]/, "").replace(/\?/g, "&").split("&")) {
    const [name, value = ""] = split(pair);
    if (name && !Object.prototype.hasOwnProperty.call(found, name)) found[name] = value;
  }
  return found;
}

/** `utm_source=a&utm_campaign=b` is `{source: "a", name: "b"}`; undefined where there is none. */
export function campaign(search: string): Fields | undefined {
  const found: Fields = {};
  for (const [name, value] of Object.entries(parameters(search))) {
    if (name.startsWith("utm_") && name.length > 4) {
      found[name === "utm_campaign" ? "name" : name.slice(4)] = value;
    }
  }
  return Object.keys(found).length ? found : undefined;
}

/** The click id that an ad network added to the link; undefined where there is none. */
export function adReferrer(search: string): Fields | undefined {
  const found = parameters(search);
  if (found["btid"]) return { id: found["btid"], type: "dataxu" };
  if (found["urid"]) return { id: found["urid"], type: "millennial-media" };
  return undefined;
}

function split(pair: string): [string, string?] {
  const at = pair.indexOf("=");
  return at < 0 ? [decoded(pair)] : [decoded(pair.slice(0, at)), decoded(pair.slice(at + 1))];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replace(/\+/g, " "));
  } catch {
    return text;
  }
}
