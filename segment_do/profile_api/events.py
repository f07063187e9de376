"""Which of a profile's events are wanted: what the warehouse is asked for, and how a page ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from segment_do.profile_api.call import Call, invalid
from segment_do.profile_api.pages import read_next, write_next

__all__ = ["COLUMNS", "DAYS", "EventsWanted", "next_after"]

DAYS: Final = 14
"""Older events are not told."""
COLUMNS: Final = (
    "message_id", "type", "event", "source_id", "user_id", "anonymous_id", "profile_id", "group_id",
    "at", "offset", "properties", "traits", "context",
)  # fmt: skip
"""Of a row, in order. ``at``: microseconds since the epoch."""
_MOST_ID_CHARACTERS: Final = 60_000
"""Of all ids looked for, because a query's text is bounded: a thousand UUIDs fit. Beyond that the latest seen ids count."""
_DAY: Final = 86_400_000_000


class EventsWanted(msgspec.Struct, frozen=True):
    """One page of the events that carried one of a profile's ids. Times are microseconds since the epoch."""

    identity: str
    user_ids: list[str]
    anonymous_ids: list[str]
    group_ids: list[str]
    start: int
    end: int
    """The first moment that is no longer wanted."""
    limit: int
    """One more than this are read, to know whether there are more."""
    ascending: bool = False
    include: list[str] = []
    """Names of events; empty: all."""
    exclude: list[str] = []
    after: tuple[int, int] | None = None
    """Moment and offset of the last event of the page before."""

    @classmethod
    def of(cls, identity: str, profile: dict[str, Any], now: int, *, limit: int) -> EventsWanted:
        """The latest events of a profile, as :mod:`segment_do.identity.questions` tells it."""
        users, anonymous, groups = (
            _values(profile["externalIds"], kind) for kind in ("user_id", "anonymous_id", "group_id")
        )
        return cls(identity, users, anonymous, groups, now - DAYS * _DAY, now + _DAY, limit)

    @classmethod
    def asked(cls, call: Call, profile: dict[str, Any], now: int) -> EventsWanted:
        """What a call asks for.

        Raises:
            InvalidRequest: its page is none of ours.
        """
        latest = cls.of(call.space, profile, now, limit=call.limit)
        after = None
        if call.next is not None:
            try:
                at, offset = read_next(call.next).split(" ")
                after = (_bounded(at), _bounded(offset))
            except ValueError:
                raise invalid("next is not what a page before has told.") from None
        return msgspec.structs.replace(
            latest,
            start=max(latest.start, latest.start if call.start is None else call.start),
            end=min(latest.end, latest.end if call.end is None else call.end + 1),
            ascending=call.ascending,
            include=sorted(call.include),
            exclude=sorted(call.exclude),
            after=after,
        )


def next_after(row: list[Any]) -> str:
    """The page that follows this row."""
    return write_next(f"{row[8]} {row[9]}")


def _bounded(digits: str) -> int:
    found = int(digits)
    if abs(found) >= 2**62:
        raise ValueError
    return found


def _values(ids: Iterable[dict[str, Any]], kind: str) -> list[str]:
    """Those of one type, the latest seen first, as many as a query may hold."""
    found: list[str] = []
    left = _MOST_ID_CHARACTERS // 2
    for each in sorted(ids, key=lambda each: str(each["lastSeen"]), reverse=True):
        if each["type"] == kind:
            left -= len(each["id"]) + 4
            if left < 0:
                break
            found.append(each["id"])
    return found
