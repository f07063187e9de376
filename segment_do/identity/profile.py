"""A profile: one person, or one account, joined from external ids.

The profile id is a pure function of the external id that a profile hangs on: the user_id of a known person,
else the anonymous_id. So the same events give the same ids in any order, on any machine, in any identity.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from dataclasses import dataclass

__all__ = ["ExternalId", "Profile", "profile_id", "read_profile"]

MAX_EXTERNAL_IDS = 1_000
"""External ids of one profile (Segment's own limit). Those linked first, by event time, count; the others'
events still get the profile's id."""
MAX_GROUPS = 1_000
"""Groups listed in a profile, alphabetically first."""


@dataclass(frozen=True, slots=True)
class ExternalId:
    """Times are microseconds since the epoch, of events, not of their arrival."""

    kind: str
    """user_id, anonymous_id or group_id."""
    value: str
    first_seen: int
    last_seen: int
    """Rounded down to the hour."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one person or account; everything in it is committed."""

    profile_id: str
    external_ids: list[ExternalId]
    """The one the profile hangs on first, then the others in the order of their links."""
    traits: dict[str, str]
    """Name to JSON text as it was sent; ``null`` is kept."""
    groups: list[str]
    """group_id values that group calls named for this person."""
    first_seen: int
    last_seen: int


def profile_id(kind: str, value: str) -> str:
    """``use_`` (people) or ``acc_`` (group_id) and 26 characters."""
    # The kinds hold no NUL, so the join is unambiguous.
    digest = hashlib.blake2b(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return ("acc_" if kind == "group_id" else "use_") + base64.b32encode(digest)[:26].decode().lower()


def read_profile(connection: sqlite3.Connection, kind: str, value: str) -> Profile | None:
    """The profile that an external id belongs to, or None if no event carried the id."""
    node = _node(connection, kind, value)
    if node is None:
        return None
    if kind == "anonymous_id":
        linked = connection.execute("SELECT user FROM link WHERE anonymous = ?", (node,)).fetchone()
        node = linked[0] if linked else node
    nodes = [node]
    nodes += [
        anonymous
        for (anonymous,) in connection.execute(
            "SELECT anonymous FROM link WHERE user = ? ORDER BY timestamp, message_id, anonymous LIMIT ?",
            (node, MAX_EXTERNAL_IDS - 1),
        )
    ]
    external_ids = [
        ExternalId(
            *connection.execute(
                "SELECT kind, value, first_seen, last_seen FROM external_id WHERE node = ?", (each,)
            ).fetchone()
        )
        for each in nodes
    ]
    return Profile(
        profile_id(external_ids[0].kind, external_ids[0].value),
        external_ids,
        _traits(connection, nodes),
        _groups(connection, nodes),
        min(each.first_seen for each in external_ids),
        max(each.last_seen for each in external_ids),
    )


def _node(connection: sqlite3.Connection, kind: str, value: str) -> int | None:
    try:
        row = connection.execute("SELECT node FROM external_id WHERE kind = ? AND value = ?", (kind, value)).fetchone()
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


def _groups(connection: sqlite3.Connection, nodes: list[int]) -> list[str]:
    found: set[str] = set()
    for node in nodes:
        found.update(
            value
            for (value,) in connection.execute(
                "SELECT e.value FROM membership m JOIN external_id e ON e.node = m.account WHERE m.member = ?"
                " ORDER BY e.value LIMIT ?",
                (node, MAX_GROUPS),
            )
        )
    return sorted(found)[:MAX_GROUPS]
