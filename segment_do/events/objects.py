"""From the body of ``POST /v1/set`` to records: properties set on objects (Segment's Object API).

Promised: all objects of a body become records, or none does. A property that a body names twice has its last value.
Nothing here touches disk, network or clock.

Rules: 1 to 10 objects a request; a collection's name is lower case letters, digits and underscores, none of them at an
edge, and at most 100 characters; an object is at most 400 KB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from segment_do.errors import MalformedBody, TooLarge
from segment_do.events.intake import Caller, Intake
from segment_do.events.record import OBJECT, Record, encode_record
from segment_do.events.repair import repair_text

__all__ = ["MAX_OBJECTS", "MAX_OBJECT_BYTES", "object_intake", "object_record"]

MAX_OBJECTS: Final = 10
"""Objects in one request."""

MAX_OBJECT_BYTES: Final = 400_000
"""One object's properties, bytes of JSON."""

_MAX_COLLECTION: Final = 100
_MAX_ID: Final = 500
_COLLECTION: Final = re.compile(r"[a-z0-9](?:[a-z0-9_]*[a-z0-9])?")


class _Set(msgspec.Struct, gc=False):
    collection: Any
    objects: list[msgspec.Raw]


class _Object(msgspec.Struct, gc=False):
    id: str | int
    properties: dict[str, msgspec.Raw]


_decode_set: Final[Callable[[bytes], _Set]] = msgspec.json.Decoder(_Set).decode
_decode_object: Final[Callable[[Any], _Object]] = msgspec.json.Decoder(_Object).decode
_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode

# RecursionError is how the parser says that nesting is too deep for it.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def object_intake(body: bytes, caller: Caller, received_at: int, new_id: Callable[[], str]) -> Intake:
    """The objects of ``{"collection": …, "objects": [{"id": …, "properties": {…}}, …]}``, a record each.

    Raises:
        MalformedBody: the body is something else, or has no object or more than ten.
        TooLarge: an object is.
    """
    try:
        given = _decode_set(repair_text(body))
    except _UNREADABLE as error:
        raise MalformedBody(f"The body cannot be read: {_reason(error)}.") from None
    if not 1 <= len(given.objects) <= MAX_OBJECTS:
        raise MalformedBody(f"`objects` must hold 1 to {MAX_OBJECTS} objects; there are {len(given.objects):,}.")
    rows = [object_record(given.collection, raw, caller, received_at, new_id) for raw in given.objects]
    return Intake(b"".join(rows), len(rows), [])


def object_record(
    collection: object, raw: bytes | msgspec.Raw, caller: Caller, received_at: int, new_id: Callable[[], str]
) -> bytes:
    """One object, ``{"id": …, "properties": {…}}``, as it lies in a pack. Ids are text; numbers become their digits.

    Raises:
        MalformedBody: the collection's name or the object is not what it should be.
        TooLarge: the object is.
    """
    if (
        not isinstance(collection, str)
        or len(collection) > _MAX_COLLECTION
        or _COLLECTION.fullmatch(collection) is None
    ):
        raise MalformedBody(
            f"`collection` must be at most {_MAX_COLLECTION} lower case letters, digits and underscores,"
            " without an underscore at an edge.",
            code="invalid_collection",
        )
    try:
        given = _decode_object(raw)
    except _UNREADABLE as error:
        raise MalformedBody(f"An object cannot be read: {_reason(error)}.", code="malformed_object") from None
    object_id = str(given.id)
    if not 1 <= len(object_id) <= _MAX_ID:
        raise MalformedBody(f"An object's `id` must have 1 to {_MAX_ID} characters.", code="invalid_object_id")
    payload = _encode({"id": object_id, "properties": given.properties})
    if len(payload) > MAX_OBJECT_BYTES:
        raise TooLarge(
            f"The object has {len(payload):,} bytes; {MAX_OBJECT_BYTES:,} are allowed.", code="object_too_large"
        )
    return encode_record(
        Record(
            new_id(), OBJECT, caller.source_id, None, None, collection,
            received_at, received_at, None, None, None, payload,
        )
    )  # fmt: skip


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
