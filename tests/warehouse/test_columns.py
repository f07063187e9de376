from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import CorruptData
from tests.warehouse.samples import NOON, frame, record, rejected
from warehouse.columns import rows_of
from warehouse.schema import ARROW


def one(**payload: object) -> dict[str, object]:
    return rows_of([frame(0, [record(0, payload)])], 0).events.to_pylist()[0]


def test_record_and_payload_become_one_row() -> None:
    """The envelope comes from the record, the rest from the payload, JSON text exactly as it was sent."""
    sent = b'{"type":"track", "properties": {"b": 1.0,  "a":2}, "context":{},"integrations":{"All":true},"groupId":"g"}'
    changes = {"ip": "1.2.3.4", "sent_at": NOON - 1, "original_timestamp": NOON - 2, "profile_id": "p"}
    row = rows_of([frame(7, [record(0, sent, **changes)], "ralph")], 7).events.to_pylist()[0]
    times = {name: row.pop(name) for name in ("timestamp", "received_at", "sent_at", "original_timestamp")}
    assert {name: round(value.timestamp() * 1e6) - NOON for name, value in times.items()} == {
        "timestamp": 0,
        "received_at": 0,
        "sent_at": -1,
        "original_timestamp": -2,
    }
    assert row == {
        "message_id": "m0",
        "type": "track",
        "event": "Signed Up",
        "identity": "ralph",
        "source_id": "src",
        "user_id": "u0",
        "anonymous_id": None,
        "profile_id": "p",
        "group_id": "g",
        "previous_id": None,
        "name": None,
        "category": None,
        "properties": '{"b": 1.0,  "a":2}',
        "traits": None,
        "context": "{}",
        "integrations": '{"All":true}',
        "extra": None,
        "ip": "1.2.3.4",
        "offset": 7,
    }


@pytest.mark.parametrize(
    ("sent", "stored"),
    [(5, "5"), (1.5, "1.5"), ("g", "g"), ("", None), (None, None), (True, "true"), ({"a": 1}, '{"a":1}')],
)
def test_ids_and_names_become_text(sent: object, stored: str | None) -> None:
    """Clients send numbers as ids; null and the empty string mean that there is none."""
    row = one(type="page", groupId=sent, previousId=sent, name=sent, category=sent)
    assert [row[name] for name in ("group_id", "previous_id", "name", "category")] == [stored] * 4


def test_page_has_a_name_and_no_event() -> None:
    """A page called like a track event is not counted as one."""
    page = record(0, {"type": "page", "name": "Signed Up"}, type="page", event="Signed Up")
    row = rows_of([frame(0, [page])], 0).events.to_pylist()[0]
    assert (row["event"], row["name"]) == (None, "Signed Up")


@pytest.mark.parametrize("known", [True, False])
def test_other_top_level_fields_are_kept(known: bool) -> None:
    """Fields without a column are in extra, whether a well-known library sends them or nobody does."""
    sent = {"channel": "server", "_metadata": {"a": 1}} if known else {"channel": "server", "x.y": [1], "é": None}
    assert json.loads(str(one(type="track", properties={}, **sent)["extra"])) == sent


@pytest.mark.parametrize("unknown", [{}, {"foo": 1}])
def test_write_key_is_never_stored(unknown: dict[str, object]) -> None:
    """Neither an event's write key nor an escaped spelling of its name reaches any column."""
    rows = rows_of([frame(0, [record(0, {"writeKey": "SECRET", **unknown})])], 0).events
    assert "SECRET" not in str(rows.to_pylist())
    escaped = rows_of([frame(0, [record(0, b'{"write\\u004bey":"SECRET","foo":1}')])], 0).events
    assert "SECRET" not in str(escaped.to_pylist())


@pytest.mark.parametrize(
    "payload",
    ['{"writeKey": "SECRET\\"SECRET", "a": 1}', '[{"writeKey":"SECRET"},{"writeKey" : "SECRET"}', '{"writeKey":"SECRE'],
)
def test_write_key_is_taken_out_of_what_was_set_aside(payload: str) -> None:
    """An event that was set aside is kept as it was sent, cut anywhere, but for the write key."""
    stored = rows_of([frame(0, [rejected(0, payload=payload)])], 0).rejected.to_pylist()[0]["payload"]
    assert "SECRE" not in stored
    assert "writeKey" in stored


def test_rejected_rows_carry_the_reason() -> None:
    """Set-aside events go to their own table, the others around them stay in order with their offsets."""
    rows = rows_of(
        [frame(0, [record(0), rejected(1, payload='{"x":1}'), record(2)]), frame(3, [rejected(3)], "ralph")], 0
    )
    assert rows.events["offset"].to_pylist() == [0, 2]
    first, second = rows.rejected.to_pylist()
    assert second["identity"] == "ralph"
    del first["received_at"]
    assert first == {
        "source_id": "src",
        "identity": "tom",
        "code": "missing_event",
        "message": "event is missing",
        "type": "track",
        "message_id": "m1",
        "index": 0,
        "payload": '{"x":1}',
        "offset": 1,
    }


def test_frames_are_cut_at_the_start() -> None:
    """Frames that were taken before are passed over exactly, also where one lies across the start."""
    frames = [frame(0, [record(0), record(1)]), frame(2, [record(2), record(3)]), frame(4, [record(4)])]
    assert rows_of(frames, 3).events["message_id"].to_pylist() == ["m3", "m4"]
    assert rows_of(frames, 5).events.num_rows == 0


def test_gap_and_broken_pack_are_corruption() -> None:
    """Missing events and bytes that are no records stop the warehouse; they are never skipped."""
    with pytest.raises(CorruptData, match="offset 2 where 1"):
        rows_of([frame(2, [record(2)])], 1)
    with pytest.raises(CorruptData, match="does not hold 2"):
        rows_of([(0, 2, "tom", frame(0, [record(0)])[3])], 0)


@given(st.binary(max_size=40) | st.sampled_from([b'{"properties":{"x":"\xff"}}', b"[" * 5000, b'{"\xff":1}', b"[1]"]))
def test_no_payload_holds_up_the_log(payload: bytes) -> None:
    """Whatever lies in a payload becomes a row that Parquet can hold; what cannot be taken apart is kept in extra."""
    events = rows_of([frame(0, [record(0, payload), record(1)])], 0).events
    assert events["message_id"].to_pylist() == ["m0", "m1"]
    events.validate(full=True)


def test_null_objects_are_missing() -> None:
    """`properties: null` is the same as none."""
    assert one(type="track", properties=None, traits=None)["properties"] is None


def test_schema_is_the_tables() -> None:
    """Rows have the columns of the tables, in their order, also when there are none."""
    rows = rows_of([], 0)
    assert rows.events.schema == ARROW["events"]
    assert rows.rejected.schema == ARROW["rejected"]
