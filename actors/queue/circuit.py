"""When a whole destination pauses, because trying event after event would only fail them all.

After ``FAILURES`` failures in a row the destination pauses; the pause doubles from ``retry_first_seconds`` to
``retry_max_seconds`` with each one. After a pause one event from the log is tried, and at most one of those that wait
for another attempt. They are different ones each time, so an event that the receiver can never digest cannot keep
the destination closed. The first success opens it wholly. A 429 or 503 with ``Retry-After`` pauses it for that long,
whatever succeeds meanwhile.

Pure: time and chance are parameters. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from destinations.retry import backoff_seconds
from segment_do.settings import DeliverySettings

__all__ = ["Circuit", "Ticket"]

FAILURES = 10
"""Attempts (requests, not events) that have to fail in a row."""

Kind = Literal["fresh", "retry"]


class Ticket(NamedTuple):
    """Leave to make one attempt; goes back with :meth:`Circuit.report` or :meth:`Circuit.withdraw`."""

    kind: Kind
    generation: int
    probe: bool


class Circuit:
    """State of one destination; starts open for traffic."""

    def __init__(self, settings: DeliverySettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._failures = 0
        self._pauses = 0  # in a row; above 0 the circuit is tripped, and after its pause it probes
        self._tripped_until = 0.0
        self._asked_until = 0.0
        self._generation = 0
        self._probing: set[Kind] = set()

    @property
    def tripped(self) -> bool:
        """Whether the destination counts as down."""
        return self._pauses > 0

    def wait_seconds(self, kind: Kind, now: float) -> float | None:
        """0 when an attempt may start now; else how long to wait. None: until an attempt under way is reported."""
        until = max(self._asked_until, self._tripped_until)
        if now < until:
            return until - now
        return None if self.tripped and kind in self._probing else 0.0

    def admit(self, kind: Kind, now: float) -> Ticket | None:
        """Leave for one attempt, or None when it has to wait."""
        if self.wait_seconds(kind, now) != 0.0:
            return None
        if self.tripped:
            self._probing.add(kind)
        return Ticket(kind, self._generation, self.tripped)

    def report(self, ticket: Ticket, *, failed: bool, asked_seconds: float | None, now: float) -> None:
        """What came of an attempt. ``failed``: it should be tried again; a refusal of the event is an answer, no failure."""
        self.withdraw(ticket)
        if asked_seconds is not None:
            self._asked_until = max(self._asked_until, now + asked_seconds)
        if not failed:
            self._failures = self._pauses = 0
            self._tripped_until = 0.0
            return
        if ticket.generation != self._generation:
            return  # it started before the last trip, and says nothing about now
        self._failures += 1
        if ticket.probe or self._failures >= FAILURES:
            self._pauses += 1
            self._failures = 0
            self._generation += 1
            self._probing.clear()
            self._tripped_until = now + backoff_seconds(self._pauses, self._settings, self._random)

    def withdraw(self, ticket: Ticket) -> None:
        """An attempt that ended without an outcome (it was cancelled)."""
        if ticket.probe and ticket.generation == self._generation:
            self._probing.discard(ticket.kind)
