"""What people change by hand: a bond undone, profiles joined or split. Each change leaves a line in the audit.

A change is a fact like an event: profiles are worked out from all facts that hold, so what was undone stays undone when its
event comes again, and can be done again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.record import Record
from segment_do.identity.bonds import Bonds, nodes_of
from segment_do.identity.clusters import Clusters
from segment_do.identity.ids import Node

__all__ = ["AuditLine", "audit", "bonds_across", "cut", "join_by_hand", "read_audit"]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One change."""

    line: int
    at: int
    """Microseconds since the epoch."""
    action: str
    detail: dict[str, Any]


def audit(connection: sqlite3.Connection, at: int, action: str, **detail: Any) -> None:
    """Write a line, in the transaction of what it tells of."""
    connection.execute(
        "INSERT INTO audit (at, action, detail) VALUES (?, ?, ?)", (at, action, msgspec.json.encode(detail).decode())
    )


def read_audit(connection: sqlite3.Connection, limit: int) -> list[AuditLine]:
    """The newest lines first."""
    rows = connection.execute("SELECT line, at, action, detail FROM audit ORDER BY line DESC LIMIT ?", (limit,))
    return [AuditLine(line, at, action, msgspec.json.decode(detail)) for line, at, action, detail in rows]


def cut(connection: sqlite3.Connection, clusters: Clusters, bonds: Iterable[int], at: int) -> set[int]:
    """Undo bonds and work out anew what they held together; returns the nodes that they named.

    Raises:
        NotFound: there is no such bond.
    """
    touched: set[int] = set()
    for bond in bonds:
        row = connection.execute("SELECT nodes FROM bond WHERE bond = ?", (bond,)).fetchone()
        if row is None:
            raise NotFound(f"There is no bond {bond}.", hint="`segment-do profile history` shows those there are.")
        connection.execute("UPDATE bond SET cut = ? WHERE bond = ? AND cut IS NULL", (at, bond))
        touched.update(nodes_of(row[0]))
    clusters.replay(touched)
    return touched


def bonds_across(connection: sqlite3.Connection, bonds: Bonds, inside: set[int], taken: set[int]) -> list[int]:
    """The bonds that name ids on both sides of a split: of those in a profile, and of those that are taken out of it."""
    return [
        number
        for number, key, *_rest in bonds.rows(inside)
        if taken.intersection(named := nodes_of(key)) and not taken.issuperset(named)
    ]


def join_by_hand(bonds: Bonds, clusters: Clusters, nodes: Sequence[Node], record: Record) -> None:
    """Make these ids one profile, whatever the limits say.

    Raises:
        InvalidRequest: there is nothing to join.
    """
    if len(nodes) < 2:
        raise InvalidRequest("Two different ids are needed.", code="nothing_to_join")
    changed = bonds.stage(nodes, record, "manual", 2**63)
    if changed != "known":
        clusters.join(nodes, record.timestamp, record.message_id, forced=True, news=changed == "new")
