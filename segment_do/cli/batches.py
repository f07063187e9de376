"""From lines of JSON to request bodies: every event gets a messageId, and stays otherwise as it came.

Events are not checked against the contract here: the platform does that, one by one, and sets aside what breaks it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from segment_do.errors import InvalidEvent
from segment_do.events.repair import repair_text
from segment_do.sdk.message import new_message_id, text_id

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "Outgoing", "batches", "body_of", "fresh_id", "outgoing"]

MAX_BATCH_EVENTS: Final = 100
"""As many as the platform's answer tells refusals of: each refusal can be laid to its line."""
MAX_BATCH_BYTES: Final = 475_000
"""Below the contract's 500 KB, with room for the envelope."""

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Outgoing(NamedTuple):
    """One event, ready to be sent."""

    message_id: str
    data: bytes
    """The event as a JSON object."""
    line: int = 0
    """Line it came from, from 1; 0 = from no line."""
    end: int = 0
    """Offset after that line."""
    dated: bool = True
    """Whether it has a timestamp of its own."""


def outgoing(
    text: bytes, new_id: Callable[[], str], *, historical: bool = False, line: int = 0, end: int = 0
) -> Outgoing:
    """An event from its JSON. Without a messageId it gets ``new_id()``; with ``historical``, its ``sentAt`` goes.

    ``timestamp`` is corrected by the difference of ``sentAt`` and the server's clock, which would move old events to today.

    Raises:
        InvalidEvent: it is not a JSON object (``malformed_event``), or its messageId cannot be one.
    """
    try:
        fields = _decode(text)
    except _UNREADABLE:
        text = repair_text(text)
        try:
            fields = _decode(text)
        except _UNREADABLE as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise InvalidEvent(f"The line is not a JSON object: {reason}.", code="malformed_event") from None
    given = fields.get("messageId")
    message_id = text_id("messageId", msgspec.json.decode(given)) if given is not None else None
    if message_id is None:
        message_id = new_id()
        fields = {
            "messageId": msgspec.Raw(_encode(message_id)),
            **{k: v for k, v in fields.items() if k != "messageId"},
        }
        text = b""
    if historical and fields.pop("sentAt", None) is not None:
        text = b""
    dated = bytes(fields.get("timestamp", b"null")) != b"null"
    return Outgoing(message_id, text or _encode(fields), line, end, dated)


def batches(events: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Events in order, in groups that are lawful requests."""
    batch: list[Outgoing] = []
    size_bytes = 0
    for event in events:
        if batch and (len(batch) == MAX_BATCH_EVENTS or size_bytes + len(event.data) > MAX_BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(event)
        size_bytes += len(event.data) + 1
    if batch:
        yield batch


def body_of(batch: list[Outgoing]) -> bytes:
    """The request. Without ``sentAt``: the events' own times are believed."""
    return b'{"batch":[%b]}' % b",".join([event.data for event in batch])


def fresh_id() -> str:
    """A new messageId."""
    return new_message_id(time.time_ns() // 1_000_000, os.urandom(10))
