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
  if (kind === "alias") {
    return { first: text(given[0]), second: text(given[1]), fields: {}, options: object(given[2]), callback };
  }
  let first = text(given[0]);
  let second: string | undefined;
  let next = isObject(given[0]) ? 0 : 1;
  if ((kind === "page" || kind === "screen") && typeof given[1] === "string") {
    second = first;
    first = given[1];
    next = 2;
  }
  return { first, second, fields: object(given[next]), options: object(given[next + 1]), callback };
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

export function text(value: unknown): string | undefined {
  return typeof value === "number" || (typeof value === "string" && value !== "") ? String(value) : undefined;
}

const object = (value: unknown): Fields => (isObject(value) ? value : {});
