"""One computed trait or audience of a graph: its definition, and how far it is."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from segment_do.computed import Audience, Definition, Space, computation_id
from segment_do.units import identity_of

__all__ = ["Computation", "Declared", "counted", "read_computations", "read_space"]

_decoder: Final = msgspec.json.Decoder(Definition)


@dataclass(frozen=True)
class Computation:
    """A definition and how far it is."""

    computation_id: str
    definition: Definition
    since: int
    """Microseconds since the epoch: events are counted as they come since then."""
    filling: bool
    """Events of before are still being counted; until then nothing is told of its values."""
    filled: int
    """The position up to which they are."""
    target: int | None = None
    """The position at which they end; None until somebody knows."""
    declared: bool = False
    """It is from the settings."""
    looking: bool = False
    """Not every profile has been looked at since the definition changed, or since events of before were counted."""
    number: int = 0
    """What the graph's file knows it by."""

    @cached_property
    def meaning(self) -> str:
        """The same in every graph that counts the same under this key, and of no other definition."""
        return hashlib.blake2b(counted(self.definition), digest_size=16).hexdigest()

    @property
    def reads_profiles(self) -> bool:
        """Whether more than events decides: traits, or what other computations say."""
        members = self.definition
        return isinstance(members, Audience) and bool(members.compiled.traits or members.compiled.computed)


@dataclass(frozen=True, slots=True)
class Declared:
    """A definition in the settings, and whether it is to count events of before where it is new."""

    definition: Definition
    backfill: bool = False


def read_computations(connection: sqlite3.Connection) -> list[Computation]:
    """All there are: traits before the audiences that may read them, each by key."""
    rows = connection.execute(
        "SELECT number, key, body, since, filling, filled, target, declared, cursor FROM computation WHERE NOT dropped"
    ).fetchall()
    if not rows:
        return []
    space = read_space(connection)
    found = [
        Computation(
            computation_id(space, key, number),
            _decoder.decode(body),
            since,
            bool(filling),
            filled,
            target,
            bool(declared),
            cursor is not None,
            number,
        )
        for number, key, body, since, filling, filled, target, declared, cursor in rows
    ]
    return sorted(found, key=lambda each: (isinstance(each.definition, Audience), each.definition.key))


def read_space(connection: sqlite3.Connection) -> Space:
    """Whose computations these are."""
    (name,) = connection.execute("SELECT identity FROM meta").fetchone()
    return Space(identity_of(name.decode("utf-8", "replace")))


def counted(definition: Definition) -> bytes:
    """All of a definition that its values depend on."""
    return msgspec.json.encode(msgspec.structs.replace(definition, name="", destinations=(), output="identify"))
