// src/agent.ts
function agentId(agent) {
  if (typeof agent === "string" || typeof agent === "number") return String(agent) || void 0;
  if (typeof agent !== "object" && typeof agent !== "function" || agent === null) return void 0;
  for (const name of ["id", "name"]) {
    const value = agent[name];
    if (typeof value === "string" && value || typeof value === "number") return String(value);
  }
  return void 0;
}

// src/server/errors.ts
var AnalyticsError = class extends Error {
  constructor(message, code, retryable = false) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.name = "AnalyticsError";
  }
};

// src/server/event.ts
import { randomUUID } from "node:crypto";

// src/version.ts
var VERSION = "0.1.0";

// src/server/event.ts
var EVENT_BYTES_MAX = 32768;
var LIBRARY = { name: "segment_do.js/server", version: VERSION };
var BODY = {
  track: "properties",
  page: "properties",
  screen: "properties",
  identify: "traits",
  group: "traits",
  alias: void 0
};
var FIRST = {
  track: "event",
  page: "name",
  screen: "name",
  identify: "userId",
  group: "groupId",
  alias: "userId"
};
function fieldsOf(kind, first, second, options) {
  if (typeof first === "object" && first !== null) return { ...first, type: kind };
  const fields = { ...options, type: kind };
  const positional = { [FIRST[kind]]: first, [BODY[kind] ?? "previousId"]: second };
  for (const [name, value] of Object.entries(positional)) {
    if (value !== void 0 && value !== null) fields[name] = value;
  }
  return fields;
}
function eventJson(fields, speaker, nowMs) {
  const { type, userId, anonymousId, messageId, timestamp, context, ...rest } = fields;
  const kind = type;
  if (!Object.prototype.hasOwnProperty.call(BODY, String(kind))) {
    throw invalid("the event's type must be one of track, identify, page, screen, group, alias", "invalid_type");
  }
  const named = idOf("userId", userId);
  const anonymous = idOf("anonymousId", anonymousId);
  const user = named ?? (anonymous === void 0 || kind === "alias" ? speaker : void 0);
  if (user === void 0 && anonymous === void 0) {
    throw invalid("the event has neither userId nor anonymousId", "no_user_anon_id");
  }
  if (kind === "track" && (typeof rest["event"] !== "string" || rest["event"] === "")) {
    throw invalid("a track call needs the event's name", "missing_event");
  }
  if (kind === "group" && (rest["groupId"] = idOf("groupId", rest["groupId"])) === void 0) {
    throw invalid("a group call needs a groupId", "missing_group_id");
  }
  if (kind === "alias" && ((rest["previousId"] = idOf("previousId", rest["previousId"])) === void 0 || !user)) {
    throw invalid("an alias call needs userId and previousId", "missing_previous_id");
  }
  const body = BODY[kind];
  if (body) rest[body] ??= {};
  const id = idOf("messageId", messageId) ?? `node-sdo-${nowMs}-${randomUUID()}`;
  if (id.length > 100) throw invalid("the messageId is longer than 100 characters", "message_id_too_long");
  let json;
  try {
    json = JSON.stringify({
      ...rest,
      type: kind,
      messageId: id,
      timestamp: timestamp ?? new Date(nowMs),
      userId: user,
      anonymousId: anonymous,
      context: { library: LIBRARY, ...context }
    });
  } catch (error) {
    throw invalid(`the event has no JSON: ${String(error)}`, "wrong_type");
  }
  const bytes = Buffer.byteLength(json);
  if (bytes > EVENT_BYTES_MAX) {
    throw invalid(`the event has ${bytes} bytes; ${EVENT_BYTES_MAX} are allowed`, "event_too_large");
  }
  return { json, id };
}
function idOf(name, given) {
  if (given === void 0 || given === null || given === "") return void 0;
  if (typeof given === "string" || typeof given === "number" || typeof given === "bigint") return String(given);
  throw invalid(`${name} must be text or a number`, "wrong_type");
}
var invalid = (message, code) => new AnalyticsError(message, code);

// src/server/express.ts
import { randomUUID as randomUUID2 } from "node:crypto";
function middleware(client, speaks, options) {
  const nobody = speaks ? {} : { anonymousId: `server-${randomUUID2()}` };
  return (request, response, next) => {
    const started = performance.now();
    const url = request.originalUrl ?? request.url ?? "/";
    response.once("close", () => {
      try {
        if (options.skip?.(request)) return;
        const ids = (options.identify ?? cookieIds)(request);
        void client.track({
          ...ids.userId || ids.anonymousId ? ids : nobody,
          event: options.event ?? "HTTP Request",
          properties: {
            method: request.method,
            path: url.split("?")[0],
            ...routeOf(request),
            status: response.statusCode,
            durationMs: Math.round((performance.now() - started) * 1e3) / 1e3,
            completed: response.writableFinished,
            ...options.properties?.(request, response)
          },
          context: { userAgent: request.headers["user-agent"] }
        });
      } catch {
      }
    });
    next();
  };
}
function routeOf(request) {
  const { baseUrl, route } = request;
  if (typeof route?.path !== "string") return {};
  return { route: (typeof baseUrl === "string" ? baseUrl : "") + route.path };
}
function cookieIds(request) {
  const read = (name) => {
    const pair = request.headers.cookie?.split(/; */).find((each) => each.startsWith(name + "="));
    const id = decoded(pair?.slice(name.length + 1) ?? "").replace(/^"(.*)"$/, "$1");
    return id === "null" ? void 0 : id || void 0;
  };
  return { userId: read("ajs_user_id"), anonymousId: read("ajs_anonymous_id") };
}
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// src/server/outbox.ts
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

// src/retry.ts
var FIRST_BACKOFF_MS = 500;
var MAX_BACKOFF_MS = 6e4;
var MAX_RETRY_AFTER_MS = 3e5;
function isRetryable(status) {
  if (status >= 500) return status !== 501 && status !== 505 && status !== 511;
  return status === 0 || status === 408 || status === 410 || status === 429 || status === 460;
}
function backoffMs(failures, random) {
  return random * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 16));
}
function retryAfterMs(header, nowMs) {
  if (!header) return void 0;
  const text = header.trim();
  const asked = /^\d+$/.test(text) ? Number(text) * 1e3 : Date.parse(text) - nowMs;
  return Number.isNaN(asked) ? void 0 : Math.min(Math.max(0, asked), MAX_RETRY_AFTER_MS);
}
function waitMs(failures, asked, random) {
  return asked ? asked + random * FIRST_BACKOFF_MS : backoffMs(failures, random);
}

// src/server/outbox.ts
var REQUEST_BYTES_MAX = 475e3;
var GZIP_ABOVE_BYTES = 1024;
var compress = promisify(gzip);
var Outbox = class {
  constructor(source, options) {
    this.source = source;
    this.options = options;
    this.waiting = [];
    this.bytes = 0;
    this.end = new AbortController();
    /** Events not yet settled, those under way included. */
    this.unsettled = 0;
  }
  /** Takes all of them or, at the bound, none: then it throws. */
  add(entries) {
    const bytes = entries.reduce((sum, entry) => sum + Buffer.byteLength(entry.json), 0);
    if (this.end.signal.aborted) throw new AnalyticsError("the client is closed", "client_closed");
    if (this.unsettled + entries.length > this.options.maxQueue || this.bytes + bytes > this.options.maxQueueBytes) {
      throw new AnalyticsError("the queue is full; the event was not taken", "busy", true);
    }
    this.unsettled += entries.length;
    this.bytes += bytes;
    for (const entry of entries) this.waiting.push(entry);
    if (this.waiting.length >= this.options.flushAt) this.go();
    else this.timer ??= setTimeout(() => this.go(), this.options.flushInterval);
  }
  /** Resolves when all that is queued now is settled. */
  async flush() {
    this.go();
    await this.under;
  }
  /** Delivers what is queued for at most so long; what is left then fails, a request under way included. */
  async close(timeoutMs) {
    const limit = setTimeout(() => {
      this.end.abort();
      this.limit?.abort();
    }, timeoutMs);
    await this.flush();
    clearTimeout(limit);
    this.end.abort();
  }
  go() {
    clearTimeout(this.timer);
    this.timer = void 0;
    if (this.waiting.length > 0) this.under ??= this.empty();
  }
  async empty() {
    while (this.waiting.length > 0) {
      const batch = this.take();
      const error = await this.deliver(batch);
      for (const entry of batch) {
        this.unsettled--;
        this.bytes -= Buffer.byteLength(entry.json);
        entry.settle(error);
      }
    }
    this.under = void 0;
  }
  take() {
    let count = 0;
    for (let bytes = 0; count < Math.min(this.waiting.length, this.options.flushAt); count++) {
      bytes += Buffer.byteLength(this.waiting[count].json) + 1;
      if (count > 0 && bytes > REQUEST_BYTES_MAX) break;
    }
    return this.waiting.splice(0, count);
  }
  /** undefined when the platform has stored the batch. Never rejects. */
  async deliver(batch) {
    const started = performance.now();
    let sent = 0;
    let renewed = false;
    for (let failures = 1; ; failures++) {
      if (this.end.signal.aborted) return new AnalyticsError("the client was closed first", "not_delivered", true);
      const result = await this.attempt(batch, sent);
      if (result === void 0) return void 0;
      if (result.sent) sent++;
      if (result.error.code === "unauthorized" && !renewed && this.source.forget()) {
        renewed = true;
        continue;
      }
      if (!result.error.retryable) return result.error;
      const wait = waitMs(failures, result.retryAfter, Math.random());
      if (performance.now() - started + wait > this.options.retrySeconds * 1e3) {
        return new AnalyticsError(`not taken within ${this.options.retrySeconds} s: ${result.error.message}`, "retries_exhausted", true);
      }
      await pause(wait, void 0, { signal: this.end.signal }).catch(() => void 0);
    }
  }
  async attempt(batch, retries) {
    const limit = this.limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), this.options.timeoutSeconds * 1e3);
    const failure = await this.request(batch, retries, limit.signal);
    clearTimeout(timer);
    return failure;
  }
  async request(batch, retries, signal) {
    let endpoint;
    try {
      endpoint = await this.source.endpoint(signal);
    } catch (error) {
      const known = error instanceof AnalyticsError;
      return { error: known ? error : new AnalyticsError(String(error), "settings"), sent: false };
    }
    const text = `{"batch":[${batch.map((entry) => entry.json).join(",")}],"sentAt":"${(/* @__PURE__ */ new Date()).toISOString()}"}`;
    const headers = {
      Authorization: "Basic " + Buffer.from(`${endpoint.writeKey}:`).toString("base64"),
      "Content-Type": "application/json"
    };
    if (retries > 0) headers["X-Retry-Count"] = String(retries);
    let body = text;
    if (this.options.gzip && text.length > GZIP_ABOVE_BYTES) {
      body = new Uint8Array(await compress(text, { level: 1 }));
      headers["Content-Encoding"] = "gzip";
    }
    try {
      const response = await fetch(`${endpoint.url}/v1/batch`, { method: "POST", headers, body, redirect: "error", signal });
      await response.arrayBuffer();
      if (response.ok) return void 0;
      const again = isRetryable(response.status);
      const refused = response.status === 401 || response.status === 403;
      const error = new AnalyticsError(
        `the platform answered ${response.status}`,
        refused ? "unauthorized" : again ? "unavailable" : "invalid_request",
        again
      );
      return { error, sent: true, retryAfter: retryAfterMs(response.headers.get("retry-after"), Date.now()) };
    } catch (error) {
      this.source.forget();
      const reason = error.cause?.code ?? String(error);
      return { error: new AnalyticsError(`the platform cannot be reached (${reason})`, "unavailable", true), sent: true };
    }
  }
};

// src/server/source.ts
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
var FixedSource = class {
  constructor(writeKey, host) {
    if (typeof writeKey !== "string" || !writeKey.trim()) {
      throw new AnalyticsError("a client needs a write key", "settings");
    }
    this.found = { url: checkedUrl(host ?? process.env["SEGMENT_DO_URL"] ?? DEFAULT_URL), writeKey: writeKey.trim() };
  }
  endpoint() {
    return Promise.resolve(this.found);
  }
  forget() {
    return false;
  }
};
var AgentSource = class {
  constructor(agent, host, token) {
    this.agent = agent;
    this.host = host;
    this.token = token;
  }
  async endpoint(signal) {
    return this.found ??= await this.ensure(signal);
  }
  forget() {
    const known = this.found !== void 0;
    this.found = void 0;
    return known;
  }
  async ensure(signal) {
    const { url, token } = await this.place();
    let response;
    let told;
    try {
      response = await fetch(`${url}/api/sources`, {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ name: this.agent, identity: this.agent, ensure: true }),
        redirect: "error",
        // the token goes where the program said, and nowhere else
        signal
      });
      told = await response.json().catch(() => null);
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
  async place() {
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
};
async function runningAt(path) {
  try {
    const { url } = JSON.parse(await readFile(path, "utf8"));
    return typeof url === "string" ? url : void 0;
  } catch {
    return void 0;
  }
}
var DEFAULT_URL = "http://127.0.0.1:8000";
function checkedUrl(host) {
  let url;
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
function isLoopback(url) {
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

// src/server/analytics.ts
var AGENTS_MAX = 1024;
var agents = /* @__PURE__ */ new Map();
var Analytics = class _Analytics {
  constructor(options, source, agent) {
    this.closed = false;
    this.outbox = new Outbox(source ?? new FixedSource(options.writeKey ?? "", options.host), outboxOptions(options));
    this.onError = options.onError;
    this.agent = agent;
  }
  /**
   * The client of an agent (text, or an object with an id or a name), whose source is made at the first event. It speaks
   * for the agent: an event that names nobody has userId = the agent, or, after `identify(user)`, that user, until
   * `reset()`. The same agent at the same platform gives the same client. Throws when the agent has neither id nor name.
   */
  static for(agent, options = {}) {
    const id = agentId(agent);
    if (id === void 0) throw new AnalyticsError("an agent needs an id or a name", "invalid_request");
    const key = JSON.stringify([id, options.host ?? process.env["SEGMENT_DO_URL"], options.token]);
    let client = agents.get(key);
    if (client === void 0 || client.closed) {
      client = new _Analytics(options, new AgentSource(id, options.host, options.token), id);
    }
    agents.delete(key);
    agents.set(key, client);
    if (agents.size > AGENTS_MAX) agents.delete(agents.keys().next().value);
    return client;
  }
  /** `track("Order Completed", {revenue: 42}, {userId: "u1"})`, or `track({userId, event, properties})`. */
  track(event, properties, options) {
    return this.send("track", event, properties, options);
  }
  /** `identify("u1", {plan: "pro"})`, or `identify({userId, traits})`. */
  identify(userId, traits, options) {
    const stored = this.send("identify", userId, traits, options);
    if (this.agent !== void 0) {
      const user = typeof userId === "object" ? userId["userId"] : userId;
      if (user !== void 0 && user !== null && user !== "") this.identified = String(user);
    }
    return stored;
  }
  page(name, properties, options) {
    return this.send("page", name, properties, options);
  }
  screen(name, properties, options) {
    return this.send("screen", name, properties, options);
  }
  group(groupId, traits, options) {
    return this.send("group", groupId, traits, options);
  }
  /** `alias("new", "old")`: the new id comes first. */
  alias(userId, previousId, options) {
    return this.send("alias", userId, previousId, options);
  }
  /** Many events, spelled as on the wire; queued all or none. Resolves when all are stored. */
  batch(events) {
    return quiet(
      (async () => {
        const stored = [];
        this.queue(events, stored);
        return { messageIds: (await Promise.all(stored)).map((one) => one.messageId) };
      })()
    );
  }
  /** An agent's client speaks for the agent itself again. */
  reset() {
    this.identified = void 0;
  }
  /** Send what is queued; resolves when all of it is settled. Never rejects: each call's own promise tells. */
  flush() {
    return this.outbox.flush();
  }
  /** Take no more events, deliver what is queued for at most `timeout` milliseconds (default 5000), and stop. */
  closeAndFlush({ timeout = 5e3 } = {}) {
    this.closed = true;
    return this.outbox.close(timeout);
  }
  /** Express (and Connect) middleware that tracks each request once its response is done; see MiddlewareOptions. */
  middleware(options = {}) {
    return middleware(this, this.agent !== void 0, options);
  }
  send(kind, first, second, options) {
    const stored = [];
    try {
      this.queue([fieldsOf(kind, first, second, options)], stored);
    } catch (error) {
      return quiet(Promise.reject(error));
    }
    return stored[0];
  }
  /** All of them or, when one is invalid or there is no room, none: then it throws. */
  queue(events, stored) {
    try {
      if (this.closed) throw new AnalyticsError("the client is closed", "client_closed");
      const entries = events.map((fields) => {
        const { json, id } = eventJson(fields, this.identified ?? this.agent, Date.now());
        const entry = { json, id, settle: () => void 0 };
        const promise = new Promise((resolve, reject) => {
          entry.settle = (error) => {
            if (!error) return resolve({ messageId: id });
            this.failed(error, [id]);
            reject(error);
          };
        });
        stored.push(quiet(promise));
        return entry;
      });
      this.outbox.add(entries);
    } catch (error) {
      this.failed(error, []);
      throw error;
    }
  }
  failed(error, messageIds) {
    try {
      this.onError?.(error, messageIds);
    } catch {
    }
  }
};
function quiet(promise) {
  promise.catch(() => void 0);
  return promise;
}
function outboxOptions(options) {
  return {
    flushAt: Math.min(2500, Math.max(1, options.flushAt ?? 15)),
    flushInterval: options.flushInterval ?? 1e3,
    maxQueue: options.maxQueue ?? 1e4,
    maxQueueBytes: options.maxQueueBytes ?? 32 * 2 ** 20,
    retrySeconds: options.retrySeconds ?? 1800,
    timeoutSeconds: options.timeoutSeconds ?? 10,
    gzip: options.gzip ?? true
  };
}
export {
  Analytics,
  AnalyticsError,
  VERSION
};
