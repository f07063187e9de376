/** Who an agent is: text or a number is an id itself; of any other object its `id`, else its `name`. */

export type Agent = string | number | { id?: unknown; name?: unknown };

/** undefined where there is none. Methods, null and "" do not count. */
export function agentId(agent: unknown): string | undefined {
  if (typeof agent === "string" || typeof agent === "number") return String(agent) || undefined;
  if ((typeof agent !== "object" && typeof agent !== "function") || agent === null) return undefined;
  for (const name of ["id", "name"]) {
    const value = (agent as Record<string, unknown>)[name];
    if ((typeof value === "string" && value) || typeof value === "number") return String(value);
  }
  return undefined;
}
