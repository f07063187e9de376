"""Segment's own webhooks: signatures as Segment's sender makes them, and the events as they were."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from segment_do.errors import MalformedBody, Unauthorized
from segment_do.webhooks import Call, Unmapped
from segment_do.webhooks.segment import SegmentHook, SegmentSettings

HOOK = SegmentHook(SegmentSettings(secret="s3cret"))
# As JSON.stringify writes it: a float without its point, an escape that Python would write otherwise, letters as they are.
EVENT = '{"type":"track","event":"Bought \\"Ü\\"","userId":"ada","messageId":"m1","properties":{"n":1.0,"x":1e21,"t":"\\u2028</"},"timestamp":"2026-01-01T00:00:00.000Z","sentAt":"2026-01-01T00:00:05.000Z","writeKey":"theirs"}'


def signed(body: str, over: str | None = None) -> Call:
    signature = hmac.new(b"s3cret", (over or body).encode(), hashlib.sha1).hexdigest()
    return Call("src_1", body.encode(), {"x-signature": signature}, {})


async def events(call: Call) -> list[Any]:
    return [one if isinstance(one, Unmapped) else json.loads(one) for one in (await HOOK.take(call)).events]


def test_a_single_event_is_signed_whole() -> None:
    """Over the body's exact bytes, however numbers and letters are written in it."""
    HOOK.verify(signed(EVENT))
    for body in (EVENT.replace("ada", "eve"), EVENT + " ", EVENT.replace("1.0", "1.00")):
        with pytest.raises(Unauthorized) as caught:
            HOOK.verify(Call("src_1", body.encode(), signed(EVENT).headers, {}))
        assert caught.value.code == "signature_refused"


@pytest.mark.parametrize(
    "body", [f"[{EVENT}]", f'[{EVENT},{{"type":"page","userId":"b"}}]', f" [ {EVENT} , {EVENT} ] "]
)
def test_a_batch_is_signed_over_its_first_event(body: str) -> None:
    """Its exact bytes, cut out of the array; over the whole array is no signature."""
    HOOK.verify(signed(body, over=EVENT))
    with pytest.raises(Unauthorized):
        HOOK.verify(signed(body))


def test_json_that_was_written_anew_on_its_way_still_proves() -> None:
    """A proxy that parses and writes: compact, without ASCII escapes, is what was signed."""
    compact = '{"type":"track","event":"Ü","userId":"ada"}'
    HOOK.verify(signed('{"type": "track", "event": "\\u00dc", "userId": "ada"}', over=compact))


@pytest.mark.parametrize("headers", [{}, {"x-signature": ""}, {"x-signature": "0" * 40}, {"x-signature": "Ü"}])
def test_a_call_without_its_signature_is_refused(headers: dict[str, str]) -> None:
    """Missing, empty, wrong, no ASCII."""
    with pytest.raises(Unauthorized):
        HOOK.verify(Call("src_1", EVENT.encode(), headers, {}))


def test_an_empty_batch_needs_none() -> None:
    """Segment signs nothing where there is nothing, and nothing comes of it."""
    HOOK.verify(Call("src_1", b"[]", {}, {}))


@pytest.mark.parametrize("body", [b"", b"{", b"7", b'"x"', b"[" * 5_000, b"\xff"])
async def test_what_is_no_json_object_or_array_is_refused(body: bytes) -> None:
    """As a value of the project's tree, from both."""
    for call in (HOOK.verify, HOOK.take):
        with pytest.raises(MalformedBody):
            result = call(Call("src_1", body, {"x-signature": "x"}, {}))
            if result is not None:
                await result


async def test_events_are_taken_as_they_were() -> None:
    """But for what would make the platform correct the time a second time, and the other workspace's key."""
    (event,) = await events(signed(EVENT))
    expected = json.loads(EVENT)
    del expected["sentAt"], expected["writeKey"]
    assert event == expected
    assert len(await events(signed(f"[{EVENT},{EVENT}]"))) == 2


async def test_numbers_keep_their_digits() -> None:
    """What the platform stores is what was sent, digit by digit."""
    (event,) = (await HOOK.take(signed(EVENT))).events
    assert isinstance(event, bytes)
    assert b'"n":1.0,"x":1e21' in event


async def test_what_is_no_event_is_set_aside_and_costs_no_other_anything() -> None:
    """A number in the batch, a type that is none, the deletion of a person."""
    batch = f'[7,{{"type":"nope"}},{{"type":"delete","userId":"ada"}},{EVENT}]'
    number, other, deletion, event = await events(signed(batch))
    assert [one.error.code for one in (number, other, deletion)] == ["malformed_event"] + ["unsupported_type"] * 2
    assert "delete a person" in deletion.error.message
    assert event["messageId"] == "m1"
