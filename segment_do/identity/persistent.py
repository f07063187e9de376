"""Profile ids that were handed out, so that each goes on resolving after its profile became part of another.

A profile id is made from one external id and never changes; which profile that external id belongs to may. So all that has to be kept is
whose an id is.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Iterable

from segment_do.identity.ids import Node
from segment_do.identity.profile import profile_id as own_id
from segment_do.identity.profile import short_id_of

__all__ = ["PersistentIds", "find_persistent", "short_id"]


class PersistentIds:
    """The table ``persistent_id``: ids of nodes that name their profile, or once did."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, new: Iterable[Node], moved: Iterable[Node]) -> None:
        """Inside the batch's transaction: keep what is about to be handed out."""
        named = {node.node: node for node in new if (cluster := node.cluster) is None or cluster.canonical is node}
        for node in moved:
            cluster = node.cluster
            if cluster is not None:
                named[cluster.canonical.node] = cluster.canonical
            else:
                named[node.node] = node
        self._connection.executemany(
            "INSERT OR IGNORE INTO persistent_id (id, node) VALUES (?, ?)",
            [(short_id_of(node.kind, node.value), node.node) for node in named.values()],
        )


def find_persistent(connection: sqlite3.Connection, profile_id: str) -> int | None:
    """The node whose id a profile id is, if it was ever handed out."""
    short = short_id(profile_id)
    row = connection.execute(
        "SELECT node, kind, value FROM persistent_id JOIN external_id USING (node) WHERE id = ?", (short,)
    ).fetchone()
    return row[0] if row is not None and own_id(row[1], row[2]) == profile_id else None


def short_id(profile_id: str) -> int | None:
    """The first 63 bits of a profile id; None where it is none."""
    try:
        digest = base64.b32decode(profile_id[4:].upper() + "======")
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(digest[:8], "big") >> 1 if len(digest) == 16 and profile_id[3:4] == "_" else None
