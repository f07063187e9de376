"""A profile: one person, or one account, joined from external ids.

The profile id is a pure function of the external id that a profile hangs on: the one of highest priority, which is the user_id of a
known person. So the same events give the same ids in any order, on any machine, in any identity.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, field

__all__ = [
    "ComputedValue",
    "ExternalId",
    "Profile",
    "count_profiles",
    "profile_id",
    "profile_nodes",
    "profile_of",
    "profile_root",
    "read_profile",
    "short_id_of",
]

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [one + other for one in _LETTERS for other in _LETTERS]
_SHIFTS = range(120, -1, -10)
"""Two letters at a time take a third of the time that the standard library's base 32 takes."""

MAX_GROUPS = 1_000
"""Groups listed in a profile, alphabetically first."""


@dataclass(frozen=True, slots=True)
class ExternalId:
    """Times are microseconds since the epoch, of events, not of their arrival."""

    kind: str
    """user_id, anonymous_id, email, group_id or any other type."""
    value: str
    first_seen: int
    last_seen: int
    """Rounded down to the hour."""
    source: str = ""
    """Of the earliest event that carried it."""
    message_id: str = ""
    """Of that event."""


@dataclass(frozen=True, slots=True)
class ComputedValue:
    """Of a computed trait, or of an audience. One that says nothing (0, null, an empty list, false) is not listed."""

    value: str
    """JSON text."""
    trait_class: str
    """computed_trait or audience."""
    updated_at: int
    """When it became this value, microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one person or account; everything in it is committed."""

    profile_id: str
    external_ids: list[ExternalId]
    """The one the profile hangs on first, then the others in the order in which events first carried them."""
    traits: dict[str, str]
    """Name to JSON text as it was sent; ``null`` is kept."""
    groups: list[str]
    """group_id values that group calls named for this person."""
    first_seen: int
    last_seen: int
    computed: dict[str, ComputedValue] = field(default_factory=dict)
    """By key."""


def profile_id(kind: str, value: str) -> str:
    """``use_`` (people) or ``acc_`` (group_id) and 26 characters."""
    left = _digest(kind, value) << 2  # 26 letters of 5 bits each
    letters = "".join([_PAIRS[left >> shift & 1023] for shift in _SHIFTS])
    return ("acc_" if kind == "group_id" else "use_") + letters


def short_id_of(kind: str, value: str) -> int:
    """The first 63 bits of the profile id, which is what files know it by."""
    return _digest(kind, value) >> 65


def read_profile(connection: sqlite3.Connection, kind: str, value: str) -> Profile | None:
    """The profile that an external id belongs to, or None if no event carried the id."""
    node = _node(connection, kind, value)
    return None if node is None else profile_of(connection, node)


def profile_of(connection: sqlite3.Connection, node: int) -> Profile:
    """The profile that a node belongs to."""
    root, canonical = connection.execute(
        "SELECT profile, coalesce(canonical, node) FROM external_id LEFT JOIN profile ON root = profile WHERE node = ?",
        (node,),
    ).fetchone()
    rows = connection.execute(
        "SELECT node, kind, value, first_seen, last_seen, source, message_id FROM external_id"
        " WHERE node = ?1 OR (profile = ?1 AND profile <> node) ORDER BY node <> ?2, first_seen, kind, value",
        (root, canonical),
    ).fetchall()
    nodes = [row[0] for row in rows]
    external_ids = [ExternalId(*row[1:]) for row in rows]
    return Profile(
        profile_id(external_ids[0].kind, external_ids[0].value),
        external_ids,
        _traits(connection, nodes),
        _groups(connection, nodes),
        min(each.first_seen for each in external_ids),
        max(each.last_seen for each in external_ids),
        _computed(connection, canonical),
    )


def profile_root(connection: sqlite3.Connection, node: int) -> int:
    """The smallest node of a node's profile, by which profiles are known inside."""
    (root,) = connection.execute("SELECT profile FROM external_id WHERE node = ?", (node,)).fetchone()
    return int(root)


def profile_nodes(connection: sqlite3.Connection, root: int) -> list[int]:
    """All nodes of a profile."""
    rows = connection.execute("SELECT node FROM external_id WHERE profile = ? AND profile <> node", (root,))
    return [root, *(node for (node,) in rows)]


def count_profiles(connection: sqlite3.Connection) -> int:
    """How many there are, accounts among them."""
    (count,) = connection.execute("SELECT count(*) FROM external_id WHERE profile = node").fetchone()
    return int(count)


def _digest(kind: str, value: str) -> int:
    # The kinds hold no NUL, so the join is unambiguous.
    text = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def _node(connection: sqlite3.Connection, kind: str, value: str) -> int | None:
    try:
        row = connection.execute(
            "SELECT node FROM external_id WHERE short = ? AND kind = ? AND value = ?",
            (short_id_of(kind, value), kind, value),
        ).fetchone()
    except UnicodeEncodeError:
        return None  # a lone surrogate: no event can have carried it
    return row[0] if row else None


def _traits(connection: sqlite3.Connection, nodes: list[int]) -> dict[str, str]:
    newest: dict[str, tuple[int, str, str]] = {}
    for node in nodes:
        for name, timestamp, message_id, value in connection.execute(
            "SELECT name, timestamp, message_id, value FROM trait WHERE node = ?", (node,)
        ):
            written = (timestamp, message_id, value)
            if name not in newest or written > newest[name]:
                newest[name] = written
    return {name: newest[name][2] for name in sorted(newest)}


def _computed(connection: sqlite3.Connection, canonical: int) -> dict[str, ComputedValue]:
    rows = connection.execute(
        "SELECT key, value, body ->> '$.class', updated_at FROM computation JOIN computed_value"
        " ON computation = number AND node = ? WHERE NOT dropped AND value <> '' ORDER BY key",
        (canonical,),
    )
    return {
        key: ComputedValue(value, "audience" if kind == "audience" else "computed_trait", updated_at)
        for key, value, kind, updated_at in rows
    }


def _groups(connection: sqlite3.Connection, nodes: list[int]) -> list[str]:
    found: set[str] = set()
    for node in nodes:
        found.update(
            value
            for (value,) in connection.execute(
                "SELECT value FROM membership WHERE node = ? ORDER BY value LIMIT ?", (node, MAX_GROUPS)
            )
        )
    return sorted(found)[:MAX_GROUPS]
