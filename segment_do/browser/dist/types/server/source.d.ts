/**
 * Where events go and under which write key; resolved when the first batch is sent, not when a client is made.
 *
 * An agent's client finds the platform (arguments, `SEGMENT_DO_URL` and `SEGMENT_DO_TOKEN`, else `run.json` and `token` in
 * the home directory) and makes sure that the agent has its source there. That request is idempotent, so any number of
 * processes may send it at once. This machine's own token is sent to no other machine.
 */
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
export declare class FixedSource implements Source {
    private readonly found;
    constructor(writeKey: string, host: string | undefined);
    endpoint(): Promise<Endpoint>;
    forget(): boolean;
}
/** An agent's source, made at first use. */
export declare class AgentSource implements Source {
    private readonly agent;
    private readonly host;
    private readonly token;
    private found;
    constructor(agent: string, host: string | undefined, token: string | undefined);
    endpoint(signal: AbortSignal): Promise<Endpoint>;
    forget(): boolean;
    private ensure;
    private place;
}
/** The address without its trailing slash; throws when it is none, or holds credentials. */
export declare function checkedUrl(host: string): string;
