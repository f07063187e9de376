/**
 * From a call to one event's JSON, checked and encoded within the call: what the caller does to its objects afterwards
 * changes nothing. Both spellings are read: `track("Event", {…}, {userId})` and analytics-node's `track({event, userId})`.
 */

import { randomUUID } from "node:crypto";

import type { Fields, Kind } from "../message.js";
import { VERSION } from "../version.js";
import { AnalyticsError } from "./errors.js";

/** The largest event that the platform takes, bytes of its JSON. */
export const EVENT_BYTES_MAX = 32_768;

const LIBRARY = { name: "segment_do.js/server", version: VERSION };
const BODY: Record<Kind, "properties" | "traits" | undefined> = {
  track: "properties",
  page: "properties",
  screen: "properties",
  identify: "traits",
  group: "traits",
  alias: undefined,
};
const FIRST: Record<Kind, string> = {
  track: "event",
  page: "name",
  screen: "name",
  identify: "userId",
  group: "groupId",
  alias: "userId",
};

/** The wire's fields of a call, from either spelling. */
export function fieldsOf(kind: Kind, first: unknown, second: unknown, options: unknown): Fields {
  if (typeof first === "object" && first !== null) return { ...(first as Fields), type: kind };
  const fields: Fields = { ...(options as Fields), type: kind };
  const positional = { [FIRST[kind]]: first, [BODY[kind] ?? "previousId"]: second };
  for (const [name, value] of Object.entries(positional)) {
    if (value !== undefined && value !== null) fields[name] = value; // what is left out may be among the options
  }
  return fields;
}

/**
 * One event's JSON and its messageId. `speaker` is whom an event speaks for that names nobody.
 *
 * Throws an AnalyticsError that says what the spec misses.
 */
export function eventJson(fields: Fields, speaker: string | undefined, nowMs: number): { json: string; id: string } {
  const { type, userId, anonymousId, messageId, timestamp, context, ...rest } = fields;
  const kind = type as Kind;
  if (!Object.prototype.hasOwnProperty.call(BODY, String(kind))) {
    throw invalid("the event's type must be one of track, identify, page, screen, group, alias", "invalid_type");
  }
  const named = idOf("userId", userId);
  const anonymous = idOf("anonymousId", anonymousId);
  const user = named ?? (anonymous === undefined || kind === "alias" ? speaker : undefined);
  if (user === undefined && anonymous === undefined) {
    throw invalid("the event has neither userId nor anonymousId", "no_user_anon_id");
  }
  if (kind === "track" && (typeof rest["event"] !== "string" || rest["event"] === "")) {
    throw invalid("a track call needs the event's name", "missing_event");
  }
  if (kind === "group" && (rest["groupId"] = idOf("groupId", rest["groupId"])) === undefined) {
    throw invalid("a group call needs a groupId", "missing_group_id");
  }
  if (kind === "alias" && ((rest["previousId"] = idOf("previousId", rest["previousId"])) === undefined || !user)) {
    throw invalid("an alias call needs userId and previousId", "missing_previous_id");
  }
  const body = BODY[kind];
  if (body) rest[body] ??= {};
  const id = idOf("messageId", messageId) ?? `node-sdo-${nowMs}-${randomUUID()}`;
  if (id.length > 100) throw invalid("the messageId is longer than 100 characters", "message_id_too_long");
  let json: string;
  try {
    json = JSON.stringify({
      ...rest,
      type: kind,
      messageId: id,
      timestamp: timestamp ?? new Date(nowMs),
      userId: user,
      anonymousId: anonymous,
      context: { library: LIBRARY, ...(context as Fields | undefined) },
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

function idOf(name: string, given: unknown): string | undefined {
  if (given === undefined || given === null || given === "") return undefined;
  if (typeof given === "string" || typeof given === "number" || typeof given === "bigint") return String(given);
  throw invalid(`${name} must be text or a number`, "wrong_type");
}

const invalid = (message: string, code: string): AnalyticsError => new AnalyticsError(message, code);
