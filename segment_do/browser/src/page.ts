/** What the page says about itself, as analytics.js reads it. A canonical link gives url and path their stable form. */

export interface PageFacts {
  path: string;
  referrer: string;
  search: string;
  title: string;
  url: string;
}

export function pageFacts(): PageFacts {
  const { pathname, href, search } = location;
  const canonical = document.querySelector("link[rel=canonical]")?.getAttribute("href");
  let path = pathname;
  let url = href.split("#")[0]!;
  if (canonical) {
    try {
      const given = new URL(canonical, href);
      path = given.pathname;
      url = given.search ? given.href : given.href.split("#")[0]! + search;
    } catch {
      // a canonical link that is no URL
    }
  }
  return { path, referrer: document.referrer, search, title: document.title, url };
}

/** Facts that the snippet took down when a call was queued: it marks them, and spells them with one letter each. */
export function queuedFacts(last: unknown): PageFacts | undefined {
  const given = last as Record<string, string | undefined> | null;
  if (typeof given !== "object" || given === null || given["__t"] !== "bpc") return undefined;
  const url = given["c"] ?? given["u"] ?? location.href;
  let path = given["p"] ?? location.pathname;
  if (given["c"]) {
    try {
      path = new URL(given["c"], location.href).pathname;
    } catch {
      // as above
    }
  }
  return {
    path,
    referrer: given["r"] ?? "",
    search: given["s"] ?? "",
    title: given["t"] ?? "",
    url: url.split("#")[0]!,
  };
}
