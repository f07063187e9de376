"""Which offsets a destination has behind it, while attempts finish in any order.

Parts of the log are started in order and finish in any; the cursor may move over the finished ones at the front
only. So whatever a crash interrupts lies at or above the cursor, and is read again. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from actors.queue.ledger import DeadLetter, Retry

__all__ = ["Part", "Passed", "Window"]


class Part(msgspec.Struct, eq=False):
    """A run of offsets that is being dealt with: ``start`` to ``end - 1``."""

    start: int
    end: int
    events: int
    """How many of them go to this destination."""
    finished: bool = False
    delivered: int = 0
    retries: Sequence[Retry] = ()
    dead: Sequence[DeadLetter] = ()


class Passed(msgspec.Struct):
    """Finished parts joined: what one transaction stores when the cursor moves from ``start`` to ``end``."""

    start: int
    end: int
    delivered: int
    retries: list[Retry]
    dead: list[DeadLetter]


class Window:
    """Parts between the cursor and the last offset started. Its caller bounds how many events are in it."""

    def __init__(self) -> None:
        self._parts: deque[Part] = deque()
        self.events = 0
        """Events of all parts in the window, finished or not."""

    def start(self, start: int, end: int, events: int) -> Part:
        """A new part behind all others. One without events is finished at once."""
        assert not self._parts or self._parts[-1].end == start, "parts leave no offset out"
        part = Part(start, end, events, finished=events == 0)
        self._parts.append(part)
        self.events += events
        return part

    def finish(self, part: Part, delivered: int, retries: Sequence[Retry], dead: Sequence[DeadLetter]) -> None:
        """Say what became of a part's events: each delivered, to be retried, or dead."""
        assert delivered + len(retries) + len(dead) == part.events, "every event has one fate"
        part.delivered, part.retries, part.dead, part.finished = delivered, retries, dead, True

    def ready(self) -> tuple[int, int]:
        """Events, and offsets, of the finished parts at the front."""
        events = offsets = 0
        for part in self._parts:
            if not part.finished:
                break
            events += part.events
            offsets += part.end - part.start
        return events, offsets

    def first_event(self, otherwise: int) -> int:
        """Start of the first part that has events; ``otherwise`` when none has."""
        return next((part.start for part in self._parts if part.events), otherwise)

    def front(self) -> Passed | None:
        """The finished parts at the front, joined; None when there are none. They stay until :meth:`drop`."""
        passed: Passed | None = None
        for part in self._parts:
            if not part.finished:
                break
            if passed is None:
                passed = Passed(part.start, part.end, 0, [], [])
            passed.end = part.end
            passed.delivered += part.delivered
            passed.retries.extend(part.retries)
            passed.dead.extend(part.dead)
        return passed

    def drop(self, passed: Passed) -> None:
        """Forget the parts of ``passed``: they are stored."""
        while self._parts and self._parts[0].end <= passed.end:
            self.events -= self._parts.popleft().events
