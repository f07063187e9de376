"""All that a graph knows of some ids, to be taken in by another graph.

Ids are given by name, so nothing depends on how either graph numbers them. Taking facts in adds them to what is known there already, each
by the rule by which events add up: earliest and latest times, the earliest event of a bond, the last writer of a trait, sums of computed
values. So it does not matter whether an event came before or after them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from segment_do.identity.decision import Id
from segment_do.identity.ids import Node
from segment_do.identity.resolution import Resolution

__all__ = ["pack_up", "remove", "take_in"]

_UNKNOWN: Final = "?"
"""A computed value that two shards told differently: whatever it is now, it is told again."""


class _IdFacts(msgspec.Struct, array_like=True, gc=False):
    kind: str
    value: str
    first_seen: int
    last_seen: int
    source: str
    message_id: str
    told: Id
    """The id that named its profile."""
    generation: int


class _BondFacts(msgspec.Struct, array_like=True, gc=False):
    ids: list[int]
    """Places in ``ids``."""
    suffix: bytes
    """Day, and whether it holds whatever the limits say."""
    timestamp: int
    message_id: str
    source: str
    rule: str
    cut: int | None


class _Facts(msgspec.Struct, array_like=True, gc=False):
    """Rows of the other tables begin with a place in ``ids``; those of computations with what the definition means: while letters are on
    their way another may take its key."""

    ids: list[_IdFacts]
    bonds: list[_BondFacts]
    traits: list[tuple[int, str, str, int, str, str]]
    """And what they were before."""
    memberships: list[tuple[int, str, str]]
    states: list[tuple[str, int, int, int, str]]
    values: list[tuple[str, int, str, int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Facts)

_IDS: Final = """
SELECT this.node, this.kind, this.value, this.first_seen, this.last_seen, this.source, this.message_id,
       canonical.kind, canonical.value, coalesce(generation, 0)
FROM json_each(?) JOIN external_id AS this ON this.node = json_each.value
LEFT JOIN profile ON profile.root = this.profile
JOIN external_id AS canonical ON canonical.node = coalesce(profile.canonical, this.node)
LEFT JOIN resident ON resident.node = this.node
GROUP BY this.node ORDER BY this.node
"""
_BONDS: Final = """
SELECT DISTINCT nodes, timestamp, message_id, source, rule, cut FROM json_each(?)
JOIN bond_of ON node = json_each.value JOIN bond USING (bond) ORDER BY bond
"""
_STATES: Final = """
SELECT computation, node, part, day, state FROM json_each(?) JOIN computed_state ON node = json_each.value
"""
_VALUES: Final = """
SELECT computation, node, computed_value.value, updated_at FROM json_each(?) JOIN computed_value ON node = json_each.value
"""


def pack_up(connection: sqlite3.Connection, resolution: Resolution, nodes: Sequence[int]) -> bytes:
    """The facts of nodes, all that bonds connect with each other among them."""
    meanings = {each.number: each.meaning for each in resolution.computed.all}
    given = (json.dumps(list(nodes)),)
    rows = connection.execute(_IDS, given).fetchall()
    place = {row[0]: number for number, row in enumerate(rows)}

    def of_nodes(columns: str, table: str) -> list[tuple[object, ...]]:
        found = connection.execute(
            f"SELECT node, {columns} FROM json_each(?) JOIN {table} ON node = json_each.value",  # noqa: S608  # ours
            given,
        )
        return [(place[row[0]], *row[1:]) for row in found]

    facts = (
        [(*row[1:7], row[7:9], row[9]) for row in rows],
        [_bond(key, place, row) for key, *row in connection.execute(_BONDS, given)],
        [
            row
            for table in ("trait", "trait_history")
            for row in of_nodes(f"name, {table}.value, timestamp, message_id, source", table)
        ],
        of_nodes("membership.kind, membership.value", "membership"),
        *(
            [
                (meanings[of], place[node], *row)
                for of, node, *row in connection.execute(rows_of, given)
                if of in meanings
            ]
            for rows_of in (_STATES, _VALUES)
        ),
    )
    return _encoder.encode(facts)


def remove(connection: sqlite3.Connection, resolution: Resolution, nodes: Sequence[int]) -> None:
    """Take nodes, all that bonds connect with each other among them, out of a graph."""
    given = (json.dumps(list(nodes)),)
    chosen = "(SELECT value FROM json_each(?))"
    connection.execute(
        "UPDATE shard SET last_bond = max(last_bond, coalesce((SELECT max(bond) FROM bond_of WHERE node IN"  # noqa: S608
        f" {chosen}), 0))",
        given,
    )
    connection.execute(f"DELETE FROM bond WHERE bond IN (SELECT bond FROM bond_of WHERE node IN {chosen})", given)  # noqa: S608
    connection.execute(
        f"DELETE FROM contested WHERE component IN (SELECT component FROM profile WHERE root IN {chosen})",  # noqa: S608
        given,
    )
    connection.execute(f"DELETE FROM profile WHERE root IN {chosen}", given)  # noqa: S608
    for node in nodes:
        row = connection.execute("SELECT kind, value FROM external_id WHERE node = ?", (node,)).fetchone()
        resolution.forget_id(node, *row)
    for table in ("bond_of", "external_id", "trait", "membership"):
        connection.execute(f"DELETE FROM {table} WHERE node IN {chosen}", given)  # noqa: S608
    for (number,) in connection.execute("SELECT number FROM computation").fetchall():
        for table in ("computed_state", "computed_value"):
            connection.execute(
                f"DELETE FROM {table} WHERE computation = {number} AND node IN {chosen}",  # noqa: S608  # a number
                given,
            )


def take_in(connection: sqlite3.Connection, resolution: Resolution, packed: bytes) -> list[Node]:
    """Add facts to a graph whose batch has not begun otherwise, and work out the profiles of their ids; returns the ids.

    What became of ids is told as at any other time; of an id that names or belongs to the same profile as before nothing is.
    """
    facts = _decoder.decode(packed)
    nodes: list[Node] = []
    known: set[int] = set()
    for each in facts.ids:
        node, new = resolution.adopt_id(
            each.kind, each.value, each.first_seen, each.last_seen, each.source, each.message_id
        )
        nodes.append(node)
        if not new:
            known.add(node.node)
        connection.execute(
            "INSERT INTO resident (node, tree, generation) VALUES (?, 0, ?)"
            " ON CONFLICT DO UPDATE SET generation = max(generation, excluded.generation - 1) + 1",
            (node.node, each.generation + 1),
        )
    for bond in facts.bonds:
        inside = sorted(nodes[at].node for at in bond.ids)
        resolution.bonds.adopt(inside, bond.suffix, bond.timestamp, bond.message_id, bond.source, bond.rule, bond.cut)
    resolution.traits.adopt([(nodes[each[0]], *each[1:]) for each in facts.traits])
    connection.executemany(
        "INSERT OR IGNORE INTO membership VALUES (?, ?, ?)",
        [(nodes[at].node, kind, value) for at, kind, value in facts.memberships],
    )
    resolution.computed.adopt(
        [(meaning, nodes[at].node, part, day, state) for meaning, at, part, day, state in facts.states],
        [(meaning, nodes[at].node, value, told_at) for meaning, at, value, told_at in facts.values],
        _UNKNOWN,
    )
    clusters = resolution.clusters
    clusters.replay(node.node for node in nodes)
    for node, each in zip(nodes, facts.ids, strict=True):
        canonical = node if node.cluster is None else node.cluster.canonical
        if node.node in known or (canonical.kind, canonical.value) != each.told:
            clusters.moved[node.node] = node
        else:
            clusters.moved.pop(node.node, None)
        clusters.left.add(node.node)
    return nodes


def _bond(key: bytes, place: dict[int, int], row: Sequence[object]) -> tuple[object, ...]:
    count = len(key) // 8
    ids = [place[int.from_bytes(key[at * 8 : at * 8 + 8], "big")] for at in range(count)]
    return ids, key[count * 8 :], *row
