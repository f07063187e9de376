"""Profile ids, which go on resolving after their profile became part of another.

A profile id is made from one external id and never changes; which profile that external id belongs to may. So an id is found by the
external id that it is made from.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3

from segment_do.identity.profile import profile_id as own_id

__all__ = ["find_persistent", "short_id"]


def find_persistent(connection: sqlite3.Connection, profile_id: str) -> int | None:
    """The node whose id a profile id is."""
    rows = connection.execute("SELECT node, kind, value FROM external_id WHERE short = ?", (short_id(profile_id),))
    return next((node for node, kind, value in rows.fetchall() if own_id(kind, value) == profile_id), None)


def short_id(profile_id: str) -> int | None:
    """The first 63 bits of a profile id; None where it is none."""
    try:
        digest = base64.b32decode(profile_id[4:].upper() + "======")
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(digest[:8], "big") >> 1 if len(digest) == 16 and profile_id[3:4] == "_" else None
