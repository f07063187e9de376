"""The whole event: what was sent, with what the platform knows laid over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.events.record import Record
from segment_do.events.timestamps import EARLIEST, LATEST, iso
from segment_do.events.whole import whole_event


def record(payload: bytes, **changed: Any) -> Record:
    made = Record(
        message_id="m1",
        type="track",
        source_id="s1",
        user_id=None,
        anonymous_id=None,
        event="Signed Up",
        timestamp=1_700_000_000_123_456,
        received_at=1_700_000_001_000_999,
        sent_at=None,
        original_timestamp=None,
        ip=None,
        payload=payload,
    )
    return msgspec.structs.replace(made, **changed)


def test_payload_is_kept_byte_for_byte_and_in_order() -> None:
    """Unknown fields, number spellings, big integers and key order come out as they went in."""
    payload = b'{"zeta":1.0,"messageId":"x","properties":{"b":1e3,"a":123456789012345678901234567890,"\\u00e9":"\xc3\xa9"},"type":"x","alpha":[null]}'
    assert whole_event(record(payload), "tom").startswith(
        b'{"zeta":1.0,"messageId":"m1","properties":{"b":1e3,"a":123456789012345678901234567890,"\\u00e9":"\xc3\xa9"},"type":"track","alpha":[null],'
    )


def test_platform_fields_are_laid_over() -> None:
    """Ids are strings, times are corrected ISO-8601 UTC with milliseconds, the write key is gone."""
    payload = b'{"writeKey":"secret","type":"track","userId":42,"anonymousId":null,"timestamp":"yesterday","sentAt":5}'
    event = msgspec.json.decode(
        whole_event(record(payload, user_id="42", sent_at=0, original_timestamp=1_699_999_999_000_000), "tom")
    )
    assert event == {
        "type": "track",
        "userId": "42",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "sentAt": "1970-01-01T00:00:00.000Z",
        "messageId": "m1",
        "originalTimestamp": "2023-11-14T22:13:19.000Z",
        "receivedAt": "2023-11-14T22:13:21.000Z",
    }


def test_what_is_missing_stays_absent() -> None:
    """No sentAt and no ids where there were none; originalTimestamp falls back to receivedAt."""
    event = msgspec.json.decode(whole_event(record(b'{"sentAt":"nonsense","userId":""}'), "tom"))
    assert set(event) == {"messageId", "type", "timestamp", "originalTimestamp", "receivedAt"}
    assert event["originalTimestamp"] == event["receivedAt"]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (b"", {"ip": "1.2.3.4"}),
        (b',"context":null', {"ip": "1.2.3.4"}),
        (b',"context":{"locale":"en"}', {"locale": "en", "ip": "1.2.3.4"}),
        (b',"context":{"ip":null}', {"ip": "1.2.3.4"}),
        (b',"context":{"ip":""}', {"ip": "1.2.3.4"}),
        (b',"context":{"ip":"9.9.9.9"}', {"ip": "9.9.9.9"}),
        (b',"context":[1]', [1]),
    ],
)
def test_address_goes_into_a_context_that_has_none(context: bytes, expected: Any) -> None:
    """The caller's address is added, and never replaces what the client said."""
    whole = whole_event(record(b'{"a":1' + context + b"}", ip="1.2.3.4"), "tom")
    assert msgspec.json.decode(whole)["context"] == expected


def test_payload_that_is_no_object_is_an_error() -> None:
    """Nothing is made up for bytes that are not an event."""
    with pytest.raises(msgspec.DecodeError):
        whole_event(record(b"[1]"), "tom")


@given(st.integers(EARLIEST, LATEST))
def test_times_agree_with_the_contract_module(moment: int) -> None:
    """The fast formatting here writes what timestamps.iso writes, over the whole range."""
    event = msgspec.json.decode(whole_event(record(b"{}", timestamp=moment), "tom"))
    assert event["timestamp"] == iso(moment)
