"""Bonds: which ids events brought together, the earliest event of each set.

They are what a profile is made from: profiles can be explained by them, taken apart, and made again in another order.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from segment_do.events.record import Record
from segment_do.identity.decision import Bond, Id
from segment_do.identity.ids import Node
from segment_do.identity.rules import Rules

__all__ = ["FORCED_RULES", "Bonds", "Staged", "nodes_of", "parts"]

FORCED_RULES: Final = frozenset({"alias", "manual"})
"""Rules under which ids are joined whatever the limits say."""
_FORCED: Final = b"!"
_DAY: Final = 86_400_000_000
_AT_ONCE: Final = 5_000
_EXPECTED_AT_ONCE: Final = 100
_BY_KEYS: Final = f"SELECT nodes, timestamp, message_id FROM bond WHERE nodes IN ({', '.join('?' * _EXPECTED_AT_ONCE)})"  # noqa: S608


class Staged:
    """A bond of this batch: new, or earlier than it was known."""

    __slots__ = ("message_id", "nodes", "number", "rule", "source", "timestamp")

    def __init__(self, nodes: Sequence[Node], record: Record, rule: str, number: int | None) -> None:
        self.nodes = nodes
        self.rule = rule
        self.number = number
        """Its row, where there is one already."""
        self.take(record)

    def take(self, record: Record) -> None:
        """Make this event the one that counts."""
        self.timestamp, self.message_id, self.source = record.timestamp, record.message_id, record.source_id

    def is_before(self, record: Record) -> bool:
        """Whether the event that counts so far is the earlier one."""
        return (self.timestamp, self.message_id) <= (record.timestamp, record.message_id)


class Bonds:
    """The tables ``bond`` and ``bond_of``. A batch is staged, then written."""

    def __init__(self, connection: sqlite3.Connection, rules: Rules) -> None:
        self._connection = connection
        self._rules = rules
        self._staged: dict[bytes, Staged] = {}
        self._written = 0
        (forced,) = connection.execute("SELECT forced FROM meta").fetchone()
        self.forced = bool(forced)
        """Whether ids were ever joined here whatever the limits say."""
        (self._next,) = connection.execute("SELECT coalesce(max(bond), 0) + 1 FROM bond").fetchone()

    def expect(self, pairs: Iterable[tuple[Node, Node]]) -> None:
        """Before a batch: read together what the file knows of these pairs, (user, anonymous id), and remember it. Under rules without windows only."""
        wanted = {
            struct.pack(">2Q", *sorted((user.node, anonymous.node))): (user, anonymous)
            for user, anonymous in pairs
            if user.node not in anonymous.bonds
        }
        keys = list(wanted)
        for at in range(0, len(keys), _EXPECTED_AT_ONCE):
            some = keys[at : at + _EXPECTED_AT_ONCE]
            some += [some[0]] * (_EXPECTED_AT_ONCE - len(some))
            for key, timestamp, message_id in self._connection.execute(_BY_KEYS, some):
                user, anonymous = wanted[key]
                anonymous.remember(user.node, timestamp, message_id)

    def stage(self, nodes: Sequence[Node], record: Record, rule: str, first_new: int) -> str:
        """Count an event in; nodes from ``first_new`` are of this batch.

        ``known``: it changes nothing, as where somebody undid the bond; ``earlier``: the bond was known, and counts earlier now; ``new``.
        """
        forced = rule in FORCED_RULES
        if forced:
            self._force()
        # A bond of its own: what holds whatever the limits say is not the same as an event that carried these ids, and outlives its undoing.
        key = self._key(nodes, record.timestamp) + (_FORCED if forced else b"")
        staged = self._staged.get(key)
        if staged is not None:
            if staged.is_before(record):
                return "known"
            staged.take(record)
            if not forced:
                self._remember(nodes, record)
            return "earlier"
        row = None
        if all(node.node < first_new for node in nodes):  # the file knows nothing of an id that is new
            row = self._connection.execute(
                "SELECT bond, timestamp, message_id, cut FROM bond WHERE nodes = ?", (key,)
            ).fetchone()
        if row is not None and rule == "manual":
            # What was undone is done again now, and not when it was first: between the two others may have come that it must not put out.
            self._connection.execute(
                "UPDATE bond SET cut = NULL, timestamp = ?, message_id = ?, source = ?, rule = ? WHERE bond = ? AND cut IS NOT NULL",
                (record.timestamp, record.message_id, record.source_id, rule, row[0]),
            )
            return "new"  # as good as
        if row is not None and (
            (row[1], row[2]) <= (record.timestamp, record.message_id)
            or row[3] is not None  # what was undone joins nothing
        ):
            if not forced:
                self._remember(nodes, record, row[1], row[2])
            return "known"
        if row is None and len(key) > len(nodes) * 8 + 1 and rule != "manual" and self._undone(key, len(nodes)):
            return "known"
        self._staged[key] = Staged(nodes, record, rule, None if row is None else row[0])
        if not forced:
            self._remember(nodes, record)
        return "new" if row is None else "earlier"

    def cut(self, key: bytes, at: int) -> None:
        """Inside a transaction: undo a bond, where days count by themselves that of every day."""
        self._connection.execute(
            "UPDATE bond SET cut = ? WHERE nodes BETWEEN ? AND ? AND length(nodes) = ? AND cut IS NULL",
            (at, *_days(key, len(key) // 8), len(key)),
        )

    def _undone(self, key: bytes, count: int) -> bool:
        """Whether the bond of these ids was undone, of another day."""
        found = self._connection.execute(
            "SELECT 1 FROM bond WHERE nodes BETWEEN ? AND ? AND length(nodes) = ? AND cut IS NOT NULL LIMIT 1",
            (*_days(key, count), len(key)),
        )
        return found.fetchone() is not None

    def write(self) -> None:
        """Inside the batch's transaction."""
        rows: list[tuple[object, ...]] = []
        links: list[tuple[int, int]] = []
        for key, staged in self._staged.items():
            number = staged.number
            if number is not None:
                self._connection.execute(
                    "UPDATE bond SET timestamp = ?, message_id = ?, source = ? WHERE bond = ?",
                    (staged.timestamp, staged.message_id, staged.source, number),
                )
                continue
            number = self._next + len(rows)
            rows.append((number, key, staged.timestamp, staged.message_id, staged.source, staged.rule))
            links += [(node.node, number) for node in staged.nodes]
        self._connection.executemany(
            "INSERT INTO bond (bond, nodes, timestamp, message_id, source, rule) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
        self._connection.executemany("INSERT INTO bond_of (node, bond) VALUES (?, ?)", links)
        self._written = len(rows)

    def commit(self) -> None:
        """The batch's transaction is durable."""
        self._next += self._written
        self.clear()

    def clear(self) -> None:
        """The batch's transaction is undone."""
        self._staged, self._written = {}, 0

    def adopt(
        self,
        nodes: Sequence[int],
        suffix: bytes,
        timestamp: int,
        message_id: str,
        source: str,
        rule: str,
        cut: int | None,
    ) -> None:
        """Inside a transaction, before anything of it is staged: add a bond that another graph knows; ``nodes`` ascend."""
        if suffix.endswith(_FORCED):
            self._force()
        key = struct.pack(f">{len(nodes)}Q", *nodes) + suffix
        row = self._connection.execute(
            "SELECT bond, timestamp, message_id FROM bond WHERE nodes = ?", (key,)
        ).fetchone()
        if row is None:
            self._connection.execute(
                "INSERT INTO bond VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self._next, key, timestamp, message_id, source, rule, cut),
            )
            self._connection.executemany(
                "INSERT INTO bond_of (node, bond) VALUES (?, ?)", [(node, self._next) for node in nodes]
            )
            self._next += 1
            return
        if cut is not None:
            self._connection.execute("UPDATE bond SET cut = coalesce(cut, ?) WHERE bond = ?", (cut, row[0]))
        if (timestamp, message_id) < (row[1], row[2]):
            self._connection.execute(
                "UPDATE bond SET timestamp = ?, message_id = ?, source = ?, rule = ? WHERE bond = ?",
                (timestamp, message_id, source, rule, row[0]),
            )

    def _force(self) -> None:
        self._connection.execute("UPDATE meta SET forced = 1")
        self.forced = True  # also where the transaction is undone: then a replay is made that need not be

    def number_from(self, first: int) -> None:
        """New bonds get this number or a higher one."""
        self._next = max(self._next, first)

    def component(self, nodes: Iterable[int]) -> set[int]:
        """All nodes that bonds connect with these, themselves among them. What was cut connects nothing."""
        found = set(nodes)
        edge = list(found)
        while edge:
            reached: set[int] = set()
            for some in parts(edge):
                for (key,) in self._connection.execute(
                    "SELECT nodes FROM json_each(?) JOIN bond_of ON node = json_each.value JOIN bond USING (bond)"
                    " WHERE cut IS NULL",
                    (json.dumps(some),),
                ):
                    reached.update(nodes_of(key))
            edge = list(reached - found)
            found |= reached
        return found

    def of(self, nodes: Iterable[int], names: dict[int, Id]) -> list[Bond]:
        """The bonds of these nodes that are not cut, each once, without ids that the rules block by now; ``names`` has every
        node's type and value.
        """
        found = []
        for number, key, timestamp, message_id, rule in self.rows(nodes):
            ids = self.ordered(key, names)
            if len(ids) > 1:
                found.append(Bond(timestamp, message_id, ids, rule in FORCED_RULES, number))
        return found

    def last(self, nodes: Iterable[int]) -> tuple[int, str] | None:
        """(timestamp, message id) of the last of these nodes' bonds."""
        return max(((row[2], row[3]) for row in self.rows(nodes)), default=None)

    def rows(self, nodes: Iterable[int]) -> list[tuple[int, bytes, int, str, str]]:
        """(bond, key, timestamp, message id, rule) of each bond of these nodes that is not cut."""
        found: dict[int, tuple[int, bytes, int, str, str]] = {}
        for some in parts(list(nodes)):
            for row in self._connection.execute(
                "SELECT bond.bond, nodes, timestamp, message_id, rule FROM json_each(?)"
                " JOIN bond_of ON node = value JOIN bond ON bond.bond = bond_of.bond AND cut IS NULL",
                (json.dumps(some),),
            ):
                found[row[0]] = row
        return list(found.values())

    def within(self, nodes: Iterable[int]) -> list[tuple[int, bytes, int, str, str]]:
        """Of :meth:`rows` those that name several of these nodes, of which there are no more than a profile has."""
        return self._connection.execute(
            "SELECT bond.bond, nodes, timestamp, message_id, rule FROM"
            " (SELECT bond AS number FROM json_each(?) JOIN bond_of ON node = value GROUP BY bond HAVING count(*) > 1)"
            " JOIN bond ON bond = number AND cut IS NULL",
            (json.dumps(list(nodes)),),
        ).fetchall()

    def ordered(self, key: bytes, names: dict[int, Id]) -> tuple[Id, ...]:
        """The ids of a bond by priority, the highest first, without those that the rules block by now."""
        rank = self._rules.rank
        ids = [name for node in nodes_of(key) if self._rules.accepted(*(name := names[node])) is not None]
        ids.sort(key=lambda each: (rank(each[0]), each[1]))
        return tuple(ids)

    def _key(self, nodes: Sequence[Node], timestamp: int) -> bytes:
        numbers = sorted(node.node for node in nodes)
        if self._rules.windowed and any(self._rules.window(node.kind) for node in nodes):
            # What a limit refuses this week it may allow the next: each day counts by itself.
            return struct.pack(f">{len(numbers)}Qi", *numbers, timestamp // _DAY)
        return struct.pack(f">{len(numbers)}Q", *numbers)

    def _remember(
        self, nodes: Sequence[Node], record: Record, timestamp: int | None = None, message_id: str = ""
    ) -> None:
        if len(nodes) == 2 and not self._rules.windowed:
            earliest = (record.timestamp, record.message_id) if timestamp is None else (timestamp, message_id)
            nodes[1].remember(nodes[0].node, *earliest)


def nodes_of(key: bytes) -> tuple[int, ...]:
    """The nodes of a bond's key."""
    return struct.unpack(f">{len(key) // 8}Q", key[: len(key) // 8 * 8])


def _days(key: bytes, count: int) -> tuple[bytes, bytes]:
    """Between which two keys those of the same ids lie, whatever the day."""
    return key[: count * 8], key[: count * 8] + b"\xff" * 6


def parts(nodes: list[int]) -> list[list[int]]:
    """So many nodes as one statement is given."""
    return [nodes[at : at + _AT_ONCE] for at in range(0, len(nodes), _AT_ONCE)]
