"""Times of the contract: ISO 8601 in and out, microseconds since the epoch (UTC) inside."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

__all__ = ["EARLIEST", "LATEST", "corrected", "iso", "parse_time"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = -62_135_596_800_000_000
"""0001-01-01, the first time that every part of the platform can write down."""
LATEST = 253_402_300_799_999_999
"""The last microsecond of 9999."""


@functools.lru_cache(maxsize=8_192)
def _parse_text(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    found = since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
    return found if EARLIEST <= found <= LATEST else None  # an offset can move the first and the last day out of range


def parse_time(given: object) -> int | None:
    """Microseconds of an ISO 8601 text (UTC where it names no zone) or of epoch seconds or milliseconds.

    None where there is none or it cannot be read: a bad time never costs the event (segment spec, common fields).
    """
    if isinstance(given, str):
        return _parse_text(given) if len(given) <= 64 else None
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        scale = 1_000_000 if abs(given) < 1e11 else 1_000
        try:
            moment = int(given * scale)
        except (OverflowError, ValueError):
            return None
        return moment if EARLIEST <= moment <= LATEST else None
    return None


def corrected(received_at: int, sent_at: int | None, original: int | None) -> int:
    """``timestamp = receivedAt - (sentAt - originalTimestamp)``: the event's time on the server's clock.

    Without an original the event happened when it was received; without ``sentAt`` the client's clock is believed.
    """
    if original is None:
        return received_at
    if sent_at is None:
        return original
    moment = received_at - (sent_at - original)
    return moment if EARLIEST <= moment <= LATEST else received_at


def iso(moment: int) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``, as Segment writes times."""
    return (_EPOCH + timedelta(microseconds=moment)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].rjust(23, "0") + "Z"
