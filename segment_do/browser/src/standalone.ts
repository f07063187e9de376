/**
 * The script that the snippet loads. It takes the place of the array under `window.analytics` (or the name that the
 * script's `data-global-segment-analytics-key` gives), loads with the key that the snippet or the script's own address
 * names, and makes the calls that were queued. Where no key is known it waits for `load`.
 */

import { Analytics } from "./analytics.js";
import { Client } from "./client.js";
import type { LoadOptions } from "./options.js";

interface Queued extends Array<ArrayLike<unknown>> {
  _writeKey?: string;
  _loadOptions?: LoadOptions;
  _cdn?: string;
}

const ADDRESS = /^(https?:\/\/.+?)\/analytics\.js\/v1\/([^/]+)\/(?:platform\/)?analytics(?:\.min)?\.js/;

function begin(): void {
  const script = ownScript();
  const [, host, keyInAddress] = ADDRESS.exec(script?.src ?? "") ?? [];
  const name = script?.getAttribute("data-global-segment-analytics-key") || "analytics";
  const page = window as unknown as Record<string, Queued | Client | undefined>;
  const before = page[name];
  if (before instanceof Client || (before && "VERSION" in before)) return; // the script is on the page twice
  const calls = Array.isArray(before) ? before.splice(0) : [];
  const client = new Client();
  page[name] = client;
  page["Analytics"] ??= Analytics as unknown as Client;
  if (Array.isArray(before)) {
    // Code that kept the array goes on pushing to it.
    before.push = (...more: ArrayLike<unknown>[]): number => {
      client.push(...more);
      return 0;
    };
  }
  const load = calls.find((call) => call[0] === "load");
  const key = load?.[1] ?? before?._writeKey ?? keyInAddress;
  const options = (load?.[2] ?? before?._loadOptions ?? {}) as LoadOptions;
  client.replay(calls);
  if (typeof key === "string") client.load(key, options, before?._cdn ?? host);
}

/** The script that runs now, or (loaded as a module, or run later) the first one with such an address. */
function ownScript(): HTMLScriptElement | undefined {
  const current = document.currentScript;
  if (current instanceof HTMLScriptElement) return current;
  return Array.from(document.scripts).find((script) => ADDRESS.test(script.src));
}

try {
  begin();
} catch (error) {
  console.error("segment_do", error); // never thrown into the page
}
