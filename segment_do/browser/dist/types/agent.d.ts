/** Who an agent is: text or a number is an id itself; of any other object its `id`, else its `name`. */
export type Agent = string | number | {
    id?: unknown;
    name?: unknown;
};
/** undefined where there is none. Methods, null and "" do not count. */
export declare function agentId(agent: unknown): string | undefined;
