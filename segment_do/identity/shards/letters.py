"""What shards of one identity write to each other. A letter is applied once, in the order in which its sender wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from segment_do.events.record import Record
from segment_do.identity.decision import Id

__all__ = [
    "Absorb",
    "AccountCall",
    "Cause",
    "Envelope",
    "Event",
    "Letter",
    "Link",
    "Shorten",
    "decode_letters",
    "encode_letters",
]


class Cause(msgspec.Struct, array_like=True, gc=False):
    """The event for which ids were linked, as much of it as the warehouse is told."""

    message_id: str
    type: str
    source_id: str
    name: str | None
    timestamp: int
    received_at: int

    @classmethod
    def of(cls, record: Record) -> Cause:
        """That event."""
        return cls(record.message_id, record.type, record.source_id, record.event, record.timestamp, record.received_at)

    def record(self) -> Record:
        """A record that says no more than this."""
        return Record(
            self.message_id, self.type, self.source_id, None, None, self.name, self.timestamp, self.received_at,
            None, None, None, b"{}",
        )  # fmt: skip


class Event(msgspec.Struct, array_like=True, gc=False, tag="e"):
    """An event, new to the shard that it came to first; it is to be applied where ``at`` lies."""

    record: Record
    at: Id
    first: Id
    """The id by which it was sent here; ``hops`` shards ago."""
    hops: int
    previous: str | None = None
    """Of an alias that merges: the type of its previous id, once that is known."""


class Link(msgspec.Struct, array_like=True, gc=False, tag="l"):
    """Two ids belong together: ``child``, or whatever it is linked to by now, is to be linked to ``parent``, or the other way round."""

    child: Id
    parent: Id
    cause: Cause


class Absorb(msgspec.Struct, array_like=True, gc=False, tag="a"):
    """All facts of a tree that was linked to ``at``."""

    at: Id
    facts: bytes
    cause: Cause


class AccountCall(msgspec.Struct, array_like=True, gc=False, tag="g"):
    """What an event says of an account: that it is there, its traits as JSON texts, and who belongs to it."""

    account: Id
    member: Id | None
    traits: dict[str, str]
    cause: Cause
    record: Record | None = None
    """All of the event, where something computed of accounts counts it."""


class Shorten(msgspec.Struct, array_like=True, gc=False, tag="s"):
    """``child`` is linked to ``root`` over several shards; from now on let it be at once."""

    child: Id
    root: Id


Letter = Event | Link | Absorb | AccountCall | Shorten

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Letter])


class Envelope(NamedTuple):
    """Letters on their way, written in one step: ``seq`` rises strictly from one sender, whose file was made in second ``born``."""

    sender: str
    born: int
    seq: int
    body: bytes


def encode_letters(letters: Sequence[Letter]) -> bytes:
    """The body of an envelope."""
    return _encoder.encode(letters)


def decode_letters(body: bytes) -> list[Letter]:
    """Inverse of :func:`encode_letters`."""
    return _decoder.decode(body)
