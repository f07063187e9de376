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

// src/campaign.ts
function parameters(search) {
  const found2 = {};
  for (const pair of search.replace(/^[?#]/, "").replace(/\?/g, "&").split("&")) {
    const [name, value = ""] = split(pair);
    if (name && !Object.prototype.hasOwnProperty.call(found2, name)) found2[name] = value;
  }
  return found2;
}
function campaign(search) {
  const found2 = {};
  for (const [name, value] of Object.entries(parameters(search))) {
    if (name.startsWith("utm_") && name.length > 4) {
      found2[name === "utm_campaign" ? "name" : name.slice(4)] = value;
    }
  }
  return Object.keys(found2).length ? found2 : void 0;
}
function adReferrer(search) {
  const found2 = parameters(search);
  if (found2["btid"]) return { id: found2["btid"], type: "dataxu" };
  if (found2["urid"]) return { id: found2["urid"], type: "millennial-media" };
  return void 0;
}
function split(pair) {
  const at = pair.indexOf("=");
  return at < 0 ? [decoded(pair)] : [decoded(pair.slice(0, at)), decoded(pair.slice(at + 1))];
}
function decoded(text2) {
  try {
    return decodeURIComponent(text2.replace(/\+/g, " "));
  } catch {
    return text2;
  }
}

// src/cookie.ts
var KEPT = /%(2[346BF]|3[AC-F]|40|5[BDE]|60|7[BCD])/g;
var DAY_SECONDS = 86400;
function readCookie(name) {
  try {
    const found2 = document.cookie.split("; ").find((pair) => pair.startsWith(name + "="));
    return found2 === void 0 ? void 0 : decoded2(found2.slice(name.length + 1));
  } catch {
    return void 0;
  }
}
function writeCookie(name, value, options) {
  try {
    const domain = options.domain ?? topDomain();
    const path = options.path ?? "/";
    if (domain) document.cookie = `${name}=; path=${path}; max-age=0`;
    const seconds = value === null ? -1 : (options.maxage ?? 365) * DAY_SECONDS;
    document.cookie = `${name}=${encodeURIComponent(value ?? "").replace(KEPT, decodeURIComponent)}; path=${path}; expires=${new Date(Date.now() + seconds * 1e3).toUTCString()}; samesite=${options.sameSite ?? "Lax"}` + (domain ? `; domain=${domain}` : "") + (options.secure ? "; secure" : "");
  } catch {
  }
}
var found;
function topDomain() {
  if (found !== void 0) return found;
  const parts = location.hostname.split(".");
  found = "";
  if (parts.length < 2 || /^[\d.]+$/.test(location.hostname)) return found;
  const probe = "__tld__";
  for (let count = 2; count <= parts.length && !found; count++) {
    const domain = parts.slice(-count).join(".");
    document.cookie = `${probe}=1; path=/; domain=${domain}`;
    if (readCookie(probe) !== void 0) {
      document.cookie = `${probe}=; path=/; domain=${domain}; max-age=0`;
      found = domain;
    }
  }
  return found;
}
function decoded2(text2) {
  const bare = text2[0] === '"' ? text2.slice(1, -1) : text2;
  return bare.replace(/(%[\dA-F]{2})+/gi, (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

// src/store.ts
var MemoryStore = class {
  constructor() {
    this.values = /* @__PURE__ */ new Map();
  }
  get(key) {
    return JSON.parse(this.values.get(key) ?? "null");
  }
  set(key, value) {
    this.values.set(key, JSON.stringify(value));
  }
};
var BrowserStore = class {
  constructor(options) {
    this.options = options;
    /** Only what neither of the two places took. */
    this.refused = new MemoryStore();
  }
  get(key, shared) {
    const refused = this.refused.get(key);
    if (refused !== null) return refused;
    const local = read(readLocal(key), shared);
    if (!shared) return local;
    const cookie = read(readCookie(key), true);
    const value = cookie ?? local;
    if (value !== null) {
      if (cookie === null) writeCookie(key, String(value), this.options);
      if (local !== value) writeLocal(key, JSON.stringify(value));
    }
    return value;
  }
  set(key, value, shared) {
    const json = JSON.stringify(value);
    if (shared) writeCookie(key, value === null ? null : String(value), this.options);
    writeLocal(key, value === null ? null : json);
    this.refused.set(key, null);
    if (JSON.stringify(this.get(key, shared)) !== json) this.refused.set(key, value);
  }
};
function readLocal(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
function writeLocal(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}
function read(raw, isId) {
  if (raw === null || raw === void 0 || raw === "") return null;
  let value;
  try {
    value = JSON.parse(raw);
  } catch {
    return raw;
  }
  return isId && value !== null && typeof value !== "string" ? raw : value;
}

// src/version.ts
var VERSION = "0.1.0";

// src/context.ts
var REFERRER_KEY = "s:context.referrer";
function contextOf(page, given, persist) {
  const context = {
    page,
    userAgent: navigator.userAgent,
    locale: navigator.language,
    library: { name: "segment_do.js", version: VERSION },
    timezone: timezone()
  };
  const agentData = navigator.userAgentData;
  if (agentData) context["userAgentData"] = agentData.toJSON ? agentData.toJSON() : agentData;
  const from = campaign(page.search);
  if (from) context["campaign"] = from;
  const referrer = clickId(page.search, persist);
  if (referrer) context["referrer"] = referrer;
  const merged = { ...context, ...given };
  if (isObject(given["page"])) merged["page"] = { ...page, ...given["page"] };
  if (isObject(given["library"])) merged["library"] = { ...context["library"], ...given["library"] };
  return merged;
}
var isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
function clickId(search, persist) {
  const now = adReferrer(search);
  if (!persist) return now;
  if (now) writeLocal(REFERRER_KEY, JSON.stringify(now));
  else {
    try {
      return JSON.parse(readLocal(REFERRER_KEY) ?? "null");
    } catch {
      return void 0;
    }
  }
  return now;
}
function timezone() {
  try {
    return Intl.DateTimeFormat().resolvedOptions().timeZone;
  } catch {
    return void 0;
  }
}

// src/arguments.ts
function callOf(kind, args) {
  const callback = args.find((given2) => typeof given2 === "function");
  const given = args.filter((each) => typeof each !== "function");
  const [first, second] = given;
  const objects = given.filter(isObject);
  if (kind === "alias") {
    return { first: text(first), second: text(second), fields: {}, options: objects[0] ?? {}, callback };
  }
  if (kind === "page" || kind === "screen") {
    const both = typeof second === "string";
    if (objects.length === 1 && given.indexOf(objects[0]) === 3) objects.unshift({});
    const [fields = {}, options = {}] = objects;
    return { first: text(both ? second : first), second: both ? text(first) : void 0, fields, options, callback };
  }
  if (kind === "track" && isObject(first)) {
    return { first: text(first["event"]), fields: object(first["properties"]), options: object(second), callback };
  }
  const next = isObject(first) ? 0 : 1;
  return { first: text(first), fields: object(given[next]), options: object(given[next + 1]), callback };
}
function givenContext(options) {
  const context = {};
  for (const [name, value] of Object.entries(options)) {
    if (!COMMON.includes(name)) context[name] = value;
  }
  return { ...context, ...options.context };
}
var COMMON = ["userId", "anonymousId", "timestamp", "messageId", "context", "integrations"];
function text(value) {
  return typeof value === "number" || typeof value === "string" && value !== "" ? String(value) : void 0;
}
var object = (value) => isObject(value) ? value : {};

// src/emitter.ts
var Emitter = class {
  constructor() {
    this.listeners = /* @__PURE__ */ new Map();
  }
  on(name, listener) {
    this.listeners.set(name, [...this.listeners.get(name) ?? [], listener]);
    return this;
  }
  once(name, listener) {
    const only = (...args) => {
      this.off(name, only);
      listener(...args);
    };
    return this.on(name, only);
  }
  off(name, listener) {
    const left = (this.listeners.get(name) ?? []).filter((each) => each !== listener);
    this.listeners.set(name, left);
    return this;
  }
  emit(name, ...args) {
    for (const listener of this.listeners.get(name) ?? []) {
      try {
        listener(...args);
      } catch (error) {
        if (name !== "error") this.emit("error", { messageId: "", reason: reasonOf(error) });
      }
    }
    return this;
  }
};
function reasonOf(thrown) {
  try {
    return String(thrown);
  } catch {
    return "something without a text was thrown";
  }
}

// src/ids.ts
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = bytes[6] & 15 | 64;
  bytes[8] = bytes[8] & 63 | 128;
  const hex = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
var newMessageId = (nowMs) => `ajs-sdo-${nowMs}-${uuid()}`;

// src/queue.ts
var QUEUE_EVENTS_MAX = 500;
var QUEUE_BYTES_MAX = 512 * 1024;
var EVENT_BYTES_MAX = 32768;
var EVENT_AGE_MAX_MS = 3 * 24 * 3600 * 1e3;
var LEASE_MS = 5 * 60 * 1e3;
var RENEW_MS = LEASE_MS / 5;
var Queue = class {
  constructor(writeKey, persist, nowMs) {
    this.persist = persist;
    this.nowMs = nowMs;
    this.entries = [];
    this.bytes = 0;
    /** The page has said goodbye. */
    this.left = false;
    this.saving = false;
    /** Whether storage holds what memory does. */
    this.saved = false;
    /** Pages before left more than there was room for. */
    this.more = false;
    this.prefix = `sdo_queue.${writeKey}.`;
    this.key = this.prefix + uuid();
  }
  get length() {
    return this.entries.length;
  }
  /** How many are not under way. */
  get ready() {
    return this.entries.reduce((count, entry) => count + (entry.away ? 0 : 1), 0);
  }
  /** Takes an event, or says why not. */
  add(message) {
    const entry = entryOf(message, 0, this.nowMs());
    if (entry.bytes > EVENT_BYTES_MAX) return `the event has ${entry.bytes} bytes; ${EVENT_BYTES_MAX} are allowed`;
    if (!this.fits(entry)) return "the queue is full";
    this.entries.push(entry);
    this.bytes += entry.bytes;
    this.changed();
    return void 0;
  }
  /** The first events that are not under way and were sent equally often, so that one count is true for all. */
  take(eventsMax, bytesMax) {
    const taken = [];
    let room = bytesMax;
    for (const entry of this.entries) {
      if (entry.away) continue;
      room -= entry.bytes + 1;
      if (taken.length >= eventsMax || room < 0 || entry.attempts !== (taken[0] ?? entry).attempts) break;
      taken.push(entry);
    }
    for (const entry of taken) {
      entry.away = true;
      entry.attempts++;
    }
    if (taken.length > 0) this.changed();
    return taken;
  }
  /** Lets go of what is too old to be sent again, and gives it. */
  lapsed() {
    const latest = this.nowMs() - EVENT_AGE_MAX_MS;
    const old = this.entries.filter((entry) => entry.attempts > 0 && !entry.away && entry.bornMs < latest);
    if (old.length > 0) this.remove(old);
    return old;
  }
  /** The platform has answered for these. */
  remove(settled) {
    const gone = new Set(settled);
    this.keep((entry) => !gone.has(entry));
    this.changed();
    if (this.more && this.entries.length === 0) this.adopt();
  }
  /** Takes over what pages before left, as far as there is room. */
  adopt() {
    if (!this.persist) return;
    this.more = false;
    for (const key of this.storedKeys()) {
      if (key === this.key) continue;
      if (!this.hasRoom) {
        this.more = true;
        break;
      }
      const stored = readQueue(key);
      if (stored && this.nowMs() - stored.at < LEASE_MS && stored.at <= this.nowMs()) continue;
      const rest = this.restore(stored?.events ?? []);
      if (rest.length > 0) this.more = true;
      writeLocal(key, rest.length > 0 ? JSON.stringify({ at: 0, events: rest }) : null);
    }
    this.save();
  }
  /** The page lives, and has something to send. */
  renew() {
    if (this.entries.length > 0) this.save();
  }
  /** The page goes away: whoever comes next may take what is left. */
  leave() {
    this.left = true;
    this.save();
  }
  /** The page came back from the browser's cache; what it had may be another page's now. */
  comeBack() {
    if (!this.left) return;
    this.left = false;
    if (this.persist && this.saved) {
      const ours = new Set(readQueue(this.key)?.events.map(([, , message]) => message.messageId));
      this.keep((entry) => ours.has(entry.id));
    }
    this.save();
  }
  /** Whether what was stored is of a page that has said goodbye, and ours to take over. */
  isLeft(key, value) {
    return !!key?.startsWith(this.prefix) && key !== this.key && !!value?.startsWith(GOODBYE);
  }
  keep(wanted) {
    this.entries = this.entries.filter(wanted);
    this.bytes = this.entries.reduce((sum, entry) => sum + entry.bytes, 0);
  }
  /** For any event at all. */
  get hasRoom() {
    return this.entries.length < QUEUE_EVENTS_MAX && this.bytes + EVENT_BYTES_MAX <= QUEUE_BYTES_MAX;
  }
  fits(entry) {
    return this.entries.length < QUEUE_EVENTS_MAX && this.bytes + entry.bytes <= QUEUE_BYTES_MAX;
  }
  /** Puts older events in front; gives back those for which there is no room. */
  restore(events) {
    const known = new Set(this.entries.map((entry) => entry.id));
    const older = [];
    const rest = [];
    for (const stored of events) {
      const [attempts, bornMs, message] = stored;
      const entry = entryOf(message, attempts, bornMs);
      if (known.has(entry.id)) continue;
      if (older.length + this.entries.length >= QUEUE_EVENTS_MAX || !this.fits(entry)) {
        rest.push(stored);
        continue;
      }
      older.push(entry);
      this.bytes += entry.bytes;
    }
    this.entries.unshift(...older);
    return rest;
  }
  /** Written once a task, right after the code that runs now: a burst of calls costs one write. */
  changed() {
    if (this.saving) return;
    this.saving = true;
    void Promise.resolve().then(() => this.save());
  }
  save() {
    this.saving = false;
    if (!this.persist) return;
    const events = this.entries.map((entry) => `[${entry.attempts},${entry.bornMs},${entry.json}]`);
    const at = this.left ? GOODBYE : `{"at":${this.nowMs()},`;
    this.saved = writeLocal(this.key, events.length ? `${at}"events":[${events.join(",")}]}` : null);
  }
  storedKeys() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
    } catch {
      return [];
    }
  }
};
var GOODBYE = '{"at":0,';
function entryOf(message, attempts, bornMs) {
  const json = JSON.stringify(message);
  const bytes = new TextEncoder().encode(json).length;
  return { id: message.messageId, type: message.type, json, bytes, bornMs, attempts, away: false };
}
function readQueue(key) {
  try {
    const { at, events } = JSON.parse(readLocal(key));
    return { at, events: events.filter(isStored) };
  } catch {
    return null;
  }
}
function isStored(given) {
  const [attempts, bornMs, message] = Array.isArray(given) ? given : [];
  const isEvent = isObject(message) && typeof message["messageId"] === "string" && typeof message["type"] === "string";
  return typeof attempts === "number" && typeof bornMs === "number" && isEvent;
}

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
  const text2 = header.trim();
  const asked = /^\d+$/.test(text2) ? Number(text2) * 1e3 : Date.parse(text2) - nowMs;
  return Number.isNaN(asked) ? void 0 : Math.min(Math.max(0, asked), MAX_RETRY_AFTER_MS);
}
function waitMs(failures, asked, random) {
  return asked ? asked + random * FIRST_BACKOFF_MS : backoffMs(failures, random);
}

// src/delivery.ts
var REQUEST_BYTES_MAX = 6e4;
var KEEPALIVE_BYTES_MAX = 65536;
var REQUEST_TIMEOUT_MS = 3e4;
var ATTEMPTS_MAX = 100;
var Delivery = class {
  constructor(queue, options, told) {
    this.queue = queue;
    this.options = options;
    this.told = told;
    this.busy = false;
    this.failures = 0;
    /** The platform answered that it wants to be left alone; otherwise it was not reached. */
    this.wished = false;
    this.flushing = [];
    /** Bytes under way that may outlive the page. */
    this.bytesAway = 0;
    this.envelopeBytes = 100 + 3 * options.writeKey.length;
  }
  /** Something was queued. */
  wake() {
    if (this.queue.left) this.leave();
    else if (this.queue.ready >= this.options.batchEvents) this.send();
    else if (this.linger === void 0 && !this.busy) {
      this.linger = setTimeout(() => {
        this.linger = void 0;
        this.send();
      }, this.options.lingerMs);
    }
  }
  /** Sends now what waits; true when nothing is left, false when something has to wait for the network or the platform. */
  flush() {
    return new Promise((resolve) => {
      this.flushing.push(resolve);
      this.send();
      this.settleFlush();
    });
  }
  /** The network is there again, or events of a page before are. A wait that the platform asked for goes on. */
  online() {
    if (!this.wished) {
      clearTimeout(this.pause);
      this.pause = void 0;
      this.failures = 0;
    }
    this.send();
  }
  /** The page may go away: everything leaves now, as far as browsers allow, and stays in the queue until answered. */
  leave() {
    if (this.pause !== void 0 || !isOnline()) return;
    for (; ; ) {
      const room = Math.min(REQUEST_BYTES_MAX, KEEPALIVE_BYTES_MAX - this.bytesAway - this.envelopeBytes);
      const batch = room > 0 ? this.queue.take(this.options.delivery === "single" ? 1 : Infinity, room) : [];
      if (batch.length === 0) return;
      void this.attempt(batch, true).then(() => this.settleFlush());
    }
  }
  send() {
    if (this.busy || this.pause !== void 0 || !isOnline()) return;
    const old = this.queue.lapsed();
    if (old.length > 0) this.told("delivery_failure", { messageIds: idsOf(old), status: 0, reason: "too old to be sent again" });
    const batch = this.queue.take(this.options.delivery === "single" ? 1 : this.options.batchEvents, REQUEST_BYTES_MAX);
    if (batch.length === 0) return;
    clearTimeout(this.linger);
    this.linger = void 0;
    this.busy = true;
    void this.attempt(batch).then((settled) => {
      this.busy = false;
      if (settled && (this.flushing.length > 0 || this.options.delivery === "single" || batch[0].attempts > 1)) {
        this.send();
      } else if (settled && this.queue.ready > 0) {
        this.wake();
      }
      this.settleFlush();
    });
  }
  /** One request and what follows from its answer; true when the platform has answered for good. Never rejects. */
  async attempt(batch, leaving = false) {
    const { attempts } = batch[0];
    const { status, retryAfter, reason } = await this.post(batch, leaving);
    const what = { messageIds: idsOf(batch), status, reason };
    if (!isRetryable(status)) {
      this.failures = 0;
      this.queue.remove(batch);
      this.told(status < 400 ? "delivery_success" : "delivery_failure", what);
      return true;
    }
    for (const entry of batch) entry.away = false;
    if (attempts >= ATTEMPTS_MAX) {
      this.queue.remove(batch);
      this.told("delivery_failure", what);
    } else {
      this.told("delivery_retry", what);
    }
    this.failures++;
    this.wished = status !== 0;
    const wait = waitMs(this.failures, retryAfterMs(retryAfter, Date.now()), Math.random());
    clearTimeout(this.pause);
    this.pause = setTimeout(() => {
      this.pause = void 0;
      this.send();
    }, wait);
    return false;
  }
  async post(batch, leaving) {
    const { writeKey, apiHost, delivery } = this.options;
    const { attempts, type, json } = batch[0];
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes + 1, this.envelopeBytes);
    const single = delivery === "single" && bytes <= EVENT_BYTES_MAX;
    const envelope = `"writeKey":${JSON.stringify(writeKey)},"sentAt":"${(/* @__PURE__ */ new Date()).toISOString()}"}`;
    const url = `${apiHost}/v1/${single ? type[0] : "b"}`;
    const body = single ? `${json.slice(0, -1)},${envelope}` : `{"batch":[${batch.map((entry) => entry.json).join(",")}],${envelope}`;
    const headers = { "Content-Type": "text/plain" };
    if (attempts > 1) headers["X-Retry-Count"] = String(attempts - 1);
    const keepalive = this.bytesAway + bytes <= KEEPALIVE_BYTES_MAX;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), REQUEST_TIMEOUT_MS);
    if (keepalive) this.bytesAway += bytes;
    try {
      if (leaving && !("keepalive" in Request.prototype)) {
        return { status: 0, reason: navigator.sendBeacon(url, body) ? "a beacon has no answer" : "no beacon was taken" };
      }
      const response = await fetch(url, {
        method: "POST",
        body,
        headers,
        keepalive,
        credentials: "omit",
        redirect: "error",
        signal: limit.signal
      });
      return {
        status: response.status,
        retryAfter: response.headers.get("Retry-After"),
        reason: `the platform answered ${response.status}`
      };
    } catch (error) {
      return { status: 0, reason: reasonOf(error) };
    } finally {
      clearTimeout(timer);
      if (keepalive) this.bytesAway -= bytes;
    }
  }
  settleFlush() {
    const empty = this.queue.length === 0;
    if (this.flushing.length === 0 || !empty && (this.busy || this.queue.ready === 0)) return;
    for (const resolve of this.flushing.splice(0)) resolve(empty);
  }
};
var idsOf = (batch) => batch.map((entry) => entry.id);
var isOnline = () => navigator.onLine !== false;

// src/identity.ts
var Group = class {
  constructor(store, idKey = "ajs_group_id", traitsKey = "ajs_group_properties") {
    this.store = store;
    this.idKey = idKey;
    this.traitsKey = traitsKey;
  }
  /** The id, null when there is none; with an argument also sets it (null: removes). */
  id(id) {
    if (id !== void 0) this.store.set(this.idKey, asText(id), true);
    return asText(this.store.get(this.idKey, true));
  }
  /** A copy of the traits; with an argument also replaces them. */
  traits(traits) {
    if (traits !== void 0) this.store.set(this.traitsKey, traits ?? {}, false);
    const found2 = this.store.get(this.traitsKey, false);
    return isObject(found2) ? found2 : {};
  }
  /** Traits add to those that are there, unless the id is another one than before. */
  identify(id, traits) {
    const before = this.id();
    const kept = before === null || id === void 0 || before === id ? this.traits() : {};
    this.traits({ ...kept, ...traits });
    if (id !== void 0) this.id(id);
  }
  reset() {
    this.id(null);
    this.traits({});
  }
  logout() {
    this.reset();
  }
};
var ANONYMOUS = "ajs_anonymous_id";
var User = class extends Group {
  constructor(store, speaker) {
    super(store, "ajs_user_id", "ajs_user_traits");
    this.speaker = speaker;
  }
  id(id) {
    if (id !== void 0 && id !== null) {
      const before = super.id();
      if (before !== null && before !== asText(id)) this.store.set(ANONYMOUS, null, true);
    }
    return super.id(id) ?? this.speaker ?? null;
  }
  /** Made at the first look where there is none, never for an agent; with an argument also sets it (null: a new one). */
  anonymousId(id) {
    if (id !== void 0) this.store.set(ANONYMOUS, asText(id), true);
    const found2 = asText(this.store.get(ANONYMOUS, true));
    if (found2 !== null) return found2;
    if (this.speaker !== void 0) return void 0;
    const made = uuid();
    this.store.set(ANONYMOUS, made, true);
    return made;
  }
  reset() {
    this.store.set(ANONYMOUS, null, true);
    super.reset();
  }
};
var asText = (value) => text(value) ?? null;

// src/links.ts
function listen(elements, kind, name, fields, happened) {
  if (!elements) return;
  for (const element of "addEventListener" in elements ? [elements] : Array.from(elements)) {
    element.addEventListener(kind, () => {
      try {
        const event = typeof name === "function" ? name(element) : name;
        happened(event, (typeof fields === "function" ? fields(element) : fields) ?? {});
      } catch {
      }
    });
  }
}

// src/options.ts
var BATCH_EVENTS = 10;
var BATCH_EVENTS_MAX = 100;
var LINGER_MS = 1e3;
function deliveryOptions(writeKey, options, scriptHost) {
  const given = options.integrations?.["Segment.io"];
  const theirs = isObject(given) ? given : {};
  const strategy = isObject(theirs["deliveryStrategy"]) ? theirs["deliveryStrategy"] : {};
  const config = isObject(strategy["config"]) ? strategy["config"] : {};
  const ownHost = location.protocol.startsWith("http") ? location.origin : "";
  const host = options.apiHost || theirs["apiHost"] || scriptHost || ownHost;
  if (!host) throw new Error("load() needs apiHost: this page has no host of its own");
  const delivery = options.delivery ?? (strategy["strategy"] === "standard" ? "single" : "batch");
  return {
    writeKey,
    apiHost: address(String(host), theirs["protocol"]),
    delivery,
    batchEvents: between(1, options.batchEvents ?? config["size"], BATCH_EVENTS_MAX, BATCH_EVENTS),
    lingerMs: between(0, options.lingerMs ?? config["timeout"], 6e4, LINGER_MS)
  };
}
function address(host, protocol) {
  const bare = host.trim().replace(/^\/+/, "").replace(/\/+$/, "").replace(/\/v1$/, "");
  if (/^https?:\/\//.test(bare)) return bare;
  return `${typeof protocol === "string" ? protocol.replace(/:?\/*$/, "") : "https"}://${bare}`;
}
function between(least, given, most, otherwise) {
  const number = typeof given === "number" && !Number.isNaN(given) ? given : otherwise;
  return Math.min(most, Math.max(least, number));
}

// src/page.ts
function pageFacts() {
  const { pathname, href, search } = location;
  const canonical = document.querySelector("link[rel=canonical]")?.getAttribute("href");
  let path = pathname;
  let url = href.split("#")[0];
  if (canonical) {
    try {
      const given = new URL(canonical, href);
      path = given.pathname;
      url = given.search ? given.href : given.href.split("#")[0] + search;
    } catch {
    }
  }
  return { path, referrer: document.referrer, search, title: document.title, url };
}
function queuedFacts(last) {
  const given = last;
  if (typeof given !== "object" || given === null || given["__t"] !== "bpc") return void 0;
  const url = given["c"] ?? given["u"] ?? location.href;
  let path = given["p"] ?? location.pathname;
  if (given["c"]) {
    try {
      path = new URL(given["c"], location.href).pathname;
    } catch {
    }
  }
  return {
    path,
    referrer: given["r"] ?? "",
    search: given["s"] ?? "",
    title: given["t"] ?? "",
    url: url.split("#")[0]
  };
}

// src/pipeline.ts
var PIPELINE_EVENTS_MAX = 500;
var DESTINATION = "Segment.io";
var Pipeline = class {
  constructor(out, failed) {
    this.out = out;
    this.failed = failed;
    this.source = [];
    this.destination = [];
    this.waiting = 0;
  }
  addSource(middleware) {
    this.source.push(stepOf(middleware));
  }
  /** Only those for "Segment.io" ever run: there are no destinations inside the page. */
  addDestination(name, middlewares) {
    if (name === DESTINATION) {
      for (const middleware of middlewares) this.destination.push(stepOf(middleware, name));
    }
  }
  /** The event itself where nothing can happen to it; else a copy, so that no step changes what the caller goes on using. */
  own(message) {
    return this.source.length || this.destination.length || this.consent ? copied(message) : message;
  }
  /** Resolves when the event is in the queue, or taken out of the stream; undefined when that is so already. */
  run(message) {
    if (this.tail) {
      if (this.waiting >= PIPELINE_EVENTS_MAX) {
        this.failed(message, "too many events wait for middleware or consent");
        return void 0;
      }
      return this.wait(this.tail.then(() => this.through(message)));
    }
    const going = this.through(message);
    return going && this.wait(going);
  }
  wait(going) {
    this.waiting++;
    const mine = going.then(() => {
      this.waiting--;
      if (this.tail === mine) this.tail = void 0;
    });
    this.tail = mine;
    return mine;
  }
  /** Runs the steps; a promise only where one of them is asynchronous. Never rejects. */
  through(message) {
    const steps = [...this.source, (given) => this.stamped(given), ...this.destination];
    const from = (given, index) => {
      try {
        for (let at = index; given && at < steps.length; at++) {
          const result = steps[at](given);
          if (isThenable(result)) {
            return Promise.resolve(result).then(
              (later) => from(later, at + 1),
              (error) => this.failed(message, reasonOf(error))
            );
          }
          given = result;
        }
        if (given) this.out(given);
      } catch (error) {
        this.failed(message, reasonOf(error));
      }
      return void 0;
    };
    return from(message, 0);
  }
  /** Consent that cannot be asked is consent to nothing: no category is allowed. */
  stamped(message) {
    if (!this.consent) return message;
    const stamp = (answer) => {
      const given = message.context["consent"];
      const consent = { ...isObject(given) ? given : {}, categoryPreferences: isObject(answer) ? answer : {} };
      return { ...message, context: { ...message.context, consent } };
    };
    try {
      const asked = this.consent.categories();
      return isThenable(asked) ? Promise.resolve(asked).then(stamp, () => stamp({})) : stamp(asked);
    } catch {
      return stamp({});
    }
  }
};
function stepOf(middleware, integration) {
  return (message) => {
    let passed = null;
    const next = (payload) => {
      passed = payload === void 0 ? message : payload?.obj ?? null;
    };
    const result = middleware({ payload: { obj: message }, next, integrations: message.integrations, integration });
    if (isThenable(result)) return Promise.resolve(result).then(() => passed);
    return passed;
  };
}
var isThenable = (value) => typeof value === "object" && value !== null && typeof value.then === "function";
function copied(value) {
  if (Array.isArray(value)) return value.map(copied);
  const isPlain = isObject(value) && Object.prototype.toString.call(value) === "[object Object]" && typeof value["toJSON"] !== "function";
  if (!isPlain) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, copied(each)]));
}

// src/query.ts
function obeyQuery(search, client, { aid = /./, uid = /./ }) {
  if (!search.includes("ajs_")) return;
  const given = parameters(search);
  if (given["ajs_aid"] && aid.test(given["ajs_aid"])) client.setAnonymousId(given["ajs_aid"]);
  if (given["ajs_uid"] && uid.test(given["ajs_uid"])) client.identify(given["ajs_uid"], named(given, "ajs_trait_"));
  if (given["ajs_event"]) client.track(given["ajs_event"], named(given, "ajs_prop_"));
}
function named(given, prefix) {
  const found2 = {};
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith(prefix)) found2[name.slice(prefix.length)] = value;
  }
  return found2;
}

// src/client.ts
var EARLY_CALLS_MAX = 500;
var FIRST = ["on", "once", "off", "debug", "addSourceMiddleware", "addDestinationMiddleware", "setAnonymousId"];
var Client = class {
  /** `agent`: whom events speak for that name no user; then nothing is read from or written to the visitor's identity. */
  constructor(agent) {
    this.agent = agent;
    /** The snippet looks at these three before it does anything. */
    this.initialize = true;
    this.invoked = true;
    this.initialized = false;
    this.VERSION = VERSION;
    this.emitter = new Emitter();
    this.pipeline = new Pipeline(
      (message) => this.enqueue(message),
      (message, reason) => this.fail(message.messageId, reason)
    );
    this.early = [];
    this.options = {};
    this.people = new User(new MemoryStore());
    this.company = new Group(new MemoryStore());
    this.talking = false;
    /** Ends what the client hears of its page. */
    this.hearing = new AbortController();
  }
  /** Begin: `load("writeKey", {apiHost: "https://cdp.example.com"})`. Loading again does nothing. */
  load(writeKey, given, scriptHost) {
    return this.safely(() => {
      const options = given ?? {};
      if (this.initialized || typeof window === "undefined") return;
      if (typeof writeKey !== "string" || !writeKey) {
        this.fail("", "load() needs a write key");
        return;
      }
      this.options = options;
      const store = this.persists() ? new BrowserStore(options.cookie ?? {}) : new MemoryStore();
      this.people = new User(store, this.agent);
      this.company = new Group(store);
      if (this.givenAnonymousId !== void 0) this.people.anonymousId(this.givenAnonymousId);
      this.pipeline.consent = options.consent;
      if (!options.disable && options.integrations?.["Segment.io"] !== false) this.connect(writeKey, scriptHost);
      this.initialized = true;
      this.emitter.emit("initialize", { writeKey }, options);
      const fromQuery = options.useQueryString ?? true;
      if (fromQuery && this.agent === void 0) obeyQuery(location.search, this, fromQuery === true ? {} : fromQuery);
      for (const call of this.early.splice(0)) call();
      if (options.initialPageview) void this.page();
      this.emitter.emit("ready");
    });
  }
  track(...args) {
    return this.call("track", args);
  }
  identify(...args) {
    return this.call("identify", args);
  }
  /** A page was seen: `page()`, `page("Pricing")`, `page("Docs", "Start", {…})` (category, name, properties). */
  page(...args) {
    return this.call("page", args);
  }
  /** A screen of an app was seen; arguments as in `page`. */
  screen(...args) {
    return this.call("screen", args);
  }
  group(...args) {
    return args.length === 0 ? this.company : this.call("group", args);
  }
  alias(...args) {
    return this.call("alias", args);
  }
  user() {
    return this.people;
  }
  setAnonymousId(id) {
    if (!this.initialized) this.givenAnonymousId = id;
    return this.safely(() => this.initialized && this.people.anonymousId(id));
  }
  /** Forget who the visitor is: the next event has a new anonymous id. */
  reset() {
    return this.soon(() => {
      this.people.reset();
      this.company.reset();
      this.emitter.emit("reset");
    });
  }
  /** Called once loaded; the promise resolves then. */
  ready(callback) {
    return new Promise((resolve) => {
      const go = () => {
        resolve();
        return callback?.();
      };
      if (this.initialized) this.safely(go);
      else this.emitter.once("ready", go);
    });
  }
  on(name, listener) {
    this.emitter.on(name, listener);
    return this;
  }
  once(name, listener) {
    this.emitter.once(name, listener);
    return this;
  }
  off(name, listener) {
    this.emitter.off(name, listener);
    return this;
  }
  emit(name, ...args) {
    this.emitter.emit(name, ...args);
    return this;
  }
  addSourceMiddleware(middleware) {
    this.pipeline.addSource(middleware);
    return this;
  }
  /** "Segment.io" is the one destination inside a page; middleware for others is never called. */
  addDestinationMiddleware(name, ...middlewares) {
    this.pipeline.addDestination(name, middlewares);
    return this;
  }
  /** Track clicks on links; `event` and `properties` may be functions of the element. */
  trackLink(links, event, properties) {
    return this.listening(links, "click", event, properties);
  }
  /** Track submitted forms, likewise. */
  trackForm(forms, event, properties) {
    return this.listening(forms, "submit", event, properties);
  }
  trackClick(links, event, properties) {
    return this.trackLink(links, event, properties);
  }
  trackSubmit(forms, event, properties) {
    return this.trackForm(forms, event, properties);
  }
  /** Send what is queued; true when the platform has answered for all of it. */
  flush() {
    return Promise.resolve(this.delivery?.flush() ?? true);
  }
  /** Hear of the page no more. What is queued still leaves; on the last moments of the page nothing does. */
  forget() {
    this.hearing.abort();
  }
  /** analytics.js's older spelling of `page({path})`. */
  pageview(path) {
    return this.page(path === void 0 ? {} : { path });
  }
  /** analytics.js has plugins, which are not run here, and a time to wait for them. Pages that ask for either go on. */
  register(..._plugins) {
    return Promise.resolve(this.fail("", "plugins are not run"));
  }
  deregister(..._names) {
    return Promise.resolve();
  }
  timeout(_milliseconds) {
  }
  /** Say on the console what happens. */
  debug(on = true) {
    this.talking = on;
    return this;
  }
  /** A call by its name, as the snippet queues them: `["track", "Signed Up"]`. */
  invoke(call) {
    const [name, ...args] = Array.from(call);
    const method = this[String(name)];
    if (typeof method !== "function") return void 0;
    return this.safely(() => method.apply(this, args));
  }
  /** The old array's own method, for pages that push calls. */
  push(...calls) {
    for (const call of calls) this.invoke(call);
  }
  /** Calls that the snippet queued, those first that prepare the others. */
  replay(calls) {
    const first = (call) => FIRST.includes(String(call[0]));
    for (const call of calls) if (first(call)) this.invoke(call);
    for (const call of calls) if (!first(call) && call[0] !== "load") this.invoke(call);
  }
  call(kind, args) {
    return new Promise((resolve) => {
      const lost = () => resolve({});
      this.safely(() => {
        if (typeof window === "undefined") return lost();
        const queued = queuedFacts(args[args.length - 1]);
        const page = queued ?? pageFacts();
        const call = callOf(kind, queued ? args.slice(0, -1) : args);
        const timestamp = call.options.timestamp ?? /* @__PURE__ */ new Date();
        this.soon(() => {
          const message = this.messageOf(kind, call, page, timestamp);
          if (!message) return lost();
          this.tell(kind, call);
          const done = () => {
            resolve({ event: message });
            if (call.callback) this.safely(() => call.callback({ event: message }));
          };
          const waiting = this.accepts(message) ? this.pipeline.run(message) : void 0;
          if (waiting) void waiting.then(done);
          else done();
        }, lost);
      }, lost);
    });
  }
  messageOf(kind, call, page, timestamp) {
    const { first, second, fields, options } = call;
    const own = {};
    const user = this.people;
    const anonymousId = text(options.anonymousId);
    if (anonymousId !== void 0 && this.agent === void 0) user.anonymousId(anonymousId);
    let userId = text(options.userId) ?? user.id() ?? void 0;
    if (kind === "track") {
      if (!first) return void this.fail("", "track() needs the event's name");
      own.event = first;
      own.properties = fields;
    } else if (kind === "identify") {
      user.identify(first, fields);
      userId = user.id() ?? userId;
      own.traits = user.traits();
    } else if (kind === "group") {
      this.company.identify(first, fields);
      const groupId = this.company.id();
      if (!groupId) return void this.fail("", "group() needs an id");
      own.groupId = groupId;
      own.traits = this.company.traits();
    } else if (kind === "alias") {
      if (!first) return void this.fail("", "alias() needs the new id");
      own.previousId = second ?? user.id() ?? user.anonymousId();
      userId = first;
    } else {
      const named2 = {};
      if (first !== void 0) own.name = named2["name"] = first;
      if (second !== void 0) own.category = named2["category"] = second;
      own.properties = kind === "page" ? { ...page, ...fields, ...named2 } : fields;
    }
    return this.pipeline.own({
      ...own,
      type: kind,
      messageId: text(options.messageId) ?? newMessageId(Date.now()),
      timestamp,
      userId,
      anonymousId: anonymousId ?? user.anonymousId(),
      context: contextOf(kind === "page" ? factsIn(own.properties, page) : page, givenContext(options), this.persists()),
      integrations: { ...this.options.integrations, ...options.integrations }
    });
  }
  /** An event that must not go to "Segment.io" goes nowhere: a page has no other destination. */
  accepts(message) {
    return message.integrations["Segment.io"] !== false && !this.options.disable;
  }
  enqueue(message) {
    if (!this.queue || message.integrations["Segment.io"] === false) return;
    const refused = this.queue.add(message);
    if (refused) return this.fail(message.messageId, refused);
    if (this.talking) console.log("segment_do", message.type, message);
    this.delivery.wake();
  }
  connect(writeKey, scriptHost) {
    const where = deliveryOptions(writeKey, this.options, scriptHost);
    const queue = this.queue = new Queue(writeKey, !this.options.disableClientPersistence, Date.now);
    const delivery = this.delivery = new Delivery(queue, where, (name, what) => {
      if (this.talking) console.log("segment_do", name, what);
      this.emitter.emit(name, what);
    });
    const adopt = () => {
      queue.adopt();
      if (queue.length > 0) delivery.online();
    };
    const { signal } = this.hearing;
    addEventListener("online", () => delivery.online(), { signal });
    const hide = () => {
      if (document.visibilityState === "hidden") delivery.leave();
    };
    document.addEventListener("visibilitychange", hide, { signal });
    const leave = () => {
      delivery.leave();
      queue.leave();
    };
    addEventListener("pagehide", leave, { signal });
    const comeBack = (shown) => {
      if (!shown.persisted) return;
      queue.comeBack();
      adopt();
    };
    addEventListener("pageshow", comeBack, { signal });
    const inherit = ({ key, newValue }) => {
      if (queue.isLeft(key, newValue) && document.visibilityState === "visible") adopt();
    };
    addEventListener("storage", inherit, { signal });
    const renewing = setInterval(() => queue.renew(), RENEW_MS);
    signal.addEventListener("abort", () => clearInterval(renewing));
    adopt();
  }
  listening(on, kind, event, properties) {
    return this.safely(
      () => listen(on, kind, event, properties, (name, fields) => {
        void this.track(name, fields);
        void this.flush();
      })
    );
  }
  /** What listeners hear of a call, in analytics.js's order. */
  tell(kind, call) {
    const { first, second, fields, options } = call;
    if (kind === "page" || kind === "screen") this.emitter.emit(kind, second, first, fields, options);
    else if (kind === "alias") this.emitter.emit(kind, first, second, options);
    else this.emitter.emit(kind, first, fields, options);
  }
  soon(action, lost) {
    return this.safely(() => {
      if (this.initialized) this.safely(action, lost);
      else if (this.early.length < EARLY_CALLS_MAX) this.early.push(() => this.safely(action, lost));
      else lost?.();
    });
  }
  /** Whether the visitor's identity is read and written. */
  persists() {
    return !this.options.disableClientPersistence && !this.options.disable && this.agent === void 0;
  }
  fail(messageId, reason) {
    if (this.talking) console.warn("segment_do", reason);
    this.emitter.emit("error", { messageId, reason });
  }
  safely(action, otherwise) {
    try {
      action();
    } catch (error) {
      this.fail("", reasonOf(error));
      otherwise?.();
    }
    return this;
  }
};
function factsIn(properties, page) {
  const facts = { ...page };
  for (const name of Object.keys(page)) {
    const given = properties[name];
    if (typeof given === "string") facts[name] = given;
  }
  return facts;
}

// src/analytics.ts
var AGENTS_MAX = 100;
var agents = /* @__PURE__ */ new Map();
function analytics(given) {
  const { writeKey, ...options } = given ?? {};
  return new Client().load(writeKey, options);
}
function forAgent(agent, given) {
  const { writeKey, ...options } = given ?? {};
  const id = agentId(agent);
  const key = JSON.stringify([id, writeKey, options.apiHost]);
  let client = agents.get(key);
  if (client === void 0) {
    client = new Client(id ?? "").load(writeKey, { ...options, disable: options.disable || id === void 0 });
    if (id === void 0) console.error("segment_do: an agent needs an id or a name");
  }
  agents.delete(key);
  agents.set(key, client);
  if (agents.size > AGENTS_MAX) {
    const [oldest, forgotten] = agents.entries().next().value;
    agents.delete(oldest);
    forgotten.forget();
  }
  return client;
}
var Analytics = Object.assign(analytics, { for: forAgent });
export {
  Analytics,
  Client,
  VERSION
};
