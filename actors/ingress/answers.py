"""The one place where an outcome becomes an HTTP answer.

Every answer has a JSON body with a content-length, whatever the status: several Segment clients parse the body of each
answer and retry when they cannot (contract, section 0). Errors carry ``code`` and ``message`` (read by the Python client)
and ``error`` (read by the Ruby client).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from segment_do.errors import (
    Busy,
    ClientRefused,
    Conflict,
    InvalidRequest,
    NotFound,
    PlatformNotRunning,
    QueryTimedOut,
    RateLimited,
    SegmentDoError,
    SlowBody,
    TokenRequestRefused,
    Unauthorized,
    Unavailable,
)
from segment_do.events.intake import Refused

__all__ = [
    "OK",
    "Headers",
    "Send",
    "accepted_body",
    "cors",
    "error_body",
    "later",
    "oauth_error_body",
    "send_answer",
    "status_of",
]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_STATUS: Final[list[tuple[type[SegmentDoError], int]]] = [
    (InvalidRequest, 400),
    (Unauthorized, 401),
    (NotFound, 404),
    (Conflict, 409),
    (QueryTimedOut, 408),
    (SlowBody, 408),
    (Busy, 429),  # not 503: browsers read Retry-After with this one alone, and Node does not count it as an attempt
    (RateLimited, 429),
    (PlatformNotRunning, 503),
    (Unavailable, 503),
]

OK: Final = b'{"success": true}'
_JSON: Final = (b"content-type", b"application/json")


def status_of(error: SegmentDoError) -> int:
    """HTTP status of an error; 500 for those that no request should ever cause."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def error_body(error: SegmentDoError) -> bytes:
    """``{"code", "message", "error", "hint"?}``."""
    told = {"success": False, "code": error.code, "message": error.message, "error": error.message}
    if error.hint:
        told["hint"] = error.hint
    return msgspec.json.encode(told)


def oauth_error_body(error: SegmentDoError) -> bytes:
    """``{"error", "error_description", "code", "message", "hint"?}``, the first two as RFC 6749 section 5.2 has them.

    Every answer of ``/token`` that is not 200 has them, 503 included: the Python client's thread ends where they are missing.
    """
    if isinstance(error, TokenRequestRefused):
        name = error.oauth_error
    elif isinstance(error, ClientRefused):
        name = "invalid_client"
    elif isinstance(error, InvalidRequest):
        name = "invalid_request"
    else:
        name = "temporarily_unavailable"
    told = {"error": name, "error_description": error.message, "code": error.code, "message": error.message}
    if error.hint:
        told["hint"] = error.hint
    return msgspec.json.encode(told)


def later(error: SegmentDoError) -> Headers:
    """When to try again, for those errors after which one may; clients read the one header or the other."""
    if not isinstance(error, Unavailable):
        return []
    seconds = str(error.retry_after).encode()
    return [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]


def accepted_body(refused: list[Refused], more: dict[str, Any] | None = None) -> bytes:
    """Segment's answer; with what was set aside, where something was, and what else there is to tell."""
    if not refused and not more:
        return OK
    told: dict[str, Any] = {"success": True, **(more or {})}
    if refused:
        told["rejected"] = [
            {"index": one.position, "messageId": one.message_id, "code": one.code, "message": one.message}
            for one in refused
        ]
    return msgspec.json.encode(told)


def cors(origin: bytes, requested_headers: bytes | None = None) -> Headers:
    """Headers that let a browser of any origin send, and read the answer and ``Retry-After``."""
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After, X-RateLimit-Reset"),
        (b"vary", b"Origin"),
    ]
    if requested_headers is not None:
        headers += [
            (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
            (b"access-control-allow-headers", requested_headers or b"Authorization, Content-Type, X-Retry-Count"),
            (b"access-control-max-age", b"86400"),
        ]
    return headers


async def send_answer(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """One whole JSON answer."""
    start: Headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if headers:
        start += headers
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
