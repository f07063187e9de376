/**
 * What each argument of a call is. analytics.js lets callers leave out those in front, and puts a callback anywhere.
 * Pure; it never throws, and what it cannot place it leaves out.
 */

import { isObject } from "./context.js";
import type { CallOptions, Fields, Kind } from "./message.js";

export type Callback = (sent: unknown) => unknown;

export interface Call {
  /** track: the event; page and screen: the name; identify and group: the id; alias: the new id. */
  first?: string | undefined;
  /** page and screen: the category; alias: the id before. */
  second?: string | undefined;
  /** Properties or traits. */
  fields: Fields;
  options: CallOptions;
  callback?: Callback | undefined;
}

export function callOf(kind: Kind, args: readonly unknown[]): Call {
  const callback = args.find((given): given is Callback => typeof given === "function");
  const given = args.filter((each) => typeof each !== "function");
  const [first, second] = given;
  const objects = given.filter(isObject);
  if (kind === "alias") {
    return { first: text(first), second: text(second), fields: {}, options: objects[0] ?? {}, callback };
  }
  if (kind === "page" || kind === "screen") {
    const both = typeof second === "string";
    // A lone object says what the page is, unless it stands where only options can.
    if (objects.length === 1 && given.indexOf(objects[0]) === 3) objects.unshift({});
    const [fields = {}, options = {}] = objects;
    return { first: text(both ? second : first), second: both ? text(first) : undefined, fields, options, callback };
  }
  if (kind === "track" && isObject(first)) {
    return { first: text(first["event"]), fields: object(first["properties"]), options: object(second), callback };
  }
  const next = isObject(first) ? 0 : 1;
  return { first: text(first), fields: object(given[next]), options: object(given[next + 1]), callback };
}

/** The call's context: `options.context`, and the options that the spec does not know. */
export function givenContext(options: CallOptions): Fields {
  const context: Fields = {};
  for (const [name, value] of Object.entries(options)) {
    if (!COMMON.includes(name)) context[name] = value;
  }
  return { ...context, ...options.context };
}

const COMMON = ["userId", "anonymousId", "timestamp", "messageId", "context", "integrations"];

/** An id or a name; numbers become their digits, "" is none. */
export function text(value: unknown): string | undefined {
  return typeof value === "number" || (typeof value === "string" && value !== "") ? String(value) : undefined;
}

const object = (value: unknown): Fields => (isObject(value) ? value : {});
