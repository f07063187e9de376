/** What a call's promise rejects with. `code` is for programs; `retryable` says whether the same may succeed later. */
export class AnalyticsError extends Error {
  override readonly name = "AnalyticsError";

  constructor(
    message: string,
    readonly code: string,
    readonly retryable = false,
  ) {
    super(message);
  }
}
