"""From a request's body to records: Segment's contract, applied event by event.

Promised: an event that breaks the contract is set aside with its reason and costs no other event anything; only a
body that cannot be cut into events at all is refused whole. Cost is linear in the body. Nothing here touches
disk, network or clock.

Rules: segment-spec common fields and the HTTP tracking API's limits (32 KB an event, 500 KB a body, 2,500 events
a batch, messageId of at most 100 characters, one of userId and anonymousId).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.errors import InvalidEvent, MalformedBody, TooLarge
from segment_do.events.record import REJECTED, Record, encode_record
from segment_do.events.repair import repair_text, split_batch
from segment_do.events.timestamps import corrected, parse_time

__all__ = [
    "TYPES",
    "Caller",
    "Intake",
    "Limits",
    "Refused",
    "batch_intake",
    "body_write_key",
    "made_intake",
    "single_intake",
]

TYPES: Final = frozenset({"track", "identify", "page", "screen", "group", "alias"})

_Id = str | int | float | None
_KEPT_OF_REJECTED = 32_768
_MOST_REFUSALS_TOLD = 100


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: the parser checks that it is one and steps over what is in it."""


class _Context(msgspec.Struct, gc=False):
    direct: Any = None


class _Event(msgspec.Struct, gc=False, rename="camel"):
    """What the door reads of an event; everything else stays in the bytes."""

    type: str | None = None
    message_id: _Id = None
    user_id: _Id = None
    anonymous_id: _Id = None
    event: _Id = None
    name: _Id = None
    group_id: _Id = None
    previous_id: _Id = None
    timestamp: str | int | float | None = None
    sent_at: str | int | float | None = None
    properties: _Object | None = None
    traits: _Object | None = None
    context: _Context | None = None


class _Batch(msgspec.Struct, gc=False, rename="camel"):
    batch: list[msgspec.Raw]
    sent_at: Any = None
    context: msgspec.Raw = msgspec.Raw()
    integrations: msgspec.Raw = msgspec.Raw()
    write_key: Any = None


class _Keyed(msgspec.Struct, rename="camel"):
    write_key: Any = None


class Limits(NamedTuple):
    """Bounds of one request."""

    event_bytes: int = 32_768
    batch_events: int = 2_500


class Caller(NamedTuple):
    """Who sends: the source of the write key, the caller's address, whether it is a browser."""

    source_id: str
    ip: str | None = None
    client_side: bool = False


class Refused(NamedTuple):
    """One event set aside, as the answer tells it."""

    position: int
    message_id: str | None
    code: str
    message: str


class Intake(NamedTuple):
    """One request's events: ``pack`` holds ``events`` records, those of ``refused`` among them."""

    pack: bytes
    events: int
    refused: list[Refused]


_decode_event: Callable[[Any], _Event] = msgspec.json.Decoder(_Event).decode
_decode_batch: Callable[[Any], _Batch] = msgspec.json.Decoder(_Batch).decode
_decode_fields: Callable[[Any], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def single_intake(
    body: bytes, implied_type: str, caller: Caller, received_at: int, new_id: Callable[[], str], limits: Limits
) -> Intake:
    """The event of ``POST /v1/track`` and its like; the path gives the type where the body does not.

    Raises:
        MalformedBody: the body is not a JSON object.
        TooLarge: it is larger than one event may be.
    """
    if len(body) > limits.event_bytes:
        raise TooLarge(_too_large(len(body), limits), code="event_too_large")
    body = _clean(body)
    try:
        row = _record(body, implied_type, None, caller, received_at, new_id)
    except InvalidEvent as error:
        row, refused = _set_aside(0, body, error, caller, received_at, new_id)
        return Intake(row, 1, [refused])
    except _UNREADABLE as error:
        raise _malformed(error) from None
    return Intake(row, 1, [])


def batch_intake(body: bytes, caller: Caller, received_at: int, new_id: Callable[[], str], limits: Limits) -> Intake:
    """The events of ``POST /v1/batch`` (and ``/v1/import``).

    More events than allowed are all set aside, in one record that says so (the contract answers 200 and rejects).

    Raises:
        MalformedBody: the body is not ``{"batch": […]}``.
    """
    body = _clean(body)
    try:
        envelope = _decode_batch(body)
        events: list[Any] = envelope.batch
    except _UNREADABLE as error:
        parts = split_batch(body)
        if parts is None:
            raise _malformed(error) from None
        try:
            envelope = _decode_batch(parts.envelope)
        except _UNREADABLE as inner:
            raise _malformed(inner) from None
        events = parts.events
    if len(events) > limits.batch_events:
        too_many = InvalidEvent(
            f"The batch has {len(events):,} events; {limits.batch_events:,} are allowed. None of them was taken.",
            code="batch_too_large",
        )
        row, refused = _set_aside(0, body, too_many, caller, received_at, new_id)
        return Intake(row, 1, [refused])
    shared = _shared(envelope)
    sent_at = parse_time(envelope.sent_at)
    rows: list[bytes] = []
    refusals: list[Refused] = []
    for index, raw in enumerate(events):
        try:
            event = _merged(raw, shared) if shared else bytes(raw)
            _check_size(len(event), limits)
            rows.append(_record(event, None, sent_at, caller, received_at, new_id))
        except _REFUSED as error:
            row, refused = _set_aside(index, bytes(raw), _told(error), caller, received_at, new_id)
            rows.append(row)
            if len(refusals) < _MOST_REFUSALS_TOLD:
                refusals.append(refused)
    return Intake(b"".join(rows), len(rows), refusals)


def made_intake(
    made: Sequence[bytes | tuple[bytes, InvalidEvent]],
    caller: Caller,
    received_at: int,
    new_id: Callable[[], str],
    limits: Limits,
) -> Intake:
    """Events that were made from something else, as JSON; beside them what none could be made of, with its reason."""
    rows: list[bytes] = []
    refusals: list[Refused] = []
    for index, one in enumerate(made):
        body, reason = (one, None) if isinstance(one, bytes) else one
        try:
            if reason is not None:
                raise reason
            _check_size(len(body), limits)
            rows.append(_record(_clean(body), None, None, caller, received_at, new_id))
        except _REFUSED as error:
            row, refused = _set_aside(index, body, _told(error), caller, received_at, new_id)
            rows.append(row)
            if len(refusals) < _MOST_REFUSALS_TOLD:
                refusals.append(refused)
    return Intake(b"".join(rows), len(rows), refusals)


def body_write_key(body: bytes) -> str | None:
    """``writeKey`` at the top of a body, for clients that send no Authorization header."""
    try:
        found = msgspec.json.decode(body, type=_Keyed).write_key
    except _UNREADABLE:
        parts = split_batch(repair_text(body))
        try:
            found = msgspec.json.decode(parts.envelope if parts else repair_text(body), type=_Keyed).write_key
        except _UNREADABLE:
            return None
    return found if isinstance(found, str) and found else None


# RecursionError is how the parser says that nesting is too deep for it.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REFUSED = (InvalidEvent, *_UNREADABLE)


def _record(
    body: bytes,
    implied_type: str | None,
    batch_sent_at: int | None,
    caller: Caller,
    received_at: int,
    new_id: Callable[[], str],
) -> bytes:
    try:
        event = _decode_event(body)
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"A field has the wrong type: {_reason(error)}.", code="wrong_type") from None
    kind = event.type or implied_type
    if kind not in TYPES:
        raise InvalidEvent(
            "The event's type must be one of track, identify, page, screen, group, alias.", code="invalid_type"
        )
    user_id = _text(event.user_id)
    anonymous_id = _text(event.anonymous_id)
    if user_id is None and anonymous_id is None:
        raise InvalidEvent("The event has neither userId nor anonymousId.", code="no_user_anon_id")
    message_id = _text(event.message_id)
    if message_id is None:
        message_id = new_id()
    elif len(message_id) > 100:
        raise InvalidEvent("The messageId is longer than 100 characters.", code="message_id_too_long")
    name: str | None = None
    if kind == "track":
        name = _text(event.event)
        if name is None:
            raise InvalidEvent("A track call needs the event's name in `event`.", code="missing_event")
    elif kind == "group":
        if _text(event.group_id) is None:
            raise InvalidEvent("A group call needs a groupId.", code="missing_group_id")
    elif kind == "alias":
        if user_id is None or _text(event.previous_id) is None:
            raise InvalidEvent("An alias call needs userId and previousId.", code="missing_previous_id")
    elif kind != "identify":
        name = _text(event.name)
    original = parse_time(event.timestamp)
    sent_at = batch_sent_at if batch_sent_at is not None else parse_time(event.sent_at)
    ip = caller.ip
    if ip is not None and not caller.client_side and not (event.context and event.context.direct is True):
        ip = None
    return encode_record(
        Record(
            message_id,
            kind,
            caller.source_id,
            user_id,
            anonymous_id,
            name,
            corrected(received_at, sent_at, original),
            received_at,
            sent_at,
            received_at if original is None else original,
            ip,
            body,
        )
    )


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.event_bytes:
        raise InvalidEvent(_too_large(size, limits), code="event_too_large")


def _too_large(size: int, limits: Limits) -> str:
    return f"The event has {size:,} bytes; {limits.event_bytes:,} are allowed."


def _text(given: _Id) -> str | None:
    """Ids are strings: numbers become their digits, null and "" mean missing."""
    if given is None or given == "":
        return None
    if isinstance(given, str):
        return given
    return str(int(given)) if isinstance(given, float) and given.is_integer() and abs(given) < 1e21 else str(given)


def _clean(body: bytes) -> bytes:
    """The body as valid UTF-8; lone surrogates repaired. Costs next to nothing where all is well."""
    # One letter is sought many times faster than three; most bodies have no backslash at all.
    if b"\\" in body and (b"\\ud" in body or b"\\uD" in body):
        return repair_text(body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return repair_text(body)
    return body


def _shared(envelope: _Batch) -> dict[str, dict[str, msgspec.Raw]]:
    """What the envelope adds to each of its events."""
    shared: dict[str, dict[str, msgspec.Raw]] = {}
    for name, raw in (("context", envelope.context), ("integrations", envelope.integrations)):
        if bytes(raw).startswith(b"{"):
            fields = _decode_fields(raw)
            if fields:
                shared[name] = fields
    return shared


def _merged(raw: Any, shared: dict[str, dict[str, msgspec.Raw]]) -> bytes:
    """The event with the envelope's context and integrations beneath its own; its own values win."""
    fields = _decode_fields(raw)
    for name, common in shared.items():
        own = fields.get(name)
        if own is None or bytes(own) == b"null":
            fields[name] = msgspec.Raw(_encode(common))
        elif bytes(own).startswith(b"{"):
            fields[name] = msgspec.Raw(_encode({**common, **_decode_fields(own)}))
    return _encode(fields)


def _set_aside(
    index: int, body: bytes, error: InvalidEvent, caller: Caller, received_at: int, new_id: Callable[[], str]
) -> tuple[bytes, Refused]:
    kind, message_id = _glimpse(body)
    told = {
        "code": error.code,
        "message": error.message,
        "index": index,
        "type": kind,
        "messageId": message_id,
        "payload": body[:_KEPT_OF_REJECTED].decode("utf-8", "replace"),
    }
    row = encode_record(
        Record(
            f"rejected:{message_id}" if message_id else new_id(), REJECTED, caller.source_id, None, None, error.code,
            received_at, received_at, None, None, None, _encode(told),
        )
    )  # fmt: skip
    return row, Refused(index, message_id, error.code, error.message)


def _glimpse(body: bytes) -> tuple[str | None, str | None]:
    """Type and messageId of an event that was refused, where they can be read."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except _UNREADABLE:
        return None, None
    kind, message_id = fields.get("type"), fields.get("messageId")
    return (
        kind[:100] if isinstance(kind, str) else None,
        message_id[:100] if isinstance(message_id, str) else None,
    )


def _told(error: Exception) -> InvalidEvent:
    if isinstance(error, InvalidEvent):
        return error
    return InvalidEvent(f"The event cannot be read: {_reason(error)}.", code="malformed_event")


def _malformed(error: Exception) -> MalformedBody:
    return MalformedBody(f"The body cannot be read: {_reason(error)}.")


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
