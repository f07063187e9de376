"""The door's reading of bodies: the contract event by event, and no body that breaks more than itself."""

from __future__ import annotations

import contextlib
import json
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from segment_do.errors import MalformedBody, TooLarge
from segment_do.events.intake import Caller, Intake, Limits, batch_intake, body_write_key, single_intake
from segment_do.events.record import REJECTED, Record, decode_pack
from segment_do.events.repair import repair_text, split_batch

NOW = 1_790_000_000_000_000
CALLER = Caller("src", "10.1.2.3")


def batch(*events: Any, **envelope: Any) -> list[Record]:
    return read(batch_raw(json.dumps({"batch": list(events), **envelope}).encode()))


LIMITS = Limits()


def batch_raw(body: bytes) -> Intake:
    numbers = count()
    return batch_intake(body, CALLER, NOW, lambda: f"made-{next(numbers)}", LIMITS)


def single(kind: str, event: Any, caller: Caller = CALLER) -> Record:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    intake = single_intake(body, kind, caller, NOW, lambda: "made", Limits())
    (record,) = read(intake)
    return record


def read(intake: Intake) -> list[Record]:
    return decode_pack(intake.pack, intake.events)


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "E", "userId": "u", "messageId": "m", **fields}


def test_the_envelope_is_read_and_the_event_kept_as_it_came() -> None:
    """Ids, name, times go into the record; the event's own bytes, unknown fields and key order included, stay."""
    body = b'{"zeta":1,"event":"Order Completed","userId":"ada","anonymousId":"a1","messageId":"m1","properties":{"b":1,"a":[]}}'
    record = single("track", body)
    assert (record.message_id, record.type, record.event, record.user_id, record.anonymous_id) == (
        "m1", "track", "Order Completed", "ada", "a1",
    )  # fmt: skip
    assert record.payload == body


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [(7, "7"), (7.0, "7"), (1.5, "1.5"), (10**30, str(10**30)), ("x", "x"), (None, None), ("", None)],
)
def test_ids_are_strings_and_null_is_missing(given_id: Any, kept: str | None) -> None:
    """Numbers become their digits, null and the empty string count as missing (spec, common fields)."""
    record = single("track", track(userId=given_id, anonymousId="a"))
    assert record.user_id == kept


@pytest.mark.parametrize(
    ("kind", "event", "code"),
    [
        ("track", {"userId": "u"}, "missing_event"),
        ("track", {"event": "E"}, "no_user_anon_id"),
        ("track", {"event": "E", "userId": None, "anonymousId": ""}, "no_user_anon_id"),
        ("track", track(messageId="x" * 101), "message_id_too_long"),
        ("group", {"userId": "u"}, "missing_group_id"),
        ("alias", {"userId": "u"}, "missing_previous_id"),
        ("track", track(type="purchase"), "invalid_type"),
        ("track", track(userId=["u"]), "wrong_type"),
        ("track", track(properties=[1]), "wrong_type"),
        ("track", track(context="x"), "wrong_type"),
        ("identify", {"userId": "u", "traits": 3}, "wrong_type"),
    ],
)
def test_an_event_that_breaks_the_contract_is_set_aside_with_its_reason(kind: str, event: Any, code: str) -> None:
    """It is stored as rejected, with a stable code, a sentence and the event as it came."""
    record = single(kind, event)
    told = json.loads(record.payload)
    assert (record.type, record.event, told["code"]) == (REJECTED, code, code)
    assert json.loads(told["payload"]) == event
    assert told["message"].endswith(".")


@pytest.mark.parametrize("limits_field", ["properties", "traits", "context"])
def test_null_objects_count_as_missing(limits_field: str) -> None:
    """`"properties": null` is what some clients send for none."""
    assert single("track", track(**{limits_field: None})).type == "track"


def test_times_are_corrected_by_the_clock_of_the_client() -> None:
    """timestamp = receivedAt - (sentAt - originalTimestamp); without sentAt the client's time stands."""
    (record,) = batch(track(timestamp="2020-01-01T00:00:00Z"), sentAt="2020-01-01T00:00:10Z")
    assert record.timestamp == NOW - 10_000_000
    assert record.original_timestamp == 1_577_836_800_000_000
    (record,) = batch(track(timestamp="2020-01-01T00:00:00.123+02:00"))
    assert record.timestamp == 1_577_836_800_123_000 - 2 * 3_600_000_000
    (record,) = batch(track())
    assert record.timestamp == record.original_timestamp == NOW


@pytest.mark.parametrize("bad", ["yesterday", "", "2020-13-01", "9" * 500, "0001-01-01T00:00:00+23:59", True, 1e300])
def test_a_time_that_cannot_be_read_never_costs_the_event(bad: Any) -> None:
    """The event then happened when it was received."""
    record = single("track", track(timestamp=bad)) if bad is not True else single("track", track(sentAt="x"))
    assert (record.type, record.timestamp) == ("track", NOW)


def test_the_address_is_kept_for_browsers_and_on_request() -> None:
    """context.ip comes from the connection for client-side sources, or where context.direct is true."""
    browser = CALLER._replace(client_side=True)
    assert single("track", track()).ip is None
    assert single("track", track(context={"direct": True})).ip == "10.1.2.3"
    assert single("track", track(), browser).ip == "10.1.2.3"


def test_the_envelope_lends_context_and_integrations() -> None:
    """They are merged beneath each event's own; the event's values win."""
    (record,) = batch(
        track(context={"a": 1}, integrations=None),
        context={"a": 0, "b": 2},
        integrations={"All": False},
    )
    payload = json.loads(record.payload)
    assert payload["context"] == {"a": 1, "b": 2}
    assert payload["integrations"] == {"All": False}


def test_one_bad_event_costs_none_of_its_neighbours() -> None:
    """NaN, nesting without end, broken numbers, huge events, wrong types: each is set aside alone."""
    deep = '{"type":"track","event":"E","userId":"u","properties":' + '{"a":' * 20_000 + "1" + "}" * 20_001
    bad = [
        '{"type":"track","event":"E","userId":"u","properties":{"x":NaN}}',
        deep,
        '{"type":"track","event":"E","userId":"u","properties":{"x":01}}',
        "3",
        "null",
        "[]",
        '{"type":"track","event":"E","userId":"u","properties":{"x":"' + "y" * 40_000 + '"}}',
        '{"type":"track",}',
    ]
    good = [json.dumps(track(messageId=f"good-{number}")) for number in range(len(bad) + 1)]
    mixed = [good[0]]
    for broken, fine in zip(bad, good[1:], strict=True):
        mixed += [broken, fine]
    intake = batch_raw(('{"batch":[' + ",".join(mixed) + "]}").encode())
    records = read(intake)
    assert [record.message_id for record in records if record.type == "track"] == [
        f"good-{number}" for number in range(len(good))
    ]
    assert [refused.position for refused in intake.refused] == list(range(1, len(mixed), 2))


def test_lone_surrogates_are_repaired_and_nothing_else_is_touched() -> None:
    """A truncated emoji becomes U+FFFD; pairs, and escaped backslashes before a `ud83d`, stay as they are."""
    body = rb'{"batch":[{"type":"track","userId":"u","event":"\ud83d a \ud83d\ude00 b \\ud83d c \ude00"}]}'
    (record,) = read(batch_raw(body))
    assert record.event == "� a \U0001f600 b \\ud83d c �"


@given(st.text(alphabet=st.characters(codec=None), max_size=40))
def test_any_text_survives_the_repair(text: str) -> None:
    """Whatever a client escapes, with lone surrogates anywhere, comes out as the same text with U+FFFD for those."""
    escaped = json.dumps(text).encode()
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    repaired = msgspec.json.decode(repair_text(escaped), type=str)
    assert repaired.replace("�", "") == expected.replace("�", "")
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert repair_text(escaped) == escaped


def test_bytes_that_are_not_utf8_are_repaired() -> None:
    """Latin-1 from an old client costs the letter, not the event."""
    record = single("track", b'{"event":"caf\xe9","userId":"u"}')
    assert record.event == "caf�"
    record.payload.decode()


def test_too_many_events_are_set_aside_in_one_record() -> None:
    """Above 2,500 events a batch is rejected whole, and says so; the contract answers 200."""
    intake = batch_raw(json.dumps({"batch": [track()] * 2501}).encode())
    (record,) = read(intake)
    assert record.event == "batch_too_large"
    assert "2,501" in intake.refused[0].message
    assert batch_raw(json.dumps({"batch": [track()] * 2500}).encode()).events == 2500


def test_a_single_event_beyond_its_limit_is_refused() -> None:
    """32 KB is the limit of an event; one byte more is a 400."""
    frame = len(json.dumps(track(properties={"x": ""})))
    assert single("track", track(properties={"x": "y" * (32_768 - frame)})).type == "track"
    with pytest.raises(TooLarge):
        single("track", track(properties={"x": "y" * (32_769 - frame)}))


@pytest.mark.parametrize(
    "body", [b"", b"nul", b"[]", b'"x"', b'{"batch":3}', b'{"batch":[}', b"{}", b'{"batch":[{]}', b"\xff\xfe"]
)
def test_a_body_that_is_no_batch_is_malformed(body: bytes) -> None:
    """Only a body that cannot be cut into events is refused whole, with a sentence."""
    with pytest.raises(MalformedBody, match=r"\.$"):
        batch_raw(body)


def test_endless_nesting_is_refused_at_bounded_cost() -> None:
    """A body of half a million brackets is an error, not a crash and not a long wait."""
    with pytest.raises(MalformedBody):
        batch_raw(b"[" * 500_000)
    with pytest.raises(MalformedBody):
        batch_raw(b'{"batch":' + b"[" * 500_000)


def test_a_key_in_the_body_is_found() -> None:
    """Kotlin, Swift, C# and React Native send no Authorization; also where one event of the batch is broken."""
    assert body_write_key(b'{"batch":[],"writeKey":"k"}') == "k"
    assert body_write_key(b'{"batch":[{"x":NaN}],"writeKey":"k"}') == "k"
    assert body_write_key(b'{"writeKey":7}') is None
    assert body_write_key(b"[") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["type", "userId", "anonymousId", "event", "messageId", "timestamp", "sentAt", "properties", "traits", "context", "groupId", "x"]  # fmt: skip
EVENTS = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.sampled_from(["track", "identify", "2020-01-01"]), max_size=8
)


@hypothesis_settings(max_examples=200)
@given(st.lists(EVENTS | JSON, max_size=6))
def test_whatever_the_events_are_each_is_accounted_for(events: list[Any]) -> None:
    """Every event of a batch becomes exactly one record, good or set aside, and every record can be read again."""
    body = json.dumps({"batch": events}).encode()
    intake = batch_raw(body)
    records = read(intake)
    assert len(records) == intake.events == len(events)
    assert sum(record.type == REJECTED for record in records) == len(intake.refused)
    for record in records:
        record.payload.decode()
        msgspec.json.decode(record.payload, type=dict[str, msgspec.Raw])
        msgspec.msgpack.encode(record)


@hypothesis_settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\abtchu0123 \n', max_size=120).map(str.encode))
def test_whatever_the_body_is_there_is_an_answer(body: bytes) -> None:
    """Any bytes are either events or a MalformedBody: nothing else is ever raised."""
    for read_body in (batch_raw, lambda data: single_intake(data, "track", CALLER, NOW, lambda: "m", LIMITS)):
        with contextlib.suppress(MalformedBody):
            read(read_body(body))
    body_write_key(body)


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=5), st.text(max_size=5))
def test_splitting_agrees_with_parsing(events: list[Any], other: str) -> None:
    """Cut by brackets alone, a sound batch falls into exactly the events that a parser finds."""
    body = json.dumps({"other": {"batch": [other]}, "batch": events, "last": [other]}, indent=1).encode()
    parts = split_batch(body)
    assert parts is not None
    assert [json.dumps(json.loads(event)) for event in parts.events] == [json.dumps(event) for event in events]
    assert json.loads(parts.envelope)["batch"] == []
