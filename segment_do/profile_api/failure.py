"""An error as the Profile API tells it: ``{"error": {"code", "message"}}`` with one of its statuses."""

from __future__ import annotations

from typing import Final

import msgspec

from segment_do.errors import Busy, InvalidRequest, NotFound, RateLimited, SegmentDoError, Unauthorized, Unavailable

__all__ = ["error_answer"]

_KINDS: Final[tuple[tuple[type[SegmentDoError], int, str], ...]] = (
    (Unauthorized, 401, "authentication_error"),
    (NotFound, 404, "not_found"),
    (InvalidRequest, 400, "invalid_request_error"),
    (RateLimited, 429, "rate_limit_error"),
    (Busy, 429, "rate_limit_error"),
    (Unavailable, 503, "api_error"),
)


def error_answer(error: SegmentDoError) -> tuple[int, bytes]:
    """Status and body. A query or body value that cannot be used is a ``validation_error``, any other bad request an
    ``invalid_request_error``; what Segment has no name for is an ``api_error``.
    """
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            if kind is InvalidRequest and error.code == "validation_error":
                code = "validation_error"
            return status, _body(code, error.message)
    return 500, _body("api_error", "The request failed inside the platform.")


def _body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})
