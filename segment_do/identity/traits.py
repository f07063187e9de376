"""Traits of external ids: last write wins a name, by (timestamp, message id).

Kept per external id and merged when a profile is read, so that linking two ids moves nothing. An id keeps at most
6,000 names. Those are the alphabetically first, not the first to arrive: which traits remain must not depend
on the order of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from segment_do.identity.ids import Node, Unusable

__all__ = ["MAX_TRAITS", "GroupCall", "Traits", "read_group", "read_previous_id", "read_traits"]

MAX_TRAITS = 6_000
"""Names one external id keeps (Segment's own limit for a profile)."""

_UPSERT = """
INSERT INTO trait (node, name, value, timestamp, message_id, source) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (node, name) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, message_id = excluded.message_id, source = excluded.source
WHERE (excluded.timestamp, excluded.message_id, excluded.value) > (timestamp, message_id, value)
"""


class _Identify(msgspec.Struct, gc=False):
    traits: dict[str, msgspec.Raw] | None = None


class _Group(msgspec.Struct, gc=False):
    group_id: str | int | float = msgspec.field(name="groupId")
    traits: dict[str, msgspec.Raw] | None = None


class _Alias(msgspec.Struct, gc=False):
    previous_id: str | int | float | None = msgspec.field(default=None, name="previousId")


class GroupCall(msgspec.Struct, gc=False, frozen=True):
    """What a group call says: the group's id as text, and its traits as JSON texts."""

    group_id: str
    traits: dict[str, str]


_identify = msgspec.json.Decoder(_Identify)
_group = msgspec.json.Decoder(_Group)
_alias = msgspec.json.Decoder(_Alias)
_Write = tuple[int, str, str, str]  # timestamp, message id, value, source: the later one is the larger one


def read_traits(payload: bytes) -> dict[str, str]:
    """``traits`` of an identify call, each value as the JSON text it came as.

    Raises:
        Unusable: the payload cannot be read, or its traits are not an object.
    """
    try:
        return _texts(_identify.decode(payload).traits)
    except (ValueError, RecursionError) as error:
        raise Unusable from error


def read_group(payload: bytes) -> GroupCall:
    """``groupId`` and ``traits`` of a group call.

    Raises:
        Unusable: the payload cannot be read, has no group id, or its traits are not an object.
    """
    try:
        call = _group.decode(payload)
        traits = _texts(call.traits)
    except (ValueError, RecursionError) as error:
        raise Unusable from error
    if call.group_id == "":
        raise Unusable
    return GroupCall(str(call.group_id), traits)


def read_previous_id(payload: bytes) -> str | None:
    """``previousId`` of an alias call, as text; None where it has none.

    Raises:
        Unusable: the payload cannot be read.
    """
    try:
        previous = _alias.decode(payload).previous_id
    except (ValueError, RecursionError) as error:
        raise Unusable from error
    return None if previous in (None, "") else str(previous)


class Traits:
    """The table ``trait``. A batch is staged, then written with one row a changed name."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._staged: dict[int, tuple[Node, dict[str, _Write]]] = {}

    def stage(self, node: Node, traits: dict[str, str], timestamp: int, message_id: str, source: str) -> None:
        """Merge an event's traits into the batch."""
        entry = self._staged.get(node.node)
        if entry is None:
            entry = self._staged[node.node] = (node, {})
        names = entry[1]
        for name, value in traits.items():
            written = (timestamp, message_id, value, source)
            before = names.get(name)
            if before is None or written > before:
                names[name] = written

    def adopt(self, rows: Sequence[tuple[Node, str, str, int, str, str]]) -> None:
        """Inside a transaction, before anything of it is staged: add what another graph knows, (id, name, value, timestamp, message
        id, source).
        """
        self._connection.executemany(_UPSERT, [(node.node, *row) for node, *row in rows])
        for node in {node.node: node for node, *_row in rows}.values():
            node.trait_bound = -1
            self._within_limit(node, 0)

    def write(self) -> int:
        """Inside the batch's transaction: store what was staged; returns how many names found no room."""
        if not self._staged:
            return 0
        self._connection.executemany(
            _UPSERT,
            [
                (number, name, value, timestamp, message_id, source)
                for number, (_, names) in self._staged.items()
                for name, (timestamp, message_id, value, source) in names.items()
            ],
        )
        return sum(self._within_limit(node, len(names)) for node, names in self._staged.values())

    def clear(self) -> None:
        """The batch is over, either way."""
        self._staged = {}

    def _within_limit(self, node: Node, written: int) -> int:
        if node.trait_bound >= 0:
            # A name written again is counted again: the bound may be too high, and then one count corrects it.
            node.trait_bound += written
            if node.trait_bound <= MAX_TRAITS:
                return 0
        (held,) = self._connection.execute("SELECT count(*) FROM trait WHERE node = ?", (node.node,)).fetchone()
        surplus = max(0, int(held) - MAX_TRAITS)
        if surplus:
            self._connection.execute(
                "DELETE FROM trait WHERE node = ?1 AND name IN"
                " (SELECT name FROM trait WHERE node = ?1 ORDER BY name DESC LIMIT ?2)",
                (node.node, surplus),
            )
        node.trait_bound = int(held) - surplus
        return surplus


def _texts(traits: dict[str, msgspec.Raw] | None) -> dict[str, str]:
    return {name: str(value, "utf-8") for name, value in traits.items()} if traits else {}
