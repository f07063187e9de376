"""Test mode: events are recorded, nothing is sent."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from segment_do import Analytics, Busy, InvalidEvent, Unavailable
from segment_do.sdk import testing
from segment_do.sdk.testing import recording


async def test_events_are_recorded_instead_of_sent() -> None:
    """Old and new clients alike; receipts are settled; no thread starts."""
    tom = Analytics.for_("tom", host="http://127.0.0.1:1", token="t")
    before = threading.active_count()
    with recording() as events:
        await tom.track("Code Review Completed", {"pr": 123})
        await Analytics("wk", host="http://127.0.0.1:1").batch([{"type": "page", "name": "Home", "userId": "u"}])
        await tom.flush()
    assert threading.active_count() == before
    assert len(events) == 2
    assert events[0]["properties"] == {"pr": 123}
    assert events.named("Home") == events.of_type("page") == events[1:]
    assert events.sent_by("tom") == [events[0]]
    assert repr(events) == "<Recording of 2 events: ['Code Review Completed', 'page']>"
    events.clear()
    assert list(events) == []


def test_events_are_checked_as_ever() -> None:
    """A test must fail where the program would."""
    with Analytics.testing() as events, pytest.raises(InvalidEvent):
        Analytics.for_("tom").track("")
    assert not events


def test_whom_a_handle_speaks_for_is_forgotten_with_the_recording() -> None:
    """One test's identify does not reach the next test."""
    tom = Analytics.for_("tom", host="http://127.0.0.1:1", token="t")
    with recording() as events:
        tom.identify("ralph")
        tom.track("1")
    with recording() as later:
        tom.track("2")
        tom.identify("ralph")
        tom.reset()
        tom.track("3")
    assert events.named("1")[0]["userId"] == "ralph"
    assert [event["userId"] for event in later] == ["tom", "ralph", "tom"]


def test_failures_can_be_rehearsed() -> None:
    """What does the program do when the platform is away?"""
    with recording(error=Unavailable("away")) as events:
        receipt = Analytics.for_("tom").track("X")
    assert len(events) == 1
    with pytest.raises(Unavailable, match="away"):
        receipt.wait()


def test_the_innermost_recording_gets_the_events_and_ends_alone() -> None:
    """Also when the block ends with an error."""
    with recording() as outer:
        with suppress(ZeroDivisionError), recording() as inner:
            Analytics.for_("tom").track("in")
            raise ZeroDivisionError
        Analytics.for_("tom").track("out")
    assert [event["event"] for event in inner] == ["in"]
    assert [event["event"] for event in outer] == ["out"]
    assert testing.active() is None


def test_a_recording_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that loops for ever ends with a sentence, not with the machine's memory."""
    monkeypatch.setattr(testing, "_MAX_EVENTS", 2)
    with recording():
        for _ in range(2):
            Analytics.for_("tom").track("X")
        with pytest.raises(Busy, match="at most 2 events"):
            Analytics.for_("tom").track("X")
