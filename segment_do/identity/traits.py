"""Traits of external ids: last write wins a name, by (timestamp, message id); of the values before it, the last write of each.

Kept per external id and merged when a profile is read, so that linking two ids moves nothing. An id keeps at most
6,000 names, ten different values a name, 6,000 earlier values in all. Names that find no room are the alphabetically last, not
the last to arrive, and values those set longest ago: what remains must not depend on the order of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from segment_do.identity.ids import Node, Unusable

__all__ = ["MAX_TRAITS", "GroupCall", "Traits", "read_group", "read_previous_id", "read_traits"]

MAX_TRAITS = 6_000
"""Names one external id keeps (Segment's own limit for a profile)."""

MAX_EARLIER = 6_000
"""Earlier values one external id keeps, of all names together; those of the alphabetically first names. (Of one name: ``schema.sql``.)"""

_AT_ONCE = 16
"""Writes tried together: of those, all are looked at again where one is of another value than is there."""

_SAME = """
INSERT INTO trait (node, name, value, timestamp, message_id, source) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (node, name) DO UPDATE
SET timestamp = excluded.timestamp, message_id = excluded.message_id, source = excluded.source
WHERE value = excluded.value
AND (excluded.timestamp, excluded.message_id, excluded.source) > (timestamp, message_id, source)
"""
_UPSERT = """
INSERT INTO trait (node, name, value, timestamp, message_id, source) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (node, name) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, message_id = excluded.message_id, source = excluded.source
WHERE (excluded.timestamp, excluded.message_id, excluded.value, excluded.source) > (timestamp, message_id, value, source)
"""
_EARLIER = """
INSERT INTO trait_history (node, name, value, timestamp, message_id, source)
SELECT node, name, ?3, ?4, ?5, ?6 FROM trait WHERE node = ?1 AND name = ?2 AND value <> ?3
ON CONFLICT (node, name, value) DO UPDATE
SET timestamp = excluded.timestamp, message_id = excluded.message_id, source = excluded.source
WHERE (excluded.timestamp, excluded.message_id, excluded.source) > (timestamp, message_id, source)
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
    """The tables ``trait`` and ``trait_history``. A batch is staged, then written with one row a changed name.

    What a write replaces, a trigger moves to the history. What loses against what is there goes straight to it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._staged: dict[int, tuple[Node, dict[str, _Write]]] = {}
        self._beaten: list[tuple[Node, str, _Write]] = []
        """Writes of another value than the one that the same batch stages for the name. At most the batch's."""

    def stage(self, node: Node, traits: dict[str, str], timestamp: int, message_id: str, source: str) -> None:
        """Merge an event's traits into the batch."""
        entry = self._staged.get(node.node)
        if entry is None:
            entry = self._staged[node.node] = (node, {})
        names = entry[1]
        for name, value in traits.items():
            written = (timestamp, message_id, value, source)
            before = names.get(name)
            if before is None:
                names[name] = written
            else:
                lost, names[name] = (before, written) if written > before else (written, before)
                if before[2] != value:
                    self._beaten.append((node, name, lost))

    def adopt(self, rows: Sequence[tuple[Node, str, str, int, str, str]]) -> None:
        """Inside a transaction, before anything of it is staged: add what another graph knows, (id, name, value, timestamp, message
        id, source); present and earlier values alike.
        """
        known = [(node.node, *row) for node, *row in rows]
        self._connection.executemany(_UPSERT, known)
        self._connection.executemany(_EARLIER, known)
        for node in {node.node: node for node, *_row in rows}.values():
            node.trait_bound = -1
            self._within_limit(node, 0)

    def write(self) -> int:
        """Inside the batch's transaction: store what was staged; returns how many names found no room."""
        if not self._staged:
            return 0
        rows = [
            (number, name, value, timestamp, message_id, source)
            for number, (_, names) in self._staged.items()
            for name, (timestamp, message_id, value, source) in names.items()
        ]
        # Most traits are set to what they are: those cost one statement, as if there were no history.
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            written = self._connection.executemany(_SAME, some).rowcount
            if written < len(some):
                written += self._connection.executemany(_UPSERT, some).rowcount
            if written < len(some):  # some lost against what is there
                self._connection.executemany(_EARLIER, some)
        for node, name, (timestamp, message_id, value, source) in self._beaten:
            self._connection.execute(_EARLIER, (node.node, name, value, timestamp, message_id, source))
            node.trait_bound += node.trait_bound >= 0
        return sum(self._within_limit(node, len(names)) for node, names in self._staged.values())

    def clear(self) -> None:
        """The batch is over, either way."""
        self._staged, self._beaten = {}, []

    def _within_limit(self, node: Node, written: int) -> int:
        if node.trait_bound >= 0:
            # A write makes one row at most, of either table. One that makes none is counted, too: then a real count corrects it.
            node.trait_bound += written
            if node.trait_bound <= min(MAX_TRAITS, MAX_EARLIER):
                return 0
        (held,) = self._connection.execute("SELECT count(*) FROM trait WHERE node = ?", (node.node,)).fetchone()
        surplus = max(0, int(held) - MAX_TRAITS)
        if surplus:
            self._connection.execute(
                "DELETE FROM trait WHERE node = ?1 AND name IN"
                " (SELECT name FROM trait WHERE node = ?1 ORDER BY name DESC LIMIT ?2)",
                (node.node, surplus),
            )
        (earlier,) = self._connection.execute(
            "SELECT count(*) FROM trait_history WHERE node = ?", (node.node,)
        ).fetchone()
        if earlier > MAX_EARLIER:
            self._connection.execute(
                "DELETE FROM trait_history WHERE node = ?1 AND (name, value) IN (SELECT name, value FROM trait_history"
                " WHERE node = ?1 ORDER BY name DESC, timestamp, message_id, value LIMIT ?2)",
                (node.node, earlier - MAX_EARLIER),
            )
        node.trait_bound = int(held) - surplus + min(int(earlier), MAX_EARLIER)
        return surplus


def _texts(traits: dict[str, msgspec.Raw] | None) -> dict[str, str]:
    return {name: str(value, "utf-8") for name, value in traits.items()} if traits else {}
