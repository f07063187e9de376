"""What the platform's answer means for the events that were sent: acknowledged, set aside, refused, or again later."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from segment_do.errors import (
    InvalidEvent,
    InvalidRequest,
    NotFound,
    SegmentDoError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from segment_do.sdk.receipt import DELIVERED, Outcome
from segment_do.sdk.retry import is_retryable, retry_after_seconds
from segment_do.sdk.transport import Answer

__all__ = ["Refusal", "outcomes", "refusal"]

_MAX_TOLD = 300
_HINTS: dict[type[SegmentDoError], str] = {
    Unauthorized: "Check the key (or the admin token) and that it belongs to this platform.",
    NotFound: "Check that the host is the platform's own address, without a path such as /v1.",
}


class Refusal(NamedTuple):
    """Not acknowledged: why, whether the same may succeed later, and when the server wants to see it again."""

    error: SegmentDoError
    retryable: bool
    retry_after: float | None = None
    soon: bool = False
    """Nobody is there to be burdened by another look, so the wait may stay short."""


def refusal(answer: Answer, now: float) -> Refusal | None:
    """What an answer refuses; None for 2xx. ``now`` in epoch seconds, for ``Retry-After`` dates."""
    status = answer.status
    if 200 <= status <= 299:
        return None
    told, code = _explanation(answer.body)
    message = f"The platform answered {status}{f': {told}' if told else ''}"
    if not message.endswith((".", "!", "?")):
        message += "."
    if is_retryable(status):
        after = retry_after_seconds(answer.headers.get("retry-after"), now)
        return Refusal(Unavailable(message, code=code, retry_after=int(after or 1)), True, after)
    kind = {401: Unauthorized, 403: Unauthorized, 404: NotFound, 413: TooLarge}.get(
        status, InvalidRequest if 400 <= status <= 499 else SegmentDoError
    )
    return Refusal(kind(message, hint=_HINTS.get(kind, ""), code=code or _default_code(kind, status)), False)


def outcomes(answer: Answer, message_ids: list[str]) -> list[Outcome]:
    """Each event's outcome after a 2xx: those named in ``rejected`` were set aside, the others are stored.

    An answer that cannot be read still acknowledges: its status alone decides.
    """
    found: list[Outcome] = [DELIVERED] * len(message_ids)
    body = _decoded(answer.body)
    rejected = body.get("rejected")
    for entry in rejected if isinstance(rejected, list) else ():
        if not isinstance(entry, dict):
            continue
        index, message_id = entry.get("index"), entry.get("messageId")
        if not (isinstance(index, int) and 0 <= index < len(found)):
            if message_id not in message_ids:
                continue
            index = message_ids.index(message_id)
        code = entry.get("code")
        found[index] = InvalidEvent(
            str(entry.get("message") or "The platform set the event aside.")[:_MAX_TOLD],
            code=code[:60] if isinstance(code, str) and code else None,
        )
    return found


def _explanation(body: bytes) -> tuple[str, str | None]:
    fields = _decoded(body)
    told = fields.get("message") or fields.get("error")
    code = fields.get("code")
    return (
        told[:_MAX_TOLD] if isinstance(told, str) else "",
        code[:60] if isinstance(code, str) and code else None,
    )


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _default_code(kind: type[SegmentDoError], status: int) -> str | None:
    return f"http_{status}" if kind is SegmentDoError else None
