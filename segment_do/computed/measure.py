"""One figure of a profile: which events count, and how they add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from segment_do.computed.conditions import Where, holds, lookup
from segment_do.computed.folds import Fold, State
from segment_do.computed.sessions import Sessions
from segment_do.events.record import Record

__all__ = ["DAY_MICROSECONDS", "Call", "Measure", "read_properties"]

Call = Literal["track", "page", "screen"]
DAY_MICROSECONDS = 86_400_000_000


class _Event(msgspec.Struct, gc=False):
    properties: Any = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True)
class Measure:
    """Events of one name whose properties are so and so, within a window of whole UTC days."""

    call: Call
    event: str | None
    """None: of any name, which pages and screens may have."""
    where: Where | None
    property: str | None
    window_days: int | None
    """Today and so many days less one before it, by the events' own times; None: ever. What lies in the future counts."""
    fold: Fold

    def contribution(self, record: Record, properties: Any) -> State | None:
        """State of one event of this call and name; None where it does not count."""
        if not holds(self.where, properties):
            return None
        value = None if self.property is None else lookup(properties, self.property)
        return self.fold.of(value, record.timestamp, record.message_id)

    def bucket(self, timestamp: int) -> int:
        """Where an event's state is kept: its UTC day since the epoch, or 0 without a window."""
        return 0 if self.window_days is None else timestamp // DAY_MICROSECONDS

    def counts(self, bucket: int, today: int) -> bool:
        """Whether a bucket is within the window."""
        return self.window_days is None or bucket > today - self.window_days

    def joined(self, states: Iterable[State]) -> State | None:
        """State of all events of some states; None of none."""
        total: State | None = None
        for state in states:
            total = state if total is None else self.fold.join(total, state)
        return total

    def current(self, state: State | None, now: int) -> tuple[State | None, int | None]:
        """What counts now of a state of all events, and when that will be less without an event, microseconds since the epoch; the days of
        a window aside.
        """
        return self.fold.current(state, now) if isinstance(self.fold, Sessions) else (state, None)


def read_properties(payload: bytes) -> Any:
    """``properties`` of an event, decoded; None where it has none, or cannot be read."""
    try:
        return _decode(payload).properties
    except (ValueError, RecursionError):
        return None
