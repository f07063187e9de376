"""From outcomes to what is stored."""

from __future__ import annotations

import itertools

from actors.queue.settle import Attempted, all_failed, asked_pause_seconds, settle
from destinations.base import Outcome
from tests.actors.queue.rig import SECOND, START, settings


def attempted(offset: int, attempts: int = 1, since: int | None = None) -> Attempted:
    return Attempted(offset, f"m{offset}", b"{}", attempts, since)


def test_each_event_by_its_own_outcome() -> None:
    """Partial success: in one attempt some are delivered, some come again, some are dead."""
    answer = b"x" * 5000
    settled = settle(
        [attempted(1), attempted(2), attempted(3, 7, START - SECOND)],
        [Outcome(200), Outcome(503), Outcome(422, response=answer)],
        now=START,
        settings=settings(),
        random=lambda: 0.0,
    )
    assert settled.delivered == [1]
    (retry,) = settled.retries
    assert (retry.offset, retry.attempts, retry.first_failed_at, retry.last_status) == (2, 1, START, 503)
    assert retry.next_at == START + SECOND // 2
    (dead,) = settled.dead
    assert (dead.offset, dead.attempts, dead.status, dead.reason) == (3, 7, 422, "status_422")
    assert dead.response == "x" * 4096
    assert settled.failure == "status_422"


def test_events_that_failed_together_come_back_together() -> None:
    """One outcome for a batch is one next time for all, so that it is the same batch again."""
    chances = itertools.count()
    settled = settle(
        [attempted(number) for number in range(50)],
        [Outcome(503)] * 50,
        now=START,
        settings=settings(),
        random=lambda: next(chances) % 10 / 10,
    )
    assert len({retry.next_at for retry in settled.retries}) == 1


def test_pause_is_the_longest_asked_for() -> None:
    """Retry-After of 429 and 503 pauses the destination; of other answers it does not."""
    assert asked_pause_seconds([Outcome(200, retry_after="9")], START, settings()) is None
    assert asked_pause_seconds([Outcome(429)], START, settings()) is None
    found = asked_pause_seconds([Outcome(429, retry_after="3"), Outcome(503, retry_after="5")], START, settings())
    assert found == 5


def test_refusals_are_no_sign_of_being_down() -> None:
    """Only attempts of which nothing came through, and all of which may later, count towards a pause."""
    assert all_failed([Outcome(503), Outcome(error="timeout")])
    assert not all_failed([Outcome(503), Outcome(200)])
    assert not all_failed([Outcome(400)])
