"""How an identity is laid out over shards: pure functions of ids, the same in every process and for ever.

Each external id is *owned* by one shard, by the hash that also names its profile. An event goes first to the shard that owns its
``userId``, else its ``anonymousId``: there it is deduplicated, so that a retry always meets its first copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

import msgspec

from segment_do.events.record import Record, decode_pack, encode_pack
from segment_do.identity.decision import Id
from segment_do.identity.persistent import short_id
from segment_do.identity.profile import profile_id, short_id_of
from segment_do.settings import IdentitySettings
from segment_do.units import unit_name

__all__ = ["Layout", "layouts", "order", "split_pack", "splitter"]

_Batch = tuple[str, int, bytes]
_NOBODY: Final = "nobody"
"""The shard of events that carry no id, where every person has one."""


def layouts(settings: IdentitySettings) -> dict[str, Layout]:
    """The identities that are laid out over several graphs, by name."""
    return {name: Layout(each.shards, each.granularity) for name, each in settings.layouts.items()}


class Layout(msgspec.Struct, frozen=True):
    """Either so many shards, or (``granularity`` profile) one for every person."""

    shards: int = 1
    granularity: Literal["shard", "profile"] = "shard"

    @property
    def text(self) -> str:
        """As a graph's file remembers it: a shard's place means nothing under another layout."""
        return "profile" if self.granularity == "profile" else str(self.shards)

    @property
    def all_shards(self) -> list[str] | None:
        """Their names; None where there are as many as people."""
        return None if self.granularity == "profile" else [str(number) for number in range(self.shards)]

    def owner(self, one: Id) -> str:
        """The shard that says where an external id belongs."""
        if self.granularity == "profile":
            return profile_id(*one)
        return str(_hash(one) % self.shards)

    def owned_by(self, shard: str) -> Callable[[Id], bool]:
        """Whether an id is a shard's, for one that asks often."""
        if self.granularity == "profile":
            return lambda one: profile_id(*one) == shard
        shards, number = self.shards, int(shard)
        return lambda one: _hash(one) % shards == number

    def owner_of_profile(self, named: str) -> str | None:
        """The shard that owns the external id which a profile id was made from; None where it is no profile id."""
        short = short_id(named)
        if short is None or self.granularity == "profile":
            return None if short is None else named
        return str(short % self.shards)

    def home(self, record: Record) -> str:
        """The shard that an event comes to first."""
        if record.user_id:
            return self.owner(("user_id", record.user_id))
        if record.anonymous_id:
            return self.owner(("anonymous_id", record.anonymous_id))
        return _NOBODY if self.granularity == "profile" else self.owner(("message_id", record.message_id))


def split_pack(layout: Layout, identity: str, count: int, pack: bytes) -> list[tuple[str, int, bytes]]:
    """A pack of an identity's events as packs of its shards: (the shard's graph, events, pack), each in the order of the events."""
    parts: dict[str, list[Record]] = {}
    for record in decode_pack(pack, count):
        parts.setdefault(layout.home(record), []).append(record)
    return [(unit_name(identity, shard), len(part), encode_pack(part)) for shard, part in parts.items()]


def splitter(settings: IdentitySettings) -> Callable[[_Batch], list[_Batch]] | None:
    """:func:`split_pack` for (identity, events, pack) of any identity; None where none is laid out over several graphs."""
    known = layouts(settings)
    if not known:
        return None

    def split(batch: _Batch) -> list[_Batch]:
        layout = known.get(batch[0])
        return [batch] if layout is None else split_pack(layout, *batch)

    return split


def order(one: Id) -> tuple[bool, int, Id]:
    """The total order in which ids are linked, the larger to the smaller: user ids first, since most events come to theirs; then by hash,
    which keeps chains short.
    """
    return one[0] != "user_id", _hash(one), one


@lru_cache(maxsize=32_768)
def _hash(one: Id) -> int:
    # Asked for several times an event.
    return short_id_of(*one)
