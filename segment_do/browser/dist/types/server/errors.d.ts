/** What a call's promise rejects with. `code` is for programs; `retryable` says whether the same may succeed later. */
export declare class AnalyticsError extends Error {
    readonly code: string;
    readonly retryable: boolean;
    readonly name = "AnalyticsError";
    constructor(message: string, code: string, retryable?: boolean);
}
