"""The session that somebody is in: events of which none is farther from the next one than a gap, the last of them not long ago.

States are lists of sessions, so that events which come late, or from another of a profile's ids, may still join two of them. In one UTC
day an id has at most as many as the gap fits into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segment_do.computed.folds import Fold, State

__all__ = ["Sessions"]


@dataclass(frozen=True)
class Sessions:
    """A fold over the events of each session. State: ``[begin, end, state of its events]`` of each, in order; times in microseconds."""

    fold: Fold
    gap: int
    """Microseconds without an event after which a session is over."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        state = self.fold.of(value, timestamp, message_id)
        return None if state is None else [[timestamp, timestamp, state]]

    def join(self, one: State, other: State) -> State:
        joined: list[list[Any]] = []
        for begin, end, state in sorted([*one, *other], key=lambda session: session[0]):
            if joined and begin - joined[-1][1] <= self.gap:
                last = joined[-1]
                joined[-1] = [last[0], max(last[1], end), self.fold.join(last[2], state)]
            else:
                joined.append([begin, end, state])
        return joined

    def current(self, state: State | None, now: int) -> tuple[State | None, int | None]:
        """State of the events of the session that is on, and until when it will be that one unless an event comes; (None, None) where
        none is. One that begins farther ahead than the gap, by a clock that is wrong, hides none that is on.
        """
        ahead = None
        for begin, end, events in reversed(state or ()):
            if begin > now + self.gap:
                ahead = begin
                continue
            until = end + self.gap if ahead is None else min(end + self.gap, ahead - self.gap - 1)
            return (None, None) if now > end + self.gap else (events, until)
        return None, None

    def value(self, state: State | None) -> Any:
        """Of the events of one session."""
        return self.fold.value(state)
