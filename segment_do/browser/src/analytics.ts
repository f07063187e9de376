/** `Analytics`: a loaded client from its options, or an agent's. Works with and without `new`. */

import { agentId, type Agent } from "./agent.js";
import { Client } from "./client.js";
import type { LoadOptions } from "./options.js";

export interface AnalyticsOptions extends LoadOptions {
  /** Of the source, as `segment-do sources` lists it. */
  writeKey: string;
}

export interface AnalyticsFactory {
  (options: AnalyticsOptions): Client;
  new (options: AnalyticsOptions): Client;
  /**
   * The client of an agent (text, or an object with an id or a name). It speaks for the agent: an event that names no
   * user has userId = the agent, or, after `identify(user)` on it, that user, until `reset()`. The visitor's own identity
   * is neither read nor written. The same agent with the same key gives the same client; options count when it is made.
   */
  for(agent: Agent, options: AnalyticsOptions): Client;
}

/**
 * Clients of agents that are kept. Of more, the one not asked for longest is forgotten: it sends what it has, hears of the
 * page no more, and is made anew when asked for again.
 */
const AGENTS_MAX = 100;

const agents = new Map<string, Client>();

function analytics(given: AnalyticsOptions): Client {
  const { writeKey, ...options } = given ?? {};
  return new Client().load(writeKey, options);
}

function forAgent(agent: Agent, given: AnalyticsOptions): Client {
  const { writeKey, ...options } = given ?? {};
  const id = agentId(agent);
  const key = JSON.stringify([id, writeKey, options.apiHost]);
  let client = agents.get(key);
  if (client === undefined) {
    // An agent without id or name sends nothing: its events would be nobody's.
    client = new Client(id ?? "").load(writeKey, { ...options, disable: options.disable || id === undefined });
    if (id === undefined) console.error("segment_do: an agent needs an id or a name");
  }
  agents.delete(key); // to the end: the first is the one that was not asked for longest
  agents.set(key, client);
  if (agents.size > AGENTS_MAX) {
    const [oldest, forgotten] = agents.entries().next().value!;
    agents.delete(oldest);
    forgotten.forget();
  }
  return client;
}

export const Analytics: AnalyticsFactory = Object.assign(analytics, { for: forAgent }) as unknown as AnalyticsFactory;
