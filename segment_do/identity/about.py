"""What a profile's readers ask for beside the profile itself: where each trait came from, and which profiles it is linked to."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from segment_do.identity.decision import Id
from segment_do.identity.profile import ExternalId, profile_id, profile_nodes, profile_of, profile_root, short_id_of

__all__ = ["MAX_LINKS", "MAX_VALUES", "Trait", "linked", "links", "profile_id_at", "trait_details", "trait_history"]

MAX_LINKS: Final = 20
"""Linked profiles told of one (Segment's own bound)."""
MAX_VALUES: Final = 10
"""Values told of a trait, the one that it has among them."""
_MAX_HISTORIES: Final = 1_000
"""Traits told of at once, alphabetically first."""
_READ_LINKS: Final = 1_000
"""Memberships looked at to find them: several ids may be one profile."""


@dataclass(frozen=True, slots=True)
class Trait:
    """One trait of a profile, and the event that it is from."""

    value: str
    """JSON text, as it was sent."""
    source: str
    timestamp: int
    """Microseconds since the epoch."""
    message_id: str


def trait_details(connection: sqlite3.Connection, node: int) -> dict[str, Trait]:
    """The traits of a node's profile, by name in alphabetical order: the same values that the profile has."""
    newest: dict[str, tuple[int, str, str, str]] = {}
    for each in profile_nodes(connection, profile_root(connection, node)):
        for name, *written in connection.execute(
            "SELECT name, timestamp, message_id, value, source FROM trait WHERE node = ?", (each,)
        ):
            if name not in newest or tuple(written) > newest[name]:
                newest[name] = (written[0], written[1], written[2], written[3])
    return {
        name: Trait(value, source, timestamp, message_id)
        for name, (timestamp, message_id, value, source) in sorted(newest.items())
    }


def trait_history(connection: sqlite3.Connection, node: int, name: str | None) -> dict[str, list[Trait]]:
    """The values that each trait of a node's profile (or this one) had, the newest first; of each value the last event that set it."""
    found: dict[str, dict[str, tuple[int, str, str, str]]] = {}
    for each in profile_nodes(connection, profile_root(connection, node)):
        rows = connection.execute(
            "SELECT * FROM (SELECT name, timestamp, message_id, value, source FROM trait WHERE node = ?1"
            " UNION ALL SELECT name, timestamp, message_id, value, source FROM trait_history WHERE node = ?1)"
            " WHERE ?2 IS NULL OR name = ?2",
            (each, name),
        )
        for named, timestamp, message_id, value, source in rows:
            values = found.setdefault(named, {})
            written = (timestamp, message_id, value, source)
            values[value] = max(values.get(value, written), written)
    return {
        named: [
            Trait(value, source, timestamp, message_id)
            for timestamp, message_id, value, source in sorted(found[named].values(), reverse=True)[:MAX_VALUES]
        ]
        for named in sorted(found)[:_MAX_HISTORIES]
    }


def links(connection: sqlite3.Connection, node: int) -> list[list[ExternalId]]:
    """The accounts of a person, or the people of an account: the ids of each, those first seen first."""
    found: dict[int, list[ExternalId]] = {}
    for kind, value in linked(connection, node):
        row = connection.execute(
            "SELECT node, profile FROM external_id WHERE short = ? AND kind = ? AND value = ?",
            (short_id_of(kind, value), kind, value),
        ).fetchone()
        if row is not None and row[1] not in found:
            found[row[1]] = profile_of(connection, row[0]).external_ids
        if len(found) >= MAX_LINKS:
            break
    return sorted(found.values(), key=lambda ids: min(each.first_seen for each in ids))


def linked(connection: sqlite3.Connection, node: int) -> list[Id]:
    """Ids of the accounts of a person, or of the people of an account, by name; several may be one profile."""
    found: dict[Id, None] = {}
    for mine in profile_nodes(connection, profile_root(connection, node)):
        rows = connection.execute(
            "SELECT kind, value FROM membership WHERE node = ?1 UNION SELECT kind, value FROM member WHERE node = ?1"
            " ORDER BY 1, 2 LIMIT ?2",
            (mine, _READ_LINKS),
        )
        found.update(dict.fromkeys(rows))
    return list(found)


def profile_id_at(connection: sqlite3.Connection, node: int) -> str:
    """The profile id of a node, without reading the profile."""
    kind, value = connection.execute(
        "SELECT name.kind, name.value FROM external_id AS mine LEFT JOIN profile ON root = mine.profile"
        " JOIN external_id AS name ON name.node = coalesce(canonical, mine.node) WHERE mine.node = ?",
        (node,),
    ).fetchone()
    return profile_id(kind, value)
