"""From the outcomes of one attempt to what the ledger stores: delivered, to be tried again, dead. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from actors.queue.ledger import DeadLetter, Retry
from destinations.base import Outcome
from destinations.retry import Decision, decide, reason_of, retry_after_seconds, verdict
from segment_do.settings import DeliverySettings

__all__ = ["Attempted", "Settled", "all_failed", "asked_pause_seconds", "settle", "unreadable"]

MAX_RESPONSE_CHARS = 4096
_PAUSING = frozenset({429, 503})


class Attempted(NamedTuple):
    """An event at its attempt."""

    offset: int
    message_id: str
    event: bytes
    attempts: int = 1
    """With this one."""
    first_failed_at: int | None = None
    """Microseconds since the epoch; None when it has not failed before."""


class Settled(NamedTuple):
    """Every event of an attempt, by its fate."""

    delivered: list[int]
    """Offsets."""
    retries: list[Retry]
    dead: list[DeadLetter]
    failure: str
    """Reason of the last event that was not delivered; "" when all were."""


def settle(
    events: Sequence[Attempted],
    outcomes: Sequence[Outcome],
    *,
    now: int,
    settings: DeliverySettings,
    random: Callable[[], float],
) -> Settled:
    """Decide about each event by its outcome. Events that failed together get the same next time, so that a batch
    which comes back is the same batch, with the same idempotency key."""
    settled = Settled([], [], [], "")
    failure = ""
    seen: dict[tuple[int, int, int | None], Decision] = {}
    for event, outcome in zip(events, outcomes, strict=True):
        key = (id(outcome), event.attempts, event.first_failed_at)
        decision = seen.get(key)
        if decision is None:
            since = now if event.first_failed_at is None else event.first_failed_at
            decision = seen[key] = decide(
                outcome, attempts=event.attempts, first_failed_at=since, now=now, settings=settings, random=random
            )
        if decision.kind == "ok":
            settled.delivered.append(event.offset)
            continue
        failure = reason_of(outcome)
        if decision.kind == "retry":
            settled.retries.append(
                Retry(
                    event.offset,
                    event.message_id,
                    event.attempts,
                    now if event.first_failed_at is None else event.first_failed_at,
                    decision.next_at,
                    outcome.status,
                    decision.reason,
                    event.event,
                )
            )
        else:
            settled.dead.append(_dead(event, outcome, decision.reason, now))
    return settled._replace(failure=failure)


def unreadable(offset: int, message_id: str, payload: bytes, now: int) -> DeadLetter:
    """The dead letter of an event that could not be put together; its bytes are kept as they came."""
    return _dead(Attempted(offset, message_id, payload, 0), Outcome(error="unreadable"), "unreadable", now)


def asked_pause_seconds(outcomes: Sequence[Outcome], now: int, settings: DeliverySettings) -> float | None:
    """How long the receiver wants to be left alone altogether: ``Retry-After`` of a 429 or 503. None: it did not say."""
    asked = [
        retry_after_seconds(outcome.retry_after, now, settings.retry_max_seconds)
        for outcome in outcomes
        if outcome.status in _PAUSING and outcome.retry_after is not None
    ]
    return max((seconds for seconds in asked if seconds is not None), default=None)


def all_failed(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing of an attempt came through and everything may later: what counts towards a pause."""
    return all(verdict(outcome) == "retry" for outcome in outcomes)


def _dead(event: Attempted, outcome: Outcome, reason: str, now: int) -> DeadLetter:
    response = outcome.response.decode("utf-8", "replace")[:MAX_RESPONSE_CHARS] or outcome.detail
    return DeadLetter(
        event.offset, event.message_id, now, event.attempts, outcome.status, response, reason, event.event
    )
