"""Building events: what a call becomes on the wire."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.errors import InvalidEvent
from segment_do.sdk.message import MAX_EVENT_BYTES, build, instant, new_message_id, text_id
from segment_do.version import __version__

NOW = 1_750_000_000.123


def event(speaker: str | None = "tom", **fields: Any) -> dict[str, Any]:
    message = build({"type": "track", "event": "X", **fields}, speaker=speaker, now=NOW, new_id=lambda: "m1")
    parsed: dict[str, Any] = json.loads(message.data)
    assert parsed["messageId"] == message.message_id
    return parsed


def refused(**fields: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        event(**fields)
    return caught.value


def test_a_track_event_carries_what_the_spec_asks_for() -> None:
    """A bare call becomes a whole event: id, time in ms with Z, user, library."""
    assert event(properties={"pr": 123}) == {
        "type": "track",
        "event": "X",
        "messageId": "m1",
        "timestamp": "2025-06-15T15:06:40.123Z",
        "userId": "tom",
        "properties": {"pr": 123},
        "context": {"library": {"name": "segment_do", "version": __version__}},
    }


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "group", "alias"])
def test_each_type_carries_its_object(kind: str) -> None:
    """properties for track, page and screen, traits for identify and group, neither for alias."""
    found = event(type=kind, groupId="g", previousId="p")
    expected = {"track": "properties", "page": "properties", "screen": "properties", "alias": None}
    body = expected.get(kind, "traits")
    assert {name for name in ("properties", "traits") if name in found} == ({body} if body else set())


def test_ids_given_win_over_the_speaker() -> None:
    """The speaker stands in only where the event names nobody."""
    assert event(userId="u")["userId"] == "u"
    assert "userId" not in event(anonymousId="a")
    assert event(userId="", anonymousId=None)["userId"] == "tom"
    assert event(type="alias", previousId="p", anonymousId="a")["userId"] == "tom"


def test_without_any_id_the_event_is_refused() -> None:
    """Nobody to speak of: the code is the platform's own."""
    assert refused(speaker=None).code == "no_user_anon_id"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "purchase"}, "invalid_type"),
        ({"type": None}, "invalid_type"),
        ({"event": ""}, "missing_event"),
        ({"event": 7}, "wrong_type"),
        ({"type": "group"}, "missing_group_id"),
        ({"type": "alias"}, "missing_previous_id"),
        ({"messageId": "m" * 101}, "message_id_too_long"),
        ({"userId": ["u"]}, "wrong_type"),
        ({"userId": True}, "wrong_type"),
        ({"timestamp": "yesterday"}, "wrong_type"),
        ({"timestamp": 5}, "wrong_type"),
        ({"properties": [1]}, "wrong_type"),
        ({"properties": 5}, "wrong_type"),
        ({"context": "x"}, "wrong_type"),
        ({"user_id": "u"}, "wrong_field"),
        ({"properties": {"x": "y" * MAX_EVENT_BYTES}}, "event_too_large"),
        ({"properties": {"x": 10**5_000}}, "not_json"),
        ({"userId": 10**5_000}, "wrong_type"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_the_platforms_code(fields: dict[str, Any], code: str) -> None:
    """The caller learns at the call what the platform would say later."""
    assert refused(**fields).code == code


def test_the_largest_event_fits_and_one_byte_more_does_not() -> None:
    """The limit is 32,768 bytes of encoded event, exactly."""
    empty = len(build({"type": "track", "event": "X", "properties": {"x": ""}}, speaker="t", now=NOW, new_id=str).data)
    room = MAX_EVENT_BYTES - empty
    exact = build({"type": "track", "event": "X", "properties": {"x": "y" * room}}, speaker="t", now=NOW, new_id=str)
    assert len(exact.data) == MAX_EVENT_BYTES
    with pytest.raises(InvalidEvent):
        build({"type": "track", "event": "X", "properties": {"x": "y" * (room + 1)}}, speaker="t", now=NOW, new_id=str)


def test_unknown_fields_and_the_callers_library_are_kept() -> None:
    """Segment's contract keeps what it does not know."""
    found = event(channel="server", context={"library": {"name": "mine"}, "ip": "1.2.3.4"}, integrations={"All": False})
    assert found["channel"] == "server"
    assert found["context"] == {"library": {"name": "mine"}, "ip": "1.2.3.4"}
    assert found["integrations"] == {"All": False}


def test_objects_may_stand_for_mappings() -> None:
    """A dataclass is as good as a dict for properties."""

    @dataclasses.dataclass
    class Review:
        pr: int

    assert event(properties=Review(5))["properties"] == {"pr": 5}


def test_times_in_their_many_forms() -> None:
    """UTC with milliseconds and Z; naive datetimes are local time; ISO text goes as it is."""
    assert instant(None, 0.0) == "1970-01-01T00:00:00.000Z"
    assert instant(datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC), NOW) == "2026-01-02T03:04:05.678Z"
    assert instant(datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), NOW) == "2026-01-02T01:00:00.000Z"
    naive = datetime(2026, 1, 2, 3)  # noqa: DTZ001
    assert instant(naive, NOW) == instant(naive.astimezone(), NOW)
    assert instant(date(2026, 1, 2), NOW) == "2026-01-02T00:00:00.000Z"
    assert instant("2026-01-02T03:04:05+02:00", NOW) == "2026-01-02T03:04:05+02:00"


def test_ids_become_text() -> None:
    """Numbers their digits, as JavaScript writes them; half an emoji does not cost the event."""

    class Kind(Enum):
        A = "a"

    same = uuid.UUID(int=5)
    given = [7, 5.0, 1.5, same, Kind.A, "u\ud800", "\ud83d\ude00", "", None]
    expected = ["7", "5", "1.5", str(same), "a", "u\ufffd", "\U0001f600", None, None]
    assert [text_id("userId", one) for one in given] == expected


def test_message_ids_are_version_7_uuids_in_the_order_of_time() -> None:
    """RFC 9562: version and variant bits, the time first."""
    first = uuid.UUID(new_message_id(1_750_000_000_123, bytes(10)))
    assert first.version == 7
    assert first.variant == uuid.RFC_4122
    assert first.int >> 80 == 1_750_000_000_123
    assert new_message_id(1, b"\xff" * 10) < new_message_id(2, bytes(10))


def test_a_callers_later_changes_do_not_reach_the_event() -> None:
    """The event is what it was at the call."""
    properties = {"list": [1]}
    message = build({"type": "track", "event": "X", "properties": properties}, speaker="t", now=NOW, new_id=lambda: "m")
    properties["list"].append(2)
    assert json.loads(message.data)["properties"] == {"list": [1]}


texts = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.binary(max_size=20)
    | st.complex_numbers()
    | st.just(Decimal("sNaN"))
    | st.just(object())
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers() | st.none() | st.tuples(st.integers()), inner, max_size=4)
        | st.frozensets(texts | st.integers() | st.floats(), max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(properties=values, context=values, name=values, user=values, kind=st.sampled_from(["track", "page", "group"]))
def test_anything_gives_valid_json_within_the_limit_or_is_refused(
    properties: object, context: object, name: object, user: object, kind: str
) -> None:
    """Whatever a program passes, what leaves is one JSON object that every strict parser takes."""
    fields = {"type": kind, "event": name, "name": name, "groupId": user, "userId": user}
    try:
        message = build(
            {**fields, "properties": properties, "traits": properties, "context": context},
            speaker="tom",
            now=NOW,
            new_id=lambda: "m",
        )
    except InvalidEvent:
        return
    assert len(message.data) <= MAX_EVENT_BYTES
    parsed = json.loads(message.data.decode(), parse_constant=lambda text: 1 / 0)
    assert parsed["type"] == kind
