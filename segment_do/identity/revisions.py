"""What people change by hand: a bond undone, profiles joined or split. Each change leaves a line in the audit.

A change is a fact like an event: profiles are worked out from all facts that hold, so what was undone stays undone when its
event comes again, and can be done again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.record import Record, encode_record
from segment_do.identity.audit import AuditLine, read_audit, write_audit
from segment_do.identity.bonds import Bonds, nodes_of
from segment_do.identity.clusters import Clusters
from segment_do.identity.database import Database
from segment_do.identity.decision import Id
from segment_do.identity.ids import Node
from segment_do.identity.outbox import Outbox
from segment_do.identity.profile import count_profiles, profile_nodes, profile_root
from segment_do.identity.resolution import Resolution
from segment_do.identity.rules import ACCOUNT_TYPES, NO_ARRIVAL, Rules, written_rules

__all__ = ["Proposal", "Revisions", "check_one_collection"]

_MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Proposal:
    """What other rules would do."""

    profiles_before: int
    profiles_after: int
    ids_moved: int
    """External ids that would belong to another profile, or to one of another name."""
    examples: list[tuple[str, str, str]]
    """Some of them: type, value, profile id then."""


class Revisions:
    """The changes to one graph, each a transaction: the change, its line in the audit, what became of ids in the outbox.

    Every method raises StorageFailed, CorruptData and OwnershipLost as :meth:`.graph.Graph.apply` does; then nothing of it was kept.
    """

    def __init__(self, database: Database, resolution: Resolution, outbox: Outbox, clock: Callable[[], int]) -> None:
        self._database = database
        self._resolution = resolution
        self._outbox = outbox
        self._clock = clock

    def audit(self, limit: int) -> list[AuditLine]:
        """What was changed by hand, the newest first."""
        with self._database.reading() as connection:
            return read_audit(connection, limit)

    def unmerge(self, bond: int, by: str) -> None:
        """Undo what one event brought together (``Edge.bond``), and make the profiles anew without it.

        Raises:
            NotFound: there is no such bond.
        """
        self._revise("unmerge", lambda connection: self._cut(connection, [bond]), bond=bond, by=by)

    def split(self, ids: list[Id], by: str) -> None:
        """Take ids out of their profile, together: undo every bond that holds them to the rest of it.

        Raises:
            NotFound: no event carried one of them.
            InvalidRequest: they are not of one profile.
        """
        taken = {self._resolution.known(*each).node for each in ids}

        def change(connection: sqlite3.Connection) -> None:
            profiles = {profile_root(connection, node) for node in taken}
            if len(profiles) != 1:
                raise InvalidRequest("The ids are of different profiles already.", code="nothing_to_split")
            inside = set(profile_nodes(connection, profiles.pop()))
            self._cut(connection, _bonds_across(self._resolution.bonds, inside, taken))

        self._revise("split", change, ids=ids, by=by)

    def merge(self, one: Id, other: Id, by: str) -> None:
        """Make the profiles of two ids one, whatever the limits say.

        Raises:
            NotFound: no event carried one of them.
            InvalidRequest: they are the same id, or one is a person's and the other an account's.
        """
        check_one_collection(one, other)
        found = {self._resolution.known(*one), self._resolution.known(*other)}
        rank = self._resolution.rules.rank
        nodes = sorted(found, key=lambda node: (rank(node.kind), node.value))
        record = _by_hand(self._clock())

        def change(_connection: sqlite3.Connection) -> None:
            _join_by_hand(self._resolution.bonds, self._resolution.clusters, nodes, record)
            if self._resolution.shard is not None:
                self._resolution.shard.hold(nodes)

        self._revise("merge", change, ids=[one, other], by=by)

    def delete_id(self, lookup: Id, gone: Id, by: str) -> None:
        """Take one id out of its profile for good; the profile's others stay one, among them ``lookup``.

        Raises:
            NotFound: no event carried one of them.
            InvalidRequest: they are not of one profile.
        """
        stays, goes = self._resolution.known(*lookup), self._resolution.known(*gone)
        bonds, clusters = self._resolution.bonds, self._resolution.clusters

        def change(connection: sqlite3.Connection) -> None:
            kept = set(profile_nodes(connection, profile_root(connection, stays.node))) - {goes.node}
            if stays is goes or profile_root(connection, stays.node) != profile_root(connection, goes.node):
                raise InvalidRequest("The ids are of different profiles already.", code="nothing_to_split")
            last = bonds.last(bonds.component(kept))
            self._cut(connection, _bonds_across(bonds, {goes.node}, {goes.node}))  # also those that a limit refused
            # An event that tied it to others has tied those to each other. What falls apart is joined, later than all that is decided there.
            parts = {profile_root(connection, node): node for node in sorted(kept, reverse=True)}
            del parts[profile_root(connection, stays.node)]
            record = _by_hand(max(self._clock(), last[0] + 1 if last else 0))
            for node in parts.values():
                other = self._resolution.numbered(node)
                rank = self._resolution.rules.rank
                nodes = sorted((stays, other), key=lambda each: (rank(each.kind), each.value))
                _join_by_hand(bonds, clusters, nodes, record)

        self._revise("delete_id", change, id=lookup, deleted=gone, by=by)

    def set_rules(self, rules: Rules | None, defaults: Rules, by: str) -> None:
        """Give the graph rules of its own, or (None) take them away; every profile is made anew by them.

        Takes time in proportion to what is in the graph.

        Raises:
            InvalidRequest: shards cannot go by them.
        """
        self._check_order(rules)
        before = self._resolution.rules
        written = None if rules is None else written_rules(rules)

        def change(connection: sqlite3.Connection) -> None:
            text = None if written is None else msgspec.json.encode(written).decode()
            connection.execute("UPDATE meta SET rules = ?", (text,))
            self._resolution.begin(rules or defaults)
            self._resolution.clusters.replay_all()

        try:
            self._revise("rules", change, rules=written, by=by)
        except BaseException:
            with self._database.reading():
                self._resolution.begin(before)
            raise

    def propose_rules(self, rules: Rules) -> Proposal:
        """What other rules would make of the profiles that there are. Nothing is kept.

        Raises:
            InvalidRequest: shards cannot go by them.
        """
        self._check_order(rules)
        with self._database.rehearsal() as connection:
            before = count_profiles(connection)
            clusters = Resolution(connection, rules).clusters
            clusters.replay_all()
            moved = list(clusters.moved.values())
            examples = [(node.kind, node.value, node.profile_id) for node in moved[:_MOST_SHOWN]]
            return Proposal(before, count_profiles(connection), len(moved), examples)

    def _check_order(self, rules: Rules | None) -> None:
        if rules is not None and rules.order == "arrival" and self._resolution.shard is not None:
            raise InvalidRequest(f"The identity has several graphs: {NO_ARRIVAL}.", code="invalid_rules")

    def _cut(self, connection: sqlite3.Connection, bonds: list[int]) -> None:
        _cut(connection, self._resolution.bonds, self._resolution.clusters, bonds, self._clock())

    def _revise(self, action: str, change: Callable[[sqlite3.Connection], None], **detail: Any) -> None:
        try:
            with self._database.transaction() as connection:
                change(connection)
                self._resolution.finish()
                became = self._resolution.became(_by_hand(self._clock()), self._clock())
                write_audit(connection, self._clock(), action, **detail)
                if became:
                    self._outbox.write(connection, [encode_record(each) for each in became])
        except BaseException:
            self._resolution.rollback()
            raise
        self._resolution.commit()
        if became:
            self._outbox.commit()


def check_one_collection(one: Id, other: Id) -> None:
    """
    Raises:
        InvalidRequest: one is a person's id and the other an account's, which are linked and never one profile.
    """
    if (one[0] in ACCOUNT_TYPES) != (other[0] in ACCOUNT_TYPES):
        raise InvalidRequest(
            "One of the ids is of a person, the other of an account: they cannot be one profile.",
            hint="A group call links them.",
            code="nothing_to_join",
        )


def _cut(connection: sqlite3.Connection, known: Bonds, clusters: Clusters, bonds: Iterable[int], at: int) -> set[int]:
    """Undo bonds and work out anew what they held together; returns the nodes that they named.

    Raises:
        NotFound: there is no such bond.
    """
    touched: set[int] = set()
    for bond in bonds:
        row = connection.execute("SELECT nodes FROM bond WHERE bond = ?", (bond,)).fetchone()
        if row is None:
            raise NotFound(f"There is no bond {bond}.", hint="`segment-do profile history` shows those there are.")
        known.cut(row[0], at)
        touched.update(nodes_of(row[0]))
    clusters.replay(touched)
    return touched


def _bonds_across(bonds: Bonds, inside: set[int], taken: set[int]) -> list[int]:
    """The bonds that name ids on both sides of a split: of those in a profile, and of those that are taken out of it."""
    return [
        number
        for number, key, *_rest in bonds.rows(inside)
        if taken.intersection(named := nodes_of(key)) and not taken.issuperset(named)
    ]


def _join_by_hand(bonds: Bonds, clusters: Clusters, nodes: Sequence[Node], record: Record) -> None:
    """Make these ids one profile, whatever the limits say.

    Raises:
        InvalidRequest: there is nothing to join.
    """
    if len(nodes) < 2:
        raise InvalidRequest("Two different ids are needed.", code="nothing_to_join")
    changed = bonds.stage(nodes, record, "manual", 2**63)
    if changed != "known":
        clusters.join(nodes, record.timestamp, record.message_id, forced=True, news=changed == "new")


def _by_hand(now: int) -> Record:
    """Stands for the event, where a person did something."""
    return Record(f"manual-{now}", "manual", "", None, None, None, now, now, None, None, None, b"{}")
