"""Log frames become columns.

The envelope of an event comes from its record, the rest from its payload, of which only the top level is looked at:
``properties``, ``traits``, ``context`` and ``integrations`` stay the bytes they came as. Nothing here refuses an
event: the door has judged it, and one odd event must never hold up the log. What cannot be taken apart is kept whole
in ``extra``.

Measured (one core, 475-byte events, half track and half page): 3.1 µs an event, of which msgspec's Struct of Raw
fields takes 0.7; a ``dict[str, Raw]`` takes 0.9 and more a column, and is used for events with unknown
fields, which cost 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import Raw

from segment_do.errors import CorruptData
from segment_do.events.record import EXTERNAL_ID, NOT_EVENTS, OBJECT, REJECTED, decode_rows
from warehouse.schema import ARROW, TableName

__all__ = ["Frame", "Rows", "rows_of"]

Frame = tuple[int, int, str, bytes]
"""``(first_offset, count, identity, pack)``: ``count`` records of one identity, in log order."""


class Rows(NamedTuple):
    """The rows of some frames, table by table, and the JSON objects whose keys the catalogue learns."""

    events: pa.Table
    rejected: pa.Table
    properties: list[bytes]
    traits: list[bytes]
    object_changes: pa.Table
    external_id_changes: pa.Table

    def tables(self) -> dict[TableName, pa.Table]:
        """The rows by the name of their table."""
        return {
            "events": self.events,
            "rejected": self.rejected,
            "object_changes": self.object_changes,
            "external_id_changes": self.external_id_changes,
        }


_RECORDS_AT_ONCE = 1_000
"""More Python objects alive at once cost more each: caches miss, and the collector looks at all of them again."""

_NONE = Raw()


class _Payload(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """The top level of an event. An unknown field raises, and the event takes the slower way that keeps it."""

    properties: Raw = _NONE
    traits: Raw = _NONE
    context: Raw = _NONE
    integrations: Raw = _NONE
    group_id: Any = None
    previous_id: Any = None
    name: Any = None
    category: Any = None
    # The record has these, judged and corrected.
    type: Raw = _NONE
    event: Raw = _NONE
    message_id: Raw = _NONE
    user_id: Raw = _NONE
    anonymous_id: Raw = _NONE
    timestamp: Raw = _NONE
    sent_at: Raw = _NONE
    original_timestamp: Raw = _NONE
    received_at: Raw = _NONE
    write_key: Raw = _NONE
    """Read past, and stored nowhere."""
    # Known libraries send these: naming them keeps their events on the fast way.
    channel: Raw = _NONE
    version: Raw = _NONE
    metadata: Raw = msgspec.field(default=_NONE, name="_metadata")


_payload = msgspec.json.Decoder(_Payload)
_fields = msgspec.json.Decoder(dict[str, Raw])
_value = msgspec.json.Decoder(Any)
_encode = msgspec.json.Encoder().encode

# Unknown fields are among them, bytes that are no UTF-8, and nesting too deep for the parser.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_OWN = frozenset(_Payload.__struct_encode_fields__) - {"channel", "version", "_metadata"}
"""Top-level fields that have a column, that the record carries, or that are never stored."""


def rows_of(frames: Iterable[Frame], start: int) -> Rows:
    """The rows of ``frames`` whose offset is ``start`` or above, in log order.

    Raises:
        CorruptData: a pack does not hold what its frame says, or the frames leave a gap. Nothing was taken.
    """
    parts: list[Rows] = []
    records: list[list[Any]] = []
    identities: list[str] = []
    expected = start
    for first, count, identity, pack in frames:
        end = first + count
        if end <= expected:
            continue
        if first > expected:
            raise CorruptData(
                f"The log goes on at offset {first} where {expected} was expected.",
                hint="Events between them are missing; the warehouse will not skip them.",
            )
        try:
            found = decode_rows(pack, count)
        except msgspec.DecodeError as error:
            raise CorruptData(f"The log frame at offset {first} does not hold {count} records.") from error
        records += found[expected - first :] if first < expected else found
        identities += [identity] * (end - expected)
        expected = end
        if len(records) >= _RECORDS_AT_ONCE:
            parts.append(_rows(records, identities, expected))
            records, identities = [], []
    parts.append(_rows(records, identities, expected))
    return Rows(
        pa.concat_tables([part.events for part in parts]),
        pa.concat_tables([part.rejected for part in parts]),
        [text for part in parts for text in part.properties],
        [text for part in parts for text in part.traits],
        pa.concat_tables([part.object_changes for part in parts]),
        pa.concat_tables([part.external_id_changes for part in parts]),
    )


def _rows(records: list[list[Any]], identities: list[str], end: int) -> Rows:
    offsets = range(end - len(records), end)
    if not any(record[1] in NOT_EVENTS for record in records):
        return _events(records, identities, offsets)
    events: list[int] = []
    others: dict[str, list[int]] = {kind: [] for kind in NOT_EVENTS}
    for i, record in enumerate(records):
        others.get(record[1], events).append(i)
    return _events(*_pick(events, records, identities, offsets))._replace(
        rejected=_rejected(*_pick(others[REJECTED], records, identities, offsets)),
        object_changes=_object_changes(*_pick(others[OBJECT], records, identities, offsets)),
        external_id_changes=_external_id_changes(*_pick(others[EXTERNAL_ID], records, identities, offsets)),
    )


def _pick(
    which: list[int], records: list[list[Any]], identities: list[str], offsets: Sequence[int]
) -> tuple[list[list[Any]], list[str], list[int]]:
    return [records[i] for i in which], [identities[i] for i in which], [offsets[i] for i in which]


def _events(records: list[list[Any]], identities: list[str], offsets: Sequence[int]) -> Rows:
    rejected, object_changes = ARROW["rejected"].empty_table(), ARROW["object_changes"].empty_table()
    external_id_changes = ARROW["external_id_changes"].empty_table()
    if not records:
        return Rows(ARROW["events"].empty_table(), rejected, [], [], object_changes, external_id_changes)
    (
        message_id,
        kind,
        source_id,
        user_id,
        anonymous_id,
        event,
        timestamp,
        received_at,
        sent_at,
        original_timestamp,
        ip,
        payloads,
        profile_id,
    ) = zip(*records, strict=True)
    bodies: list[_Payload] = []
    extra: list[bytes | None] = []
    decode, none = _payload.decode, _NONE
    for payload in payloads:
        try:
            body = decode(payload)
        except _UNREADABLE:
            body, rest = _uncommon(payload)
        else:
            if body.channel is none and body.version is none and body.metadata is none:
                rest = None
            else:
                known = (("channel", body.channel), ("version", body.version), ("_metadata", body.metadata))
                rest = _encode({name: value for name, value in known if value is not none})
        bodies.append(body)
        extra.append(rest)
    properties = _json(body.properties for body in bodies)
    traits = _json(body.traits for body in bodies)
    columns = {
        "message_id": message_id,
        "type": kind,
        "event": [name if what == "track" else None for name, what in zip(event, kind, strict=True)],
        "identity": identities,
        "source_id": source_id,
        "user_id": user_id,
        "anonymous_id": anonymous_id,
        "profile_id": profile_id,
        "group_id": [_text(body.group_id) for body in bodies],
        "previous_id": [_text(body.previous_id) for body in bodies],
        "name": [_text(body.name) for body in bodies],
        "category": [_text(body.category) for body in bodies],
        "timestamp": timestamp,
        "received_at": received_at,
        "sent_at": sent_at,
        "original_timestamp": original_timestamp,
        "properties": properties,
        "traits": traits,
        "context": _json(body.context for body in bodies),
        "integrations": _json(body.integrations for body in bodies),
        "extra": extra,
        "ip": ip,
        "offset": offsets,
    }
    return Rows(
        _table("events", columns),
        rejected,
        [text for text in properties if text is not None],
        [text for text in traits if text is not None],
        object_changes,
        external_id_changes,
    )


def _json(raws: Iterable[Raw]) -> list[bytes | None]:
    none = _NONE
    texts = [None if raw is none else bytes(raw) for raw in raws]
    return [None if text == b"null" else text for text in texts] if b"null" in texts else texts


def _text(value: Any) -> str | None:
    """An id or a name as text: some clients send numbers. None for null and for the empty string."""
    if value is None or value == "":
        return None
    if type(value) is str:
        return value
    return _encode(value).decode()


def _uncommon(payload: bytes) -> tuple[_Payload, bytes | None]:
    """The way that keeps everything: unknown fields go to ``extra``, and so does a payload that is no object."""
    try:
        fields = _fields.decode(payload)
        body = _Payload()
        body.properties = fields.get("properties", _NONE)
        body.traits = fields.get("traits", _NONE)
        body.context = fields.get("context", _NONE)
        body.integrations = fields.get("integrations", _NONE)
        body.group_id = _value.decode(fields.get("groupId", b"null"))
        body.previous_id = _value.decode(fields.get("previousId", b"null"))
        body.name = _value.decode(fields.get("name", b"null"))
        body.category = _value.decode(fields.get("category", b"null"))
    except _UNREADABLE:
        return _Payload(), _encode({"payload": _scrub(payload.decode("utf-8", "replace"))})
    rest = {name: value for name, value in fields.items() if name not in _OWN}
    return body, _encode(rest) if rest else None


def _rejected(records: list[list[Any]], identities: list[str], offsets: Sequence[int]) -> pa.Table:
    reasons = [_reason(record[11]) for record in records]
    columns = {
        "received_at": [record[7] for record in records],
        "source_id": [record[2] for record in records],
        "identity": identities,
        "code": [record[5] for record in records],
        "message": [_text(reason.get("message")) for reason in reasons],
        "type": [_text(reason.get("type")) for reason in reasons],
        "message_id": [record[0] or None for record in records],
        "index": [index if type(index := reason.get("index")) is int else None for reason in reasons],
        "payload": [_scrub(_text(reason.get("payload")) or "") or None for reason in reasons],
        "offset": offsets,
    }
    return _table("rejected", columns)


class _Change(msgspec.Struct, gc=False):
    """What an object's record holds."""

    id: str
    properties: Raw


_change = msgspec.json.Decoder(_Change)


def _object_changes(records: list[list[Any]], identities: list[str], offsets: Sequence[int]) -> pa.Table:
    changes = [_change_of(record) for record in records]
    columns = {
        "received_at": [record[7] for record in records],
        "source_id": [record[2] for record in records],
        "identity": identities,
        "collection": [record[5] for record in records],
        "object_id": [change.id for change in changes],
        "properties": [bytes(change.properties) for change in changes],
        "offset": offsets,
    }
    return _table("object_changes", columns)


def _change_of(record: list[Any]) -> _Change:
    try:
        return _change.decode(record[11])
    except _UNREADABLE:  # the door writes none such, and if it did, the log would still have to go on
        return _Change(record[0], Raw(_encode({"payload": record[11].decode("utf-8", "replace")})))


class _Trigger(msgspec.Struct, gc=False):
    """The event by which an external id came to belong to another profile."""

    type: str | None = None
    message_id: str | None = None
    name: str | None = None


class _Move(msgspec.Struct, gc=False):
    """What an external id's record holds."""

    type: str | None
    id: str | None = None
    segment_id: str | None = None
    canonical_segment_id: str | None = None
    event: _Trigger = msgspec.field(default_factory=_Trigger)
    generation: int = 0


_move = msgspec.json.Decoder(_Move)


def _external_id_changes(records: list[list[Any]], identities: list[str], offsets: Sequence[int]) -> pa.Table:
    moves = [_move_of(record) for record in records]
    columns = {
        "identity": identities,
        "source_id": [record[2] for record in records],
        "external_id_type": [move.type for move in moves],
        "external_id_value": [move.id for move in moves],
        "segment_id": [move.segment_id for move in moves],
        "canonical_segment_id": [move.canonical_segment_id for move in moves],
        "triggering_event_type": [move.event.type for move in moves],
        "triggering_event_id": [move.event.message_id for move in moves],
        "triggering_event_name": [move.event.name for move in moves],
        "timestamp": [record[6] for record in records],
        "received_at": [record[7] for record in records],
        "offset": offsets,
        "generation": [move.generation for move in moves],
    }
    return _table("external_id_changes", columns)


def _move_of(record: list[Any]) -> _Move:
    try:
        return _move.decode(record[11])
    except _UNREADABLE:  # the identity writes none such; a row without a segment_id is in no view
        return _Move(record[5])


def _reason(payload: bytes) -> dict[str, Any]:
    try:
        found = _value.decode(payload)
    except _UNREADABLE:
        found = None
    return found if isinstance(found, dict) else {"payload": payload.decode("utf-8", "replace")}


_WRITE_KEY = re.compile(r'("writeKey"\s*:\s*")(?:[^"\\]|\\.)*', re.DOTALL)


def _scrub(text: str) -> str:
    """An event that was set aside is stored as it was sent, cut anywhere, but for the write key."""
    return _WRITE_KEY.sub(r"\1***", text) if "writeKey" in text else text


def _table(name: Any, columns: dict[str, Any]) -> pa.Table:
    return pa.table([_array(columns[field.name], field.type) for field in ARROW[name]], schema=ARROW[name])


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).view(kind)
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:
        # Bytes that are no UTF-8: in a file they would make it unreadable to DuckDB.
        return pa.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values], kind)
