"""What follows from an attempt: done, try again at a time, or give up. Pure; the one place that decides it.

Tried again: no answer (timeout, network), 408, 425, 429, 460, and 5xx except 501, 505 and 511, the set that
Segment's own clients share. Everything else below 200 or above 299 is given up at once and becomes a dead letter;
a redirect too, because following one would send the event, and its signature, where nobody configured it to go.

The wait doubles from ``retry_first_seconds`` to ``retry_max_seconds``, each time between half and all of it, so
that events which failed together do not come back together. ``Retry-After`` is obeyed up to ``retry_max_seconds``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from destinations.base import Outcome
from segment_do.settings import DeliverySettings

__all__ = ["Decision", "backoff_seconds", "decide", "reason_of", "retry_after_seconds", "verdict"]

RETRIED_STATUSES = frozenset({408, 425, 429, 460})
FINAL_SERVER_STATUSES = frozenset({501, 505, 511})
RETRIED_ERRORS = frozenset({"timeout", "connection_refused", "connection_reset", "name_not_found", "tls", "network"})
SECOND = 1_000_000
"""Microseconds; times are microseconds since the epoch, as everywhere inside."""

Verdict = Literal["ok", "retry", "discard"]


class Decision(NamedTuple):
    """What to do with an event after an attempt."""

    kind: Verdict
    next_at: int
    """For ``retry``: when, microseconds since the epoch. Otherwise 0."""
    reason: str
    """``""`` for ok; ``status_503``, ``redirect``, an error's code; ``gave_up:`` before it after ``retry_hours``."""


def decide(
    outcome: Outcome,
    *,
    attempts: int,
    first_failed_at: int,
    now: int,
    settings: DeliverySettings,
    random: Callable[[], float],
) -> Decision:
    """The decision after attempt number ``attempts`` (1 = the first).

    ``first_failed_at`` and ``now`` are microseconds since the epoch; ``random`` gives values in [0, 1).
    An event gets one last attempt when its ``retry_hours`` are over, and is given up only after that one.
    """
    kind = verdict(outcome)
    if kind != "retry":
        return Decision(kind, 0, reason_of(outcome))
    deadline = first_failed_at + round(settings.retry_hours * 3600 * SECOND)
    if now >= deadline:
        return Decision("discard", 0, f"gave_up:{reason_of(outcome)}")
    wait = backoff_seconds(attempts, settings, random)
    asked = retry_after_seconds(outcome.retry_after, now, settings.retry_max_seconds)
    if asked is None:
        return Decision("retry", min(now + round(wait * SECOND), deadline), reason_of(outcome))
    # Never before the time the receiver named, and a tenth spread behind it; also not at once when it says 0.
    wait = max(asked * (1 + random() / 10), min(wait, settings.retry_first_seconds))
    return Decision("retry", now + round(wait * SECOND), reason_of(outcome))


def verdict(outcome: Outcome) -> Verdict:
    """Whether the attempt worked, may work later, or never will."""
    status = outcome.status
    if status is None:
        return "retry" if outcome.error in RETRIED_ERRORS else "discard"
    if 200 <= status < 300:
        return "ok"
    if status in RETRIED_STATUSES or (status >= 500 and status not in FINAL_SERVER_STATUSES):
        return "retry"
    return "discard"


def reason_of(outcome: Outcome) -> str:
    """Stable code of a failure; ``""`` when there was none."""
    if outcome.status is None:
        return outcome.error or "no_answer"
    if 200 <= outcome.status < 300:
        return ""
    if 300 <= outcome.status < 400:
        return "redirect"
    return f"status_{outcome.status}"


def backoff_seconds(attempts: int, settings: DeliverySettings, random: Callable[[], float]) -> float:
    """Wait after ``attempts`` failed ones: first, 2 x first, 4 x first … at most max; between half and all of that."""
    doubled = settings.retry_first_seconds * 2.0 ** min(max(attempts, 1) - 1, 60)
    return min(doubled, settings.retry_max_seconds) * (0.5 + random() / 2)


def retry_after_seconds(header: str | None, now: int, most_seconds: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3: whole seconds or an HTTP date), 0 to ``most_seconds``.

    None where there is none or it cannot be read; the ordinary backoff applies then.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        # Cut by length first: Python refuses to read integers of thousands of digits.
        return most_seconds if len(text) > 12 else min(float(text), most_seconds)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now / SECOND, 0.0), most_seconds)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
