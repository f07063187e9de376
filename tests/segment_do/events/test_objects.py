"""The door's reading of `POST /v1/set`: all objects of a body, or a reason why none."""

from __future__ import annotations

import contextlib
import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import MalformedBody, TooLarge
from segment_do.events.intake import Caller
from segment_do.events.objects import MAX_OBJECT_BYTES, object_intake
from segment_do.events.record import OBJECT, Record, decode_pack

NOW = 1_790_000_000_000_000


def intake(body: Any) -> list[Record]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    numbers = count()
    found = object_intake(raw, Caller("src"), NOW, lambda: f"made-{next(numbers)}")
    assert found.refused == []
    return decode_pack(found.pack, found.events)


def body(*objects: Any, collection: Any = "rooms") -> dict[str, Any]:
    return {"collection": collection, "objects": list(objects)}


def room(object_id: Any = "1", **properties: Any) -> dict[str, Any]:
    return {"id": object_id, "properties": properties}


def test_each_object_becomes_a_record() -> None:
    """With its collection, its id as text, its properties, an id of its own, and one moment for all."""
    records = intake(body(room("1", name="Blue"), room(2)))
    assert [(record.type, record.event, record.message_id) for record in records] == [
        (OBJECT, "rooms", "made-0"),
        (OBJECT, "rooms", "made-1"),
    ]
    assert [json.loads(record.payload) for record in records] == [
        {"id": "1", "properties": {"name": "Blue"}},
        {"id": "2", "properties": {}},
    ]
    assert {(record.source_id, record.received_at, record.user_id) for record in records} == {("src", NOW, None)}


def test_properties_stay_as_they_were_written() -> None:
    """Numbers are not read; of a name given twice the last counts; half an emoji is U+FFFD."""
    sent = b'{"collection":"a","objects":[{"id":"1","properties":{"n":1.0,"big":123456789012345678901234567890,"n":2.50,"t":"\\ud83d"}}]}'
    (record,) = intake(sent)
    assert b'"n":2.50' in record.payload
    assert b"123456789012345678901234567890" in record.payload
    assert json.loads(record.payload)["properties"]["t"] == "\ufffd"


@pytest.mark.parametrize("name", ["a", "rooms", "big_rooms", "a__b", "rooms2", "a" * 100])
def test_names_of_collections(name: str) -> None:
    """Lower case letters, digits and underscores, up to 100 characters."""
    assert intake(body(room(), collection=name))[0].event == name


@pytest.mark.parametrize(
    "name", ["", "_a", "a_", "_", "Rooms", "a-b", "a b", "ä", "a\n", "a.b", "a" * 101, None, 7, ["a"]]
)
def test_names_that_collections_cannot_have(name: Any) -> None:
    """Anything else, an underscore at an edge above all, refuses the body."""
    with pytest.raises(MalformedBody, match="collection"):
        intake(body(room(), collection=name))


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        {},
        {"collection": "rooms"},
        {"objects": [room()]},
        {"collection": "rooms", "objects": {}},
        body(),
        body(*[room(number) for number in range(11)]),
        body(7),
        body(None),
        body({"id": "1"}),
        body({"properties": {}}),
        body({"id": "1", "properties": []}),
        body({"id": "1", "properties": None}),
        body({"id": None, "properties": {}}),
        body({"id": True, "properties": {}}),
        body({"id": 1.5, "properties": {}}),
        body(room("")),
        body(room("i" * 501)),
        body(room(), {"id": "2"}),
        b'{"collection":"a","objects":[{"id":"1","properties":{"deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}}]}",
    ],
)
def test_what_is_no_set_of_objects_is_refused_whole(wrong: Any) -> None:
    """One to ten objects, each with an id and properties; one that is wrong refuses its neighbours too."""
    with pytest.raises(MalformedBody):
        intake(wrong)


def test_an_object_has_a_bound() -> None:
    """400 KB of JSON, and not a byte more."""
    around = len('{"id":"1","properties":{"t":""}}')
    assert len(intake(body(room("1", t="x" * (MAX_OBJECT_BYTES - around))))) == 1
    with pytest.raises(TooLarge, match="400,001"):
        intake(body(room("1", t="x" * (MAX_OBJECT_BYTES - around + 1))))


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, json_values, max_size=5))
def test_any_properties_come_through(properties: dict[str, Any]) -> None:
    """Whatever JSON can say is what the record says."""
    (record,) = intake(body({"id": "1", "properties": properties}))
    assert json.loads(record.payload)["properties"] == properties


@given(st.binary(max_size=200))
def test_no_body_breaks_anything_else(raw: bytes) -> None:
    """Bytes of any kind are objects or a refusal."""
    with contextlib.suppress(MalformedBody, TooLarge):
        intake(raw)
