"""Why ids are one profile: the events that brought them together, found in the bonds that were stored.

Nothing here is kept beside the bonds: an explanation is worked out from them when somebody asks, by the same rules that made the profile. So it
cannot disagree with the profile, and does not depend on the order in which events arrived.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import dataclass

from segment_do.identity.bonds import Bonds
from segment_do.identity.decision import Bond, Decided, Id, replay
from segment_do.identity.profile import profile_nodes, profile_root
from segment_do.identity.rules import Rules

__all__ = ["Edge", "Step", "history", "why"]


@dataclass(frozen=True, slots=True)
class Edge:
    """An event that carried several ids. ``bond`` names it for :meth:`~.graph.Graph.unmerge`."""

    bond: int
    rule: str
    """Type of the event; ``alias`` or ``manual`` where it holds whatever the limits say."""
    timestamp: int
    """Microseconds since the epoch."""
    message_id: str
    source: str
    ids: tuple[Id, ...]
    """What it carried, (type, value), the highest priority first."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one event."""

    edge: Edge
    joined: tuple[Id, ...]
    """Ids that are one profile by it, or were already."""
    left_out: tuple[Id, ...]
    """Ids that a limit kept apart."""
    merged: int
    """So many profiles became one; 1: they were one already."""


def why(connection: sqlite3.Connection, rules: Rules, one: int, other: int) -> list[Edge] | None:
    """The shortest chain of events that makes two nodes one profile, from the first to the second; None where they are not.

    Of chains of one length, the one whose events count first. Nothing but a node itself makes it one with itself: [].
    """
    if one == other:
        return []
    bonds = Bonds(connection, rules)
    names, decided = _decided(connection, rules, bonds, one)
    by_name = {name: node for node, name in names.items()}
    reached: dict[int, tuple[int, Bond] | None] = {one: None}
    waiting = deque([one])
    held: dict[int, list[Decided]] = {}
    for each in decided:
        for name in each.bond.ids[: each.accepted]:
            held.setdefault(by_name[name], []).append(each)
    while waiting and other not in reached:
        node = waiting.popleft()
        for each in held.get(node, ()):
            for name in each.bond.ids[: each.accepted]:
                if by_name[name] not in reached:
                    reached[by_name[name]] = (node, each.bond)
                    waiting.append(by_name[name])
    if other not in reached:
        return None
    chain: list[Edge] = []
    at = other
    while (before := reached[at]) is not None:
        at = before[0]
        chain.append(_edge(connection, before[1]))
    return chain[::-1]


def history(connection: sqlite3.Connection, rules: Rules, node: int) -> list[Step]:
    """What made the profile of a node: each event that joined ids of it, or had some left out, in the order in which they count."""
    bonds = Bonds(connection, rules)
    inside = profile_nodes(connection, profile_root(connection, node))
    names, decided = _decided(connection, rules, bonds, node)
    own = {names[each] for each in inside if each in names}
    return [
        Step(
            _edge(connection, each.bond),
            each.bond.ids[: each.accepted],
            each.bond.ids[each.accepted :],
            each.merged,
        )
        for each in decided
        if own.intersection(each.bond.ids) and (each.merged > 1 or each.accepted < len(each.bond.ids))
    ]


def _decided(
    connection: sqlite3.Connection, rules: Rules, bonds: Bonds, node: int
) -> tuple[dict[int, Id], list[Decided]]:
    members = bonds.component([node])
    names = {
        each: connection.execute("SELECT kind, value FROM external_id WHERE node = ?", (each,)).fetchone()
        for each in members
    }
    _groups, decided = replay(bonds.of(members, names), rules)
    return names, decided


def _edge(connection: sqlite3.Connection, bond: Bond) -> Edge:
    rule, source = connection.execute("SELECT rule, source FROM bond WHERE bond = ?", (bond.number,)).fetchone()
    return Edge(bond.number, rule, bond.timestamp, bond.message_id, source, bond.ids)
