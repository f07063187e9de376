/**
 * Cookies, spelled as analytics.js spells them, so that either library reads what the other wrote.
 *
 * Its cookies keep the characters that RFC 6265 allows and percent-encode the rest; the domain is the highest one that
 * takes a cookie, so that all subdomains share it. Never throws: where cookies are blocked, nothing is found.
 */

export interface CookieOptions {
  domain?: string | undefined;
  /** Days; default 365. */
  maxage?: number | undefined;
  /** Default `/`. */
  path?: string | undefined;
  /** Default `Lax`. */
  sameSite?: string | undefined;
  secure?: boolean | undefined;
}

const KEPT = /%(2[346BF]|3[AC-F]|40|5[BDE]|60|7[BCD])/g;
const DAY_SECONDS = 86_400;

export function readCookie(name: string): string | undefined {
  try {
    const found = document.cookie.split("; ").find((pair) => pair.startsWith(name + "="));
    return found === undefined ? undefined : decoded(found.slice(name.length + 1));
  } catch {
    return undefined;
  }
}

/** Write a cookie; `null` removes it. */
export function writeCookie(name: string, value: string | null, options: CookieOptions): void {
  try {
    const domain = options.domain ?? topDomain();
    const path = options.path ?? "/";
    // One that a server set for this host alone would hide ours.
    if (domain) document.cookie = `${name}=; path=${path}; max-age=0`;
    const seconds = value === null ? -1 : (options.maxage ?? 365) * DAY_SECONDS;
    document.cookie =
      `${name}=${encodeURIComponent(value ?? "").replace(KEPT, decodeURIComponent)}` +
      `; path=${path}; expires=${new Date(Date.now() + seconds * 1000).toUTCString()}` +
      `; samesite=${options.sameSite ?? "Lax"}` +
      (domain ? `; domain=${domain}` : "") +
      (options.secure ? "; secure" : "");
  } catch {
    // blocked: localStorage or memory has it
  }
}

let found: string | undefined;

/** The highest domain above this page's that takes a cookie; "" for addresses and single names such as localhost. */
function topDomain(): string {
  if (found !== undefined) return found;
  const parts = location.hostname.split(".");
  found = "";
  if (parts.length < 2 || /^[\d.]+$/.test(location.hostname)) return found;
  const probe = "__tld__";
  for (let count = 2; count <= parts.length && !found; count++) {
    const domain = parts.slice(-count).join(".");
    document.cookie = `${probe}=1; path=/; domain=${domain}`;
    if (readCookie(probe) !== undefined) {
      document.cookie = `${probe}=; path=/; domain=${domain}; max-age=0`;
      found = domain;
    }
  }
  return found;
}

function decoded(text: string): string {
  const bare = text[0] === '"' ? text.slice(1, -1) : text;
  return bare.replace(/(%[\dA-F]{2})+/gi, (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}
