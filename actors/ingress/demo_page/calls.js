// The list of events: what became of each call, from the SDK's own word and from the platform's live stream.
//
// A call is "waiting" until consent lets it go, "queued" once it is in the SDK's queue, "accepted" at the platform's 200, and
// "stored" when it comes back on the live stream. Events that others send with the same key are shown as well.

/** Rows kept; of more, the oldest goes. */
const ROWS_MAX = 60;
const AGAIN_MS = 2000;

const element = (tag, name = "", text = "") => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
};
const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false }) + `.${String(new Date(time).getMilliseconds()).padStart(3, "0")}`;
const titleOf = ({ type, event, name, category, groupId, userId }) =>
  event ?? (category && name ? `${category} / ${name}` : name) ?? (type === "group" ? groupId : userId) ?? "";

class Row {
  constructor(type, title, called) {
    this.type = type;
    this.called = called;
    this.element = element("li", "new");
    this.details = element("details");
    const summary = element("summary");
    this.title = element("span", "what", title);
    this.took = element("span", "took");
    this.steps = {};
    const steps = element("span", "steps");
    for (const [name, text] of [["queued", "queued"], ["accepted", "accepted"], ["stored", "stored"]]) {
      steps.append((this.steps[name] = element("span", "", text)));
    }
    this.id = element("span", "id");
    summary.append(element("span", `kind ${type}`, type), this.title, this.took, steps, this.id);
    this.more = element("div", "more");
    this.more.append(element("p", "hint", "Not stored yet."));
    this.details.append(summary, this.more);
    this.element.append(this.details);
  }

  step(name, text = name, state = "done") {
    this.steps[name].textContent = text;
    this.steps[name].className = state;
  }

  stored(event, live) {
    if (this.event) return false;
    this.event = event;
    this.title.textContent = titleOf(event);
    if (!this.called) {
      this.step("queued", live ? "sent elsewhere" : "sent earlier");
    }
    // What was stored was accepted; the SDK may hear of it a moment later.
    if (this.steps.accepted.className !== "done") this.step("accepted", "accepted");
    this.step("stored");
    this.took.textContent = this.called && live ? `${Math.round(performance.now() - this.called)} ms` : clock(event.receivedAt);
    const facts = element("dl", "facts");
    for (const name of ["timestamp", "receivedAt", "userId", "anonymousId"]) {
      if (event[name] != null) facts.append(element("dt", "", name), element("dd", "", event[name]));
    }
    const text = element("pre", "code");
    text.tabIndex = 0;
    text.setAttribute("aria-label", "The event as it is stored");
    text.append(element("code", "", JSON.stringify(event, null, 2)));
    this.more.replaceChildren(facts, text);
    return true;
  }
}

export class Calls {
  /** `changed()` is called when an event was stored, or who the visitor is may have changed. */
  constructor(changed) {
    this.changed = changed;
    this.list = document.querySelector("#events");
    this.rows = []; // newest first
    this.unnamed = []; // called, and without a messageId until the SDK queues them, in order
    this.count = 0;
    this.listen();
    document.addEventListener("visibilitychange", () => this.listen());
    addEventListener("pagehide", () => this.stream?.close());
  }

  /** Hear what the SDK does; `call(name, …)` reaches it now or once it is there. */
  follow(call) {
    for (const type of ["track", "identify", "page", "screen", "group", "alias"]) {
      call("on", type, (first, second) => {
        const title = type === "page" || type === "screen" ? titleOf({ category: first, name: second }) : String(first ?? "");
        const row = this.add(new Row(type, title, performance.now()));
        row.step("queued", "waiting for consent", "held");
        this.unnamed.push(row);
        this.changed();
      });
    }
    call("on", "reset", () => this.changed());
    call("on", "error", ({ messageId }) => {
      // One that has no row by its id was refused in the call itself: it is the last.
      const row = this.find(messageId) ?? (messageId ? this.unnamed.pop() : undefined);
      row?.step("queued", "not taken", "failed");
    });
    // Runs once consent is given, right before the event is queued.
    call("addDestinationMiddleware", "Segment.io", ({ payload, next }) => {
      next(payload);
      const row = this.unnamed.shift();
      if (!row) return;
      row.messageId = row.id.textContent = payload.obj.messageId;
      row.called = performance.now();
      row.step("queued");
      this.changed();
    });
    call("on", "delivery_success", ({ messageIds, status }) => this.each(messageIds, (row) => row.step("accepted", `accepted ${status}`)));
    call("on", "delivery_retry", ({ messageIds }) => this.each(messageIds, (row) => row.step("accepted", "trying again", "held")));
    call("on", "delivery_failure", ({ messageIds, status }) =>
      this.each(messageIds, (row) => row.step("accepted", `refused ${status}`, "failed")));
  }

  /** The live stream, while the page is looked at: a browser has few connections for all its tabs. */
  listen() {
    clearTimeout(this.again);
    this.stream?.close();
    if (document.hidden) return;
    const stream = (this.stream = new EventSource("/demo/events"));
    stream.addEventListener("connected", async () => {
      // What was stored before the stream began, or while it was away.
      const answer = await fetch("/demo/recent").catch(() => undefined);
      if (!answer?.ok) return this.retry(stream);
      const { events } = await answer.json();
      for (const event of events.reverse()) this.store(fromRow(event), false);
      this.say("Live", true);
    });
    stream.addEventListener("event", ({ data }) => this.store(JSON.parse(data), true));
    stream.addEventListener("error", () => {
      this.say("Reconnecting", false);
      if (stream.readyState === EventSource.CLOSED) this.retry(stream);
    });
  }

  retry(stream) {
    stream.close();
    if (stream !== this.stream) return;
    clearTimeout(this.again);
    this.again = setTimeout(() => this.listen(), AGAIN_MS);
  }

  store(event, live) {
    let row = this.find(event.messageId);
    if (!row) {
      const received = Date.parse(event.receivedAt);
      const before = this.rows.findIndex((other) => other.event && Date.parse(other.event.receivedAt) <= received);
      row = this.add(new Row(event.type, titleOf(event)), live ? 0 : before);
      row.messageId = row.id.textContent = event.messageId;
    }
    // An event of this page that the stream missed, as while it was away, is as live as the others.
    if (!row.stored(event, live || row.called !== undefined)) return;
    this.count++;
    document.querySelector("#count").textContent = `${this.count} stored`;
    if (live) this.say(`${row.type} stored`);
    this.changed();
  }

  /** At a place among the rows; -1: at the end. */
  add(row, at = 0) {
    const next = this.rows[at];
    this.rows.splice(next ? at : this.rows.length, 0, row);
    this.list.insertBefore(row.element, next?.element ?? null);
    document.querySelector("#events-empty").hidden = true;
    for (const old of this.rows.splice(ROWS_MAX)) old.element.remove();
    return row;
  }

  find(messageId) {
    return messageId ? this.rows.find((row) => row.messageId === messageId) : undefined;
  }

  each(messageIds, act) {
    for (const id of messageIds) {
      const row = this.find(id);
      if (row) act(row);
    }
  }

  /** `on`: whether the list is whole and live; undefined leaves that as it is. */
  say(text, on) {
    if (on !== undefined) document.querySelector("#status").classList.toggle("on", on);
    document.querySelector("#status-text").textContent = text;
  }
}

/** An event as SQL has it, in the names of the live stream. */
function fromRow(row) {
  const parsed = (text) => (text === null ? undefined : JSON.parse(text));
  const known = {
    type: row.type, messageId: row.message_id, event: row.event, name: row.name, category: row.category, groupId: row.group_id, userId: row.user_id,
    anonymousId: row.anonymous_id, timestamp: row.timestamp, receivedAt: row.received_at,
    properties: parsed(row.properties), traits: parsed(row.traits), context: parsed(row.context),
  };
  return Object.fromEntries(Object.entries(known).filter(([, value]) => value != null));
}
