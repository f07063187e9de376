"""The session that is on: what sorting a list of events and looking for the last gap says, however the events are ordered and grouped."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.computed import State, read_definition
from segment_do.events.record import Record
from tests.segment_do.computed.test_folds import KINDS, plain
from tests.segment_do.identity.events import DAY, NOON, record

MINUTE = 60_000_000
GAP = 30 * MINUTE


def session_of(events: list[Record], now: int, gap: int = GAP) -> list[Record]:
    """The events of the session that is on: the last one that does not begin too far ahead."""
    sessions: list[list[Record]] = []
    for each in sorted(events, key=lambda each: each.timestamp):
        if not sessions or each.timestamp - sessions[-1][-1].timestamp > gap:
            sessions.append([])
        sessions[-1].append(each)
    found = [session for session in sessions if session[0].timestamp <= now + gap][-1:]
    return found[0] if found and now <= found[0][-1].timestamp + gap else []


def definition(kind: str) -> Any:
    given = {"class": "trait", "key": "k", "kind": kind, "event": "Tested", "session_minutes": 30}
    return read_definition(given if kind == "event_count" else {**given, "property": "p"})


@pytest.mark.parametrize("kind", KINDS)
@given(
    minutes=st.lists(st.integers(0, 300), max_size=20), after=st.integers(-200, 60), seed=st.integers(0, 2**32), parts=st.integers(1, 4)
)  # fmt: skip
def test_sessions_are_what_a_list_says(kind: str, minutes: list[int], after: int, seed: int, parts: int) -> None:
    """Of every kind of computation, at any time."""
    random = Random(seed)
    events = [
        record(f"m{number}", at=NOON + at * MINUTE, body={"properties": {"p": random.choice([1, 2.5, "7"])}})
        for number, at in enumerate(minutes)
    ]
    now = NOON + (max(minutes, default=0) + after) * MINUTE
    [measure] = definition(kind).measures
    groups: list[State | None] = [None] * parts
    for each in random.sample(events, len(events)):
        state = measure.contribution(each, {"p": plain("last", [each])})
        at = random.randrange(parts)
        before = groups[at]
        groups[at] = state if before is None else measure.fold.join(before, state)
    state, until = measure.current(measure.joined([group for group in groups if group is not None]), now)
    expected = session_of(events, now)
    assert measure.fold.value(state) == (plain(kind, expected) if expected else measure.fold.value(None))
    if expected:
        assert until is not None
        assert session_of(events, until) == expected != session_of(events, until + 1)
    else:
        assert until is None


def test_a_session_may_last_for_days() -> None:
    """Its events are kept by day, and are one session all the same; what is older than a year is none of it."""
    [measure] = definition("event_count").measures
    assert measure.bucket(NOON) == NOON // DAY
    assert measure.counts(NOON // DAY - 364, NOON // DAY)
    assert not measure.counts(NOON // DAY - 365, NOON // DAY)
