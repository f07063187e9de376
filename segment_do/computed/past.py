"""Events of before a definition: which of them it needs, and a part of them.

Positions are offsets of the log. What is asked for and what comes back are plain values, for they cross processes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from segment_do.computed.definition import Definition
from segment_do.computed.measure import DAY_MICROSECONDS

__all__ = ["PastPart", "PastWanted"]

_MOST_NAME_CHARACTERS: Final = 10_000
"""Of all names of one call: a query's text is bounded. Beyond that it is asked for events of any name; what counts them knows."""


class PastWanted(msgspec.Struct, frozen=True):
    """The events at positions ``[begin, end)`` that a definition may count. Times are microseconds since the epoch."""

    identity: str
    begin: int
    end: int
    received_before: int
    calls: dict[str, list[str] | None]
    """Type of call to the names of its events; None: of any name."""
    limit: int
    """At most so many of them."""
    happened_from: int | None = None
    """Earlier ones have left every window; None: there is one without an end."""

    @classmethod
    def of(
        cls,
        identity: str,
        definition: Definition,
        *,
        begin: int,
        end: int,
        received_before: int,
        today: int,
        limit: int,
    ) -> PastWanted:
        """What a definition needs; ``today`` is a UTC day since the epoch."""
        calls: dict[str, list[str] | None] = {}
        for measure in definition.measures:
            known = calls.setdefault(measure.call, [])
            if measure.event is None or known is None:
                calls[measure.call] = None
            elif measure.event not in known:
                known.append(measure.event)
        for call, names in calls.items():
            if names is not None and sum(map(len, names)) > _MOST_NAME_CHARACTERS:
                calls[call] = None
        windows = [measure.window_days for measure in definition.measures]
        bounded = [days for days in windows if days is not None]
        # A day more than the widest window: the day may end before the part is counted, never the other way.
        first = today - max(bounded) if bounded and len(bounded) == len(windows) else None
        return cls(
            identity,
            begin,
            end,
            received_before,
            calls,
            limit,
            None if first is None else first * DAY_MICROSECONDS,
        )


class PastPart(msgspec.Struct, frozen=True):
    """Some of the events that were wanted, in the order of the log."""

    pack: bytes
    count: int
    position: int
    """Everything wanted up to it, itself included, is in here."""
