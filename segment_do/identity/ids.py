"""External ids as nodes, and clusters: the ids that are one profile.

Known ids are kept in bounded caches, so that an id seen again costs no SQL; the others of a batch are read together. A batch
changes nodes and clusters in memory and writes each changed one once. When the batch fails, all caches are emptied: nothing in memory may be believed
that is not in the file.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from segment_do.events.record import Record
from segment_do.identity.profile import profile_id, short_id_of
from segment_do.identity.rules import Rules

if TYPE_CHECKING:
    from segment_do.identity.shards.tree import Tree

__all__ = ["HOUR_MICROSECONDS", "Cluster", "Node", "Nodes", "Unusable"]

HOUR_MICROSECONDS = 3_600_000_000
GENERATION_IDS = {"user_id": 20_000, "anonymous_id": 20_000, "other": 20_000}
"""Ids in a cache's young generation. It becomes the old one when full, and the old one goes: at most twice
these are kept (120,000 in all, about 60 MB), and those used lately always are."""
_MOST_ALIVE: Final = 200_000
"""Nodes in memory at which those in no cache go: a replay, or other rules, may have read any number of them."""
_MOST_REMEMBERED: Final = 100
"""Partners remembered of one id; an id of a whole office is asked of the file instead."""
_NO_BONDS: Final[Mapping[int, tuple[int, str]]] = MappingProxyType({})
"""One for all, as every container is work for the garbage collector."""
_TIMESTAMP_LIMIT: Final = 2**62

_COLUMNS: Final = (
    "node, kind, external_id.value, first_seen, last_seen, source, message_id, profile, canonical, component"
)
_WITH_CLUSTER: Final = "external_id LEFT JOIN profile ON profile.root = external_id.profile"
_BY_NUMBER: Final = f"SELECT {_COLUMNS} FROM {_WITH_CLUSTER} WHERE node = ?"  # noqa: S608
_BY_SHORT: Final = f"SELECT {_COLUMNS} FROM json_each(?) AS asked CROSS JOIN {_WITH_CLUSTER} WHERE short = asked.value"  # noqa: S608
_Row = tuple[int, str, str, int, int, str, str, int, int | None, int | None]


class Unusable(Exception):
    """The event cannot be applied to a profile. It is passed on as it is."""


class Node:
    """One external id."""

    __slots__ = (
        "bonds",
        "first_seen",
        "held_by",
        "kind",
        "message_id",
        "node",
        "seen_until",
        "source",
        "spelled",
        "trait_bound",
        "tree",
        "value",
    )

    def __init__(
        self, kind: str, value: str, node: int, first_seen: int, last_seen: int, source: str, message_id: str
    ) -> None:
        self.kind = kind
        self.value = value
        self.node = node
        self.first_seen = first_seen
        self.seen_until = last_seen + HOUR_MICROSECONDS
        """A timestamp from here on moves ``last_seen``."""
        self.source = source
        self.message_id = message_id
        self.spelled = ""
        """:attr:`own_id`, once somebody asked for it."""
        self.held_by: Cluster | None = None
        """None: it is a profile by itself. May be one that has become another; ask :attr:`cluster`."""
        self.bonds: Mapping[int, tuple[int, str]] = _NO_BONDS
        """Other node → (timestamp, message id) of the earliest event with these two ids alone, as far as it is known here.
        :meth:`remember` fills it."""
        self.trait_bound = -1
        """It has at most so many traits and earlier values of them; -1 when not known."""
        self.tree: Tree | None = None
        """Where the identity has several graphs: the tree of linked ids that it lies in, where that is known."""

    def remember(self, other: int, timestamp: int, message_id: str) -> None:
        """An event of then is the earliest with this id and that one alone."""
        if not isinstance(self.bonds, dict) or len(self.bonds) >= _MOST_REMEMBERED:
            self.bonds = {}
        self.bonds[other] = (timestamp, message_id)

    @property
    def own_id(self) -> str:
        """Profile id where it is alone, or names its profile. Spelled when first asked for: most ids never name anything."""
        if not self.spelled:
            self.spelled = profile_id(self.kind, self.value)
        return self.spelled

    @property
    def cluster(self) -> Cluster | None:
        """The ids that it is one profile with."""
        cluster = self.held_by
        if cluster is not None and cluster.into is not None:
            cluster = self.held_by = cluster.end()
        return cluster

    @property
    def named(self) -> Node:
        """The node whose id names the profile that it belongs to."""
        cluster = self.cluster
        return self if cluster is None else cluster.canonical

    @property
    def profile_id(self) -> str:
        """Of the profile that it belongs to."""
        return self.named.own_id


class Cluster:
    """External ids that are one profile."""

    __slots__ = ("canonical", "component", "counts", "into", "joined", "last", "renamed", "root")

    def __init__(self, root: int, canonical: Node, component: int | None) -> None:
        self.root = root
        """Its smallest node."""
        self.canonical = canonical
        """Whose id names the profile. Only what never changes may be read of it: the cache may know a younger object of that id."""
        self.component = component
        """The contested component that it lies in, if it does."""
        self.counts: dict[str, int] | None = None
        """Ids by type; None until somebody needs them."""
        self.into: Cluster | None = None
        """What it has become a part of."""
        self.last: tuple[int, str] | None = None
        """(timestamp, message id) that none of its bonds is later than, where that is known."""
        self.joined: tuple[Node, ...] = ()
        """In this batch, one by one."""
        self.renamed = False
        """In this batch all of its ids got another profile id, or many came at once."""

    def end(self) -> Cluster:
        """What it has become by now."""
        cluster = self
        while cluster.into is not None:
            cluster = cluster.into
        return cluster


class Nodes:
    """The table ``external_id`` and the clusters. ``write`` and ``commit``, or ``rollback``, end a batch.

    ``young`` maps a kind to its ids by value: look there first, then call :meth:`get`.
    """

    def __init__(self, connection: sqlite3.Connection, rules: Rules) -> None:
        self._connection = connection
        self._rules = rules
        self.alive: dict[int, Node]
        self.clusters: dict[int, Cluster]
        self._spellings: dict[int, set[str]]
        self._reset()
        (self._next,) = connection.execute("SELECT coalesce(max(node), 0) + 1 FROM external_id").fetchone()
        self.first_new: int = self._next
        """Nodes from here on were made in this batch."""
        self._new: list[Node] = []
        self._touched: dict[int, Node] = {}
        self._absent: dict[tuple[str, str], int] = {}
        """Types and values that the file does not have, as was found before this batch, and what it would know each by."""

    def rotate(self) -> None:
        """Before a batch: keep the caches within their bound. Never within one, where nodes are changed."""
        full = [name for name, limit in GENERATION_IDS.items() if len(self.young[name]) >= limit]
        for name in full:
            self._old[name] = self.young[name]
            self.young[name] = {}
        if full or len(self.alive) > _MOST_ALIVE:
            caches = (*self.young.values(), *self._old.values())
            self.alive = {node.node: node for cache in caches for node in cache.values()}
            found = [cluster for node in self.alive.values() if (cluster := node.cluster) is not None]
            self.clusters = {cluster.root: cluster for cluster in found}
            if self._spellings:
                self._spellings = {}
                for caches_of in (self.young, self._old):
                    for kind in ("user_id", "anonymous_id"):
                        for value, node in caches_of[kind].items():
                            if value != node.value:
                                self._spellings.setdefault(node.node, set()).add(value)

    def expect(self, wanted: Iterable[tuple[str, str]]) -> bool:
        """Before a batch: read those of these ids, (type, accepted value), that no cache has, together; whether there were any."""
        missing: dict[tuple[str, str], int] = {}
        for kind, value in set(wanted):
            name, key = _place(kind, value)
            if key not in self.young[name]:
                node = self._old[name].get(key)
                if node is None:
                    missing[kind, value] = short_id_of(kind, value)
                else:
                    self.young[name][key] = node
        if not missing:
            return False
        for node in self._read(missing):
            name, key = _place(node.kind, node.value)
            self.young[name][key] = node
            del missing[node.kind, node.value]
        self._absent |= missing
        return True

    def recall(self, record: Record, inside: Iterable[tuple[str, str]]) -> list[Node] | None:
        """The nodes of an event's ids, those ``inside`` its payload among them, where all of them are remembered."""
        found = []
        if record.user_id:
            found.append(self.young["user_id"].get(record.user_id))
        if record.anonymous_id:
            found.append(self.young["anonymous_id"].get(record.anonymous_id))
        for kind, value in inside:
            name, key = _place(kind, value)
            found.append(self.young[name].get(key))
        return None if None in found else found  # type: ignore[return-value]

    def find(self, kind: str, value: str) -> Node | None:
        """The node of an id, from the caches or the file, if an event carried it before."""
        name, key = _place(kind, value)
        node = self.young[name].get(key)
        if node is None:
            node = self._old[name].get(key)
            if node is None and (kind, value) not in self._absent:
                node = next(iter(self._read({(kind, value): short_id_of(kind, value)})), None)
            if node is not None:
                self.young[name][key] = node
        return node

    def get(self, kind: str, value: str, timestamp: int, source: str, message_id: str) -> Node | None:
        """The node of an id, made if it is new, with the event counted in; None where the value is never promoted.

        Raises:
            Unusable: no clock shows such a time.
        """
        accepted = self._rules.accepted(kind, value) if kind in ("user_id", "anonymous_id") else value
        if accepted is None:
            return None
        node = self.find(kind, accepted)
        if node is None:
            _check(timestamp)
            node = Node(kind, accepted, self._next, timestamp, _hour(timestamp), source, message_id)
            node.trait_bound = 0
            self._next += 1
            self._new.append(node)
            self.alive[node.node] = node
            name, key = _place(kind, accepted)
            self.young[name][key] = node
        elif not node.first_seen < timestamp < node.seen_until:
            self.touch(node, timestamp, source, message_id)
        if accepted != value:
            self.young[kind][value] = node  # as it is written in events, too: the next one is found at once
            self._spellings.setdefault(node.node, set()).add(value)
        return node

    def touch(self, node: Node, timestamp: int, source: str, message_id: str) -> None:
        """Count in a timestamp outside what the node has seen, or equal to the first.

        Raises:
            Unusable: no clock shows such a time.
        """
        _check(timestamp)
        until = max(node.seen_until, _hour(timestamp) + HOUR_MICROSECONDS)
        if (timestamp, message_id) < (node.first_seen, node.message_id):
            node.first_seen, node.source, node.message_id = timestamp, source, message_id
        elif until == node.seen_until:
            return
        node.seen_until = until
        if node.node < self.first_new:
            self._touched[node.node] = node

    def is_new(self, node: Node) -> bool:
        """Whether it was made in this batch: the file does not know it yet."""
        return node.node >= self.first_new

    def adopt(
        self, kind: str, value: str, first_seen: int, last_seen: int, source: str, message_id: str
    ) -> tuple[Node, bool]:
        """Inside a transaction, before anything of it is staged: add what another graph knows of an id; whether it is new here."""
        node = self.find(kind, value)
        if node is not None:
            if (first_seen, message_id) < (node.first_seen, node.message_id):
                node.first_seen, node.source, node.message_id = first_seen, source, message_id
            node.seen_until = max(node.seen_until, last_seen + HOUR_MICROSECONDS)
            self._touched[node.node] = node
            return node, False
        node = Node(kind, value, self._next, first_seen, last_seen, source, message_id)
        self._connection.execute(
            "INSERT INTO external_id (node, kind, value, first_seen, last_seen, profile, source, message_id, short)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?1, ?6, ?7, ?8)",
            (node.node, kind, value, first_seen, last_seen, source, message_id, short_id_of(kind, value)),
        )
        self._next += 1
        self.first_new = self._next
        self.alive[node.node] = node
        name, key = _place(kind, value)
        self.young[name][key] = node
        return node, True

    def forget(self, number: int, kind: str, value: str) -> None:
        """An id is no longer in the graph."""
        name, key = _place(kind, value)
        for each in (key, *self._spellings.pop(number, ())):
            self.young[name].pop(each, None)
            self._old[name].pop(each, None)
        node = self.alive.pop(number, None)
        self._touched.pop(number, None)
        if node is not None and (cluster := node.cluster) is not None:
            self.clusters.pop(cluster.root, None)

    def by_number(self, number: int) -> Node:
        """A node that is known to be there."""
        return self.alive.get(number) or self._take(self._connection.execute(_BY_NUMBER, (number,)).fetchall())[0]

    def write(self) -> list[Node]:
        """Inside the batch's transaction: store every changed node once; returns those that are new."""
        if self._new:
            self._connection.executemany(
                "INSERT INTO external_id (node, short, kind, value, first_seen, last_seen, profile, source, message_id)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        each.node,
                        self._absent.get((each.kind, each.value)) or short_id_of(each.kind, each.value),
                        each.kind,
                        each.value,
                        each.first_seen,
                        each.seen_until - HOUR_MICROSECONDS,
                        each.node if (cluster := each.cluster) is None else cluster.root,
                        each.source,
                        each.message_id,
                    )
                    for each in self._new
                ],
            )
        if self._touched:
            self._connection.executemany(
                "UPDATE external_id SET first_seen = ?, last_seen = ?, source = ?, message_id = ? WHERE node = ?",
                [
                    (each.first_seen, each.seen_until - HOUR_MICROSECONDS, each.source, each.message_id, each.node)
                    for each in self._touched.values()
                ],
            )
        return self._new

    def commit(self) -> None:
        """The batch's transaction is durable."""
        self.first_new = self._next
        self._new, self._touched, self._absent = [], {}, {}

    def rollback(self) -> None:
        """The batch's transaction is undone: forget everything that was read or changed."""
        self._next = self.first_new
        self._new, self._touched, self._absent = [], {}, {}
        self._reset()

    def _reset(self) -> None:
        self.young: dict[str, dict[str, Node]] = {name: {} for name in GENERATION_IDS}
        self._old: dict[str, dict[str, Node]] = {name: {} for name in GENERATION_IDS}
        self.alive = {}
        """Every node that is in a cache, by number: none is there twice. Its bound is theirs."""
        self.clusters = {}
        """Their clusters, by root."""
        self._spellings = {}
        """Of user and anonymous ids in the caches: the values, other than its own, under which each is there, too."""

    def _read(self, asked: dict[tuple[str, str], int]) -> list[Node]:
        """Those that the file has of these types and values, each with what the file would know it by."""
        rows = self._connection.execute(_BY_SHORT, (str(list(asked.values())),)).fetchall()
        return self._take([row for row in rows if (row[1], row[2]) in asked])

    def _take(self, rows: Iterable[_Row]) -> list[Node]:
        """The nodes of these rows, with their clusters."""
        found: dict[int, Node] = {}
        of_clusters: list[tuple[Node, int, int, int | None]] = []
        for number, kind, value, first_seen, last_seen, source, message_id, root, canonical, component in rows:
            node = self.alive.get(number)
            if node is None:
                node = Node(sys.intern(kind), value, number, first_seen, last_seen, source, message_id)
                self.alive[number] = node
                if canonical is not None:
                    of_clusters.append((node, root, canonical, component))
            found[number] = node
        for node, root, canonical, component in of_clusters:  # now that those are here that name one
            cluster = self.clusters.get(root)
            if cluster is None:
                names = self._alone(canonical)
                cluster = self.clusters[root] = Cluster(root, names, component)
                names.held_by = cluster
            node.held_by = cluster
        return list(found.values())

    def _alone(self, number: int) -> Node:
        """A node without its cluster, which whoever asks is about to give it."""
        node = self.alive.get(number)
        if node is None:
            row = self._connection.execute(
                "SELECT kind, value, node, first_seen, last_seen, source, message_id FROM external_id WHERE node = ?",
                (number,),
            ).fetchone()
            node = self.alive[number] = Node(*row)
        return node


def _place(kind: str, value: str) -> tuple[str, str]:
    """Which cache an id is in, and its key there."""
    return (kind, value) if kind in GENERATION_IDS else ("other", f"{kind}\0{value}")


def _hour(timestamp: int) -> int:
    return timestamp - timestamp % HOUR_MICROSECONDS


def _check(timestamp: int) -> None:
    # SQLite's integers end at 2**63.
    if not -_TIMESTAMP_LIMIT < timestamp < _TIMESTAMP_LIMIT:
        raise Unusable
