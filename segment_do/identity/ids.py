"""External ids as nodes, and which anonymous id belongs to whom.

An anonymous id belongs to the user of its *earliest* link, by (timestamp, message id) of the event that carried
both, never by arrival: so the order in which events come does not matter. Two user ids never become one.

Known ids are kept in bounded caches, so that an id seen again costs no SQL. A batch changes nodes in memory
and writes each changed one once. When the batch fails, the caches are emptied: nothing in memory may be believed
that is not in the file.
"""

from __future__ import annotations

import sqlite3

from segment_do.identity.profile import profile_id

__all__ = ["HOUR_MICROSECONDS", "Node", "Nodes", "Unusable"]

HOUR_MICROSECONDS = 3_600_000_000
GENERATION_IDS = {"user_id": 20_000, "anonymous_id": 20_000, "group_id": 10_000}
"""Ids in a cache's young generation. It becomes the old one when full, and the old one goes: at most twice
these are kept (100,000 in all, about 50 MB), and those used lately always are."""
_NEVER = 2**63
_TIMESTAMP_LIMIT = 2**62


class Unusable(Exception):
    """The event cannot be applied to a profile. It is passed on as it is."""


class Node:
    """One external id."""

    __slots__ = (
        "canonical",
        "first_seen",
        "kind",
        "linked_at",
        "linked_by",
        "linked_to",
        "node",
        "seen_until",
        "trait_bound",
        "user",
        "value",
    )

    def __init__(self, kind: str, value: str, node: int, first_seen: int, last_seen: int) -> None:
        self.kind = kind
        self.value = value
        self.node = node
        self.first_seen = first_seen
        self.seen_until = last_seen + HOUR_MICROSECONDS
        """A timestamp from here on moves ``last_seen``."""
        self.canonical = profile_id(kind, value)
        """Profile id of whom it belongs to."""
        self.user = 0
        self.linked_at = _NEVER
        self.linked_by = ""
        self.linked_to = ""
        """The user's id."""
        self.trait_bound = -1
        """It has at most so many traits; -1 when not known."""


class Nodes:
    """The tables ``external_id`` and ``link``. ``write`` and ``commit``, or ``rollback``, end a batch.

    ``young`` maps a kind to its ids by value: look there first, then call :meth:`get`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.young: dict[str, dict[str, Node]] = {kind: {} for kind in GENERATION_IDS}
        self._old: dict[str, dict[str, Node]] = {kind: {} for kind in GENERATION_IDS}
        (self._next,) = connection.execute("SELECT coalesce(max(node), 0) + 1 FROM external_id").fetchone()
        self._first_new: int = self._next
        self._new: list[Node] = []
        self._touched: dict[int, Node] = {}
        self._linked: dict[int, Node] = {}

    def rotate(self) -> None:
        """Before a batch: keep the caches within their bound. Never within one, where nodes are changed."""
        for kind, limit in GENERATION_IDS.items():
            if len(self.young[kind]) >= limit:
                self._old[kind] = self.young[kind]
                self.young[kind] = {}

    def find(self, kind: str, value: str) -> Node | None:
        """The node of an id, from the caches or the file, if an event carried it before."""
        node = self.young[kind].get(value)
        if node is None:
            node = self._old[kind].get(value) or self._read(kind, value)
            if node is not None:
                self.young[kind][value] = node
        return node

    def get(self, kind: str, value: str, timestamp: int) -> Node:
        """The node of an id, made if it is new, with ``timestamp`` counted in.

        Raises:
            Unusable: no clock shows such a time.
        """
        node = self.find(kind, value)
        if node is None:
            _check(timestamp)
            node = Node(kind, value, self._next, timestamp, _hour(timestamp))
            node.trait_bound = 0
            self._next += 1
            self._new.append(node)
            self.young[kind][value] = node
        elif not node.first_seen <= timestamp < node.seen_until:
            self.touch(node, timestamp)
        return node

    def touch(self, node: Node, timestamp: int) -> None:
        """Count in a timestamp outside what the node has seen.

        Raises:
            Unusable: no clock shows such a time.
        """
        _check(timestamp)
        node.first_seen = min(node.first_seen, timestamp)
        node.seen_until = max(node.seen_until, _hour(timestamp) + HOUR_MICROSECONDS)
        if node.node < self._first_new:
            self._touched[node.node] = node

    def link(self, anonymous: Node, user: Node, timestamp: int, message_id: str) -> None:
        """An event carried both. The earliest such event decides; of two under one message id, which can both count when
        they came further apart than duplicates are known, the smaller user id: never the order of arrival."""
        if (timestamp, message_id, user.value) < (anonymous.linked_at, anonymous.linked_by, anonymous.linked_to):
            anonymous.user = user.node
            anonymous.linked_at, anonymous.linked_by, anonymous.linked_to = timestamp, message_id, user.value
            anonymous.canonical = user.canonical
            self._linked[anonymous.node] = anonymous

    def write(self) -> None:
        """Inside the batch's transaction: store every changed node once."""
        if self._new:
            self._connection.executemany(
                "INSERT INTO external_id (node, kind, value, first_seen, last_seen) VALUES (?, ?, ?, ?, ?)",
                [
                    (each.node, each.kind, each.value, each.first_seen, each.seen_until - HOUR_MICROSECONDS)
                    for each in self._new
                ],
            )
        if self._touched:
            self._connection.executemany(
                "UPDATE external_id SET first_seen = ?, last_seen = ? WHERE node = ?",
                [(each.first_seen, each.seen_until - HOUR_MICROSECONDS, each.node) for each in self._touched.values()],
            )
        if self._linked:
            self._connection.executemany(
                "INSERT INTO link (anonymous, user, timestamp, message_id) VALUES (?, ?, ?, ?) ON CONFLICT (anonymous)"
                " DO UPDATE SET user = excluded.user, timestamp = excluded.timestamp, message_id = excluded.message_id",
                [(each.node, each.user, each.linked_at, each.linked_by) for each in self._linked.values()],
            )

    def commit(self) -> None:
        """The batch's transaction is durable."""
        self._first_new = self._next
        self._new, self._touched, self._linked = [], {}, {}

    def rollback(self) -> None:
        """The batch's transaction is undone: forget everything that was read or changed."""
        self._next = self._first_new
        self._new, self._touched, self._linked = [], {}, {}
        for kind in GENERATION_IDS:
            self.young[kind] = {}
            self._old[kind] = {}

    def _read(self, kind: str, value: str) -> Node | None:
        row = self._connection.execute(
            "SELECT node, first_seen, last_seen FROM external_id WHERE kind = ? AND value = ?", (kind, value)
        ).fetchone()
        if row is None:
            return None
        node = Node(kind, value, *row)
        if kind == "anonymous_id":
            link = self._connection.execute(
                "SELECT l.user, l.timestamp, l.message_id, u.value FROM link l JOIN external_id u ON u.node = l.user"
                " WHERE l.anonymous = ?",
                (node.node,),
            ).fetchone()
            if link is not None:
                node.user, node.linked_at, node.linked_by, user_id = link
                node.linked_to = user_id
                node.canonical = profile_id("user_id", user_id)
        return node


def _hour(timestamp: int) -> int:
    return timestamp - timestamp % HOUR_MICROSECONDS


def _check(timestamp: int) -> None:
    # SQLite's integers end at 2**63.
    if not -_TIMESTAMP_LIMIT < timestamp < _TIMESTAMP_LIMIT:
        raise Unusable
