"""What travels inside the platform: one record an event, many records a pack.

A record is the event's envelope, decoded once at the door, beside the event's own JSON as it came.
Nothing behind the door parses the JSON again unless it needs what is inside.

A *pack* is records in msgpack, one array after another, without a header, so that packs join by
concatenation and only whoever needs the records decodes them. Whoever carries a pack carries its
count beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["EXTERNAL_ID", "NOT_EVENTS", "OBJECT", "REJECTED", "Record", "decode_pack", "encode_pack", "encode_record"]

REJECTED = "rejected"
"""``Record.type`` of an event that was set aside; its payload is a :class:`~.intake.Rejection` as JSON."""

OBJECT = "object"
"""``Record.type`` of properties that were set on an object; its payload is ``{"id": …, "properties": {…}}``."""

EXTERNAL_ID = "external_id"
"""``Record.type`` of an external id that belongs to another profile now: what the warehouse keeps its id map by."""

NOT_EVENTS = frozenset({REJECTED, OBJECT, EXTERNAL_ID})
"""Types that travel the path of the events and are none: destinations and live streams pass them over."""


class Record(msgspec.Struct, array_like=True, gc=False, omit_defaults=False):
    """One event inside the platform. Times are microseconds since the epoch, UTC."""

    message_id: str
    type: str
    """track, identify, page, screen, group, alias, ``rejected`` or ``object``."""
    source_id: str
    user_id: str | None
    anonymous_id: str | None
    event: str | None
    """Name of a track event, or of a page or screen. For ``rejected``: the reason's code; for ``object``: its collection."""
    timestamp: int
    """Corrected for the client's clock: receivedAt - (sentAt - originalTimestamp)."""
    received_at: int
    """Server's clock; one value for all events of a request."""
    sent_at: int | None
    original_timestamp: int | None
    ip: str | None
    """Caller's address where the contract lets the platform add it as ``context.ip``."""
    payload: bytes
    """The event as a JSON object, as sent (surrogates repaired, envelope context merged in)."""
    profile_id: str | None = None
    """Canonical profile known when the identity actor applied the event; None before that."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])
_untyped = msgspec.msgpack.Decoder(list[list[Any]])


def encode_record(record: Record) -> bytes:
    """One record as it lies in a pack."""
    return _encoder.encode(record)


def encode_pack(records: Iterable[Record]) -> bytes:
    """Records as a pack; the caller keeps the count."""
    return b"".join(map(_encoder.encode, records))


def decode_pack(pack: bytes, count: int) -> list[Record]:
    """The ``count`` records of a pack, in order.

    Raises:
        msgspec.DecodeError: the bytes are not ``count`` records (a bug, or corruption that a
            checksum should have caught).
    """
    return _decoder.decode(b"\xdd" + count.to_bytes(4, "big") + pack)


def decode_rows(pack: bytes, count: int) -> list[list[Any]]:
    """The records of a pack as plain lists in field order, for building columns."""
    return _untyped.decode(b"\xdd" + count.to_bytes(4, "big") + pack)
