"""Which answers mean "again", and when. Pure: time and chance are parameters.

Segment's clients retry 408, 429, 460 and 5xx except 501, 505 and 511; ``Retry-After`` (seconds or an HTTP date) is
believed up to 300 seconds.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST_BACKOFF_SECONDS", "MAX_BACKOFF_SECONDS", "MAX_RETRY_AFTER_SECONDS", "backoff_seconds",
           "is_retryable", "retry_after_seconds", "wait_seconds"]  # fmt: skip

FIRST_BACKOFF_SECONDS: Final = 0.5
MAX_BACKOFF_SECONDS: Final = 30.0
MAX_RETRY_AFTER_SECONDS: Final = 300.0
SOON_SECONDS: Final = 2.0

_RETRYABLE: Final = frozenset({408, 429, 460})
_FINAL: Final = frozenset({501, 505, 511})


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _RETRYABLE or (500 <= status <= 599 and status not in _FINAL)


def backoff_seconds(failures: int, random: float) -> float:
    """Full jitter: anywhere from 0 up to a ceiling that doubles with every failure. ``failures`` from 1."""
    ceiling = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16))
    return random * ceiling


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for, at most 300; None where there is none or it cannot be read.

    ``now`` (epoch seconds) turns a date into a wait.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    from email.utils import parsedate_to_datetime  # rare, and it imports half of email

    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, moment - now), MAX_RETRY_AFTER_SECONDS)


def wait_seconds(failures: int, retry_after: float | None, random: float, *, soon: bool = False) -> float:
    """How long until the next attempt: what the server asked for, else the backoff (``soon``: of 2 seconds at most).

    A little is added to the server's wish, so that clients told the same do not all come back in one moment.
    """
    if retry_after:
        return retry_after + random * FIRST_BACKOFF_SECONDS
    return min(backoff_seconds(failures, random), SOON_SECONDS) if soon else backoff_seconds(failures, random)
