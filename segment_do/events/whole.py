"""The event as a destination or a person sees it: what was sent, with what the platform knows laid over.

Every field the client sent is kept, known or not, byte for byte and in its order (numbers are not reparsed:
``1.0`` stays ``1.0``, and big integers stay whole). Only the fields that the platform owns are replaced.
The properties, traits and context are never decoded, except ``context`` where the caller's address goes into it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from segment_do.events.record import Record

__all__ = ["whole_event"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY = (b"null", b'""')

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def whole_event(record: Record, identity: str) -> bytes:
    """One event as compact JSON, UTF-8, for a destination, the live stream or a person.

    Laid over the payload: ``messageId``, ``type``, ``userId`` and ``anonymousId`` (strings; absent when missing),
    ``timestamp`` (corrected), ``originalTimestamp`` (``receivedAt`` when the client gave none, as Segment has it),
    ``receivedAt``, ``sentAt`` (absent when missing), all times ISO-8601 UTC with milliseconds; ``context.ip`` where
    the record carries an address and the context none. ``writeKey`` is removed. Replaced fields keep their place,
    added ones come last.

    The ``identity`` that owns the event is not a field of Segment's event, and is not written.

    Raises:
        msgspec.DecodeError: the payload is not a JSON object (the door lets none such in).
    """
    event: dict[str, Any] = _decoder.decode(record.payload)
    event.pop("writeKey", None)
    event["messageId"] = record.message_id
    event["type"] = record.type
    _lay(event, "userId", record.user_id)
    _lay(event, "anonymousId", record.anonymous_id)
    event["timestamp"] = _time(record.timestamp)
    given = record.original_timestamp
    event["originalTimestamp"] = _time(record.received_at if given is None else given)
    event["receivedAt"] = _time(record.received_at)
    _lay(event, "sentAt", None if record.sent_at is None else _time(record.sent_at))
    if record.ip:
        event["context"] = _with_address(event.get("context"), record.ip)
    return _encoder.encode(event)


def _time(microseconds: int) -> str:
    # The form of timestamps.iso, which alone would cost more than everything else here, four times an event.
    second, rest = divmod(microseconds, 1_000_000)
    return f"{_second(second)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=4096)  # live events share their seconds
def _second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def _lay(event: dict[str, Any], name: str, value: str | None) -> None:
    if value is None:
        event.pop(name, None)
    else:
        event[name] = value


def _with_address(context: msgspec.Raw | None, ip: str) -> Any:
    if context is None or bytes(context) == b"null":
        return {"ip": ip}
    if not bytes(context).startswith(b"{"):
        return context  # not an object: the client's own mistake is kept as it is
    fields: dict[str, Any] = _decoder.decode(context)
    found = fields.get("ip")
    if found is not None and bytes(found) not in _EMPTY:
        return context
    fields["ip"] = ip
    return fields
