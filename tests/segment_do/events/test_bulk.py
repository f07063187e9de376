"""Lines of an uploaded file as records: each by itself, always under the same id, in bounded packs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.events import bulk
from segment_do.events.bulk import MAX_LINE_BYTES, Part, Rows, lines_of, rest_rejected, rows_of
from segment_do.events.objects import MAX_OBJECT_BYTES
from segment_do.events.record import OBJECT, REJECTED, Record, decode_pack

PART = Part("5" * 32, 2, "src", 1_790_000_000_000_000)


def line(object_id: Any = "1", collection: Any = "rooms", **properties: Any) -> bytes:
    return json.dumps({"id": object_id, "collection": collection, "properties": properties}).encode()


def records(*lines: bytes, **options: int) -> list[Record]:
    return [record for rows in rows_of(lines, PART, **options) for record in decode_pack(rows.pack, rows.records)]


@given(st.lists(st.text("ab\r\n", max_size=20), max_size=5), st.integers(1, 7))
def test_lines_are_those_of_the_text(texts: list[str], step: int) -> None:
    """Wherever the pieces are cut; a last line needs no end."""
    text = "\n".join(texts).encode()
    expected = text.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert list(lines_of(text[at : at + step] for at in range(0, len(text), step))) == expected


def test_a_long_line_is_not_kept() -> None:
    """Of ten megabytes without an end a byte more than is allowed stays; the line behind it is whole."""
    long, after = lines_of([b"x" * 2**20] * 10 + [b"\nnext"])
    assert (len(long), after) == (MAX_LINE_BYTES + 1, b"next")


def test_a_line_is_an_object() -> None:
    """With its collection, its id as text, and an id of its own made of sync, part and line; blank lines count."""
    found = records(line("1", name="Blue"), b"", b" \r", line(2, "guests"))
    assert [(one.type, one.event, one.message_id) for one in found] == [
        (OBJECT, "rooms", f"{PART.sync_id}:2:1"),
        (OBJECT, "guests", f"{PART.sync_id}:2:4"),
    ]
    assert [json.loads(one.payload) for one in found] == [
        {"id": "1", "properties": {"name": "Blue"}},
        {"id": "2", "properties": {}},
    ]
    assert {(one.source_id, one.received_at) for one in found} == {("src", PART.received_at)}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"{", "malformed_object"),
        (b"[]", "malformed_object"),
        (b"\xff\xfe", "malformed_object"),
        (b'{"collection":"a","x":' + b"[" * 10_000, "malformed_object"),
        (line(collection="_rooms"), "invalid_collection"),
        (b'{"id":"1","properties":{}}', "invalid_collection"),
        (b'{"collection":"rooms","properties":{}}', "malformed_object"),
        (b'{"collection":"rooms","id":"1"}', "malformed_object"),
        (line(""), "invalid_object_id"),
        (line(t="x" * MAX_OBJECT_BYTES), "object_too_large"),
        (b"x" * (MAX_LINE_BYTES + 1), "line_too_long"),
    ],
)
def test_a_line_that_breaks_a_rule_is_set_aside_alone(wrong: bytes, code: str) -> None:
    """With its reason, its place and the beginning of its text; the lines beside it are stored."""
    (rows,) = rows_of([line("1"), wrong, line("2")], PART)
    first, aside, last = decode_pack(rows.pack, rows.records)
    assert (rows.objects, rows.rejected) == (2, 1)
    assert [json.loads(one.payload)["id"] for one in (first, last)] == ["1", "2"]
    assert (aside.type, aside.event, aside.message_id) == (REJECTED, code, f"rejected:{PART.sync_id}:2:2")
    told = json.loads(aside.payload)
    assert (told["code"], told["index"], told["type"]) == (code, 1, OBJECT)
    assert told["payload"] == wrong[:32_768].decode("utf-8", "replace")
    assert f"Line 2 of part 2 of sync {PART.sync_id}" in told["message"]


def test_reading_again_gives_the_same_records() -> None:
    """From the beginning or from the middle: the same ids for the same lines."""
    lines = [line(str(number)) if number % 3 else b"?" for number in range(20)]
    whole = records(*lines)
    assert records(*lines) == whole
    assert records(*lines, after=7) == whole[7:]


def test_packs_are_bounded() -> None:
    """By bytes where lines make records, and by lines where they make none; each says how far it has come."""
    found = list(rows_of([line(str(number), t="x" * 1000) for number in range(1000)], PART))
    assert all(len(rows.pack) < 2 * 256 * 1024 for rows in found)
    assert sum(rows.records for rows in found) == found[-1].line == 1000
    assert [rows.line for rows in rows_of([b""] * 50_000, PART)] == [20_000, 40_000]
    assert [rows.line for rows in rows_of([line()] * 50_000, PART, after=50_000)] == [20_000, 40_000]


def test_rubbish_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many rejected lines of a sync they are counted, and one record tells of them."""
    monkeypatch.setattr(bulk, "MOST_REJECTED", 5)
    (rows,) = rows_of([b"?"] * 10 + [line()], PART, rejected=3)
    assert rows == Rows(rows.pack, 3, 1, 10, 11)
    assert rest_rejected(PART, 5) is None
    rest = rest_rejected(PART, 13)
    assert rest is not None
    (told,) = decode_pack(rest.pack, rest.records)
    assert (told.type, told.event) == (REJECTED, "too_many_rejected")
    assert "13 lines" in json.loads(told.payload)["message"]


@given(st.binary(max_size=100))
def test_no_line_breaks_anything_else(raw: bytes) -> None:
    """Bytes of any kind are an object, set aside, or blank."""
    assert len(records(raw)) == (0 if not raw or raw.isspace() else 1)
