/**
 * Where events go and under which write key; resolved when the first batch is sent, not when a client is made.
 *
 * An agent's client finds the platform (arguments, `SEGMENT_DO_URL` and `SEGMENT_DO_TOKEN`, else `run.json` and `token` in
 * the home directory) and makes sure that the agent has its source there. That request is idempotent, so any number of
 * processes may send it at once. This machine's own token is sent to no other machine.
 */

import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { isRetryable } from "../retry.js";
import { AnalyticsError } from "./errors.js";

export interface Endpoint {
  url: string;
  writeKey: string;
}

export interface Source {
  /** Rejects with an AnalyticsError. */
  endpoint(signal: AbortSignal): Promise<Endpoint>;
  /** What was found no longer holds; true when looking again may find something else. */
  forget(): boolean;
}

/** A write key and an address that the program was given. */
export class FixedSource implements Source {
  private readonly found: Endpoint;

  constructor(writeKey: string, host: string | undefined) {
    if (typeof writeKey !== "string" || !writeKey.trim()) {
      throw new AnalyticsError("a client needs a write key", "settings");
    }
    this.found = { url: checkedUrl(host ?? process.env["SEGMENT_DO_URL"] ?? DEFAULT_URL), writeKey: writeKey.trim() };
  }

  endpoint(): Promise<Endpoint> {
    return Promise.resolve(this.found);
  }

  forget(): boolean {
    return false;
  }
}

/** An agent's source, made at first use. */
export class AgentSource implements Source {
  private found: Endpoint | undefined;

  constructor(
    private readonly agent: string,
    private readonly host: string | undefined,
    private readonly token: string | undefined,
  ) {}

  async endpoint(signal: AbortSignal): Promise<Endpoint> {
    return (this.found ??= await this.ensure(signal));
  }

  forget(): boolean {
    const known = this.found !== undefined;
    this.found = undefined;
    return known;
  }

  private async ensure(signal: AbortSignal): Promise<Endpoint> {
    const { url, token } = await this.place();
    let response: Response;
    let told: { writeKey?: unknown } | null;
    try {
      response = await fetch(`${url}/api/sources`, {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ name: this.agent, identity: this.agent, ensure: true }),
        redirect: "error", // the token goes where the program said, and nowhere else
        signal,
      });
      told = (await response.json().catch(() => null)) as { writeKey?: unknown } | null;
    } catch {
      throw new AnalyticsError(`the platform at ${url} cannot be reached`, "platform_not_running", true);
    }
    if (response.status === 401 || response.status === 403) {
      throw new AnalyticsError(`the platform at ${url} refused the admin token; set SEGMENT_DO_TOKEN`, "unauthorized");
    }
    if (!response.ok) {
      const again = isRetryable(response.status);
      throw new AnalyticsError(`the platform answered ${response.status}`, again ? "unavailable" : "invalid_request", again);
    }
    if (typeof told?.writeKey !== "string" || !told.writeKey) {
      throw new AnalyticsError(`what answers at ${url} is not the platform`, "platform_not_running", true);
    }
    return { url, writeKey: told.writeKey };
  }

  private async place(): Promise<{ url: string; token: string }> {
    const home = process.env["SEGMENT_DO_HOME"] ?? join(homedir(), ".segment_do");
    const given = this.host ?? process.env["SEGMENT_DO_URL"];
    let url = given;
    if (!url) {
      url = await runningAt(join(home, "run.json"));
      if (!url) throw new AnalyticsError(`no platform runs from ${home}`, "platform_not_running", true);
    }
    url = checkedUrl(url);
    const token = this.token ?? process.env["SEGMENT_DO_TOKEN"];
    if (token) return { url, token };
    if (given && !isLoopback(url)) {
      throw new AnalyticsError(`there is no admin token for ${url}; set SEGMENT_DO_TOKEN`, "settings");
    }
    const kept = (await readFile(join(home, "token"), "utf8").catch(() => "")).trim();
    if (!kept) throw new AnalyticsError(`there is no token in ${home}`, "platform_not_running", true);
    return { url, token: kept };
  }
}

/** undefined where there is no such file, or one that is being written. */
async function runningAt(path: string): Promise<string | undefined> {
  try {
    const { url } = JSON.parse(await readFile(path, "utf8")) as { url?: unknown };
    return typeof url === "string" ? url : undefined;
  } catch {
    return undefined;
  }
}

const DEFAULT_URL = "http://127.0.0.1:8000";

/** The address without its trailing slash; throws when it is none, or holds credentials. */
export function checkedUrl(host: string): string {
  let url: URL;
  try {
    url = new URL(host);
  } catch {
    throw new AnalyticsError("the host must be a URL such as http://127.0.0.1:8000", "settings");
  }
  if (!/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new AnalyticsError("the host must be an http(s) URL without credentials, query or fragment", "settings");
  }
  return host.replace(/\/+$/, "");
}

function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
