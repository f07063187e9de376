"""One identity's graph: everything one agent or application has seen, in one folder.

A batch is one transaction, synced: which events are new, whom they belong to, their traits, and the events
themselves in the outbox. Nothing of it is visible before the commit, in a return value, in the outbox or in a
profile; after it, everything is, whatever is killed. Applying a batch again changes nothing.

A graph is plain Python, used by one thread at a time. It knows of no Ray and waits for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import msgspec

from segment_do.computed import DAY_MICROSECONDS, Definition
from segment_do.errors import CorruptData, InvalidRequest, NotFound, SegmentDoError, StorageFailed
from segment_do.events.record import Record, decode_pack, encode_record
from segment_do.home import sync_directory
from segment_do.identity.about import Trait, links, profile_id_at, trait_details
from segment_do.identity.computations import (
    Computation,
    drop_computation,
    end_filling,
    put_computation,
    read_computations,
)
from segment_do.identity.database import Database
from segment_do.identity.decision import Id
from segment_do.identity.explanation import Edge, Step, history, why
from segment_do.identity.ids import Node
from segment_do.identity.outbox import Outbox, OutboxEntry
from segment_do.identity.ownership import FolderLock
from segment_do.identity.persistent import find_persistent
from segment_do.identity.profile import (
    ExternalId,
    Profile,
    count_profiles,
    profile_nodes,
    profile_of,
    profile_root,
    read_profile,
)
from segment_do.identity.resolution import Resolution
from segment_do.identity.revision import AuditLine, audit, bonds_across, cut, join_by_hand, read_audit
from segment_do.identity.rules import DEFAULT_RULES, Rules, own_rules
from segment_do.identity.seen import Seen, message_keys

__all__ = ["Applied", "Graph", "Proposal"]

_MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Applied:
    """What one call of :meth:`Graph.apply` did; all of it is durable."""

    accepted: int = 0
    """New records, now in the outbox; rejected ones included."""
    duplicates: int = 0
    unusable: int = 0
    """Accepted, but no profile could be changed by them."""
    traits_ignored: int = 0
    """Trait names that found no room in their external id."""
    seq: int | None = None
    """The last outbox entry written, or None."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What other rules would do."""

    profiles_before: int
    profiles_after: int
    ids_moved: int
    """External ids that would belong to another profile, or to one of another name."""
    examples: list[tuple[str, str, str]]
    """Some of them: type, value, profile id then."""


class Graph:
    """Open with :meth:`open`; close, or just die."""

    def __init__(
        self,
        lock: FolderLock,
        database: Database,
        seen: Seen,
        outbox: Outbox,
        clock: Callable[[], int],
        rules: Rules,
    ) -> None:
        self._lock = lock
        self._database = database
        self._seen = seen
        self._outbox = outbox
        self._clock = clock
        with database.reading() as connection:
            self.rules = own_rules(connection) or rules
            self._resolution = Resolution(connection, self.rules)

    @classmethod
    def open(
        cls,
        folder: Path,
        identity: str,
        *,
        dedupe_days: int,
        clock: Callable[[], int],
        rules: Rules = DEFAULT_RULES,
        probe: Callable[[str], None] = lambda step: None,
    ) -> Self:
        """Take the folder, make it if there is none, and raise its epoch.

        ``clock`` gives microseconds since the epoch; it decides which days' message ids may go. ``rules`` hold unless the
        graph has rules of its own. ``probe`` is
        called with a step's name where a crash would be interesting, for tests.

        Raises:
            OwnershipLost: another activation has it.
            StorageFailed: the disk is full or fails.
            CorruptData: what lies there does not check out.
            SettingsError: the folder belongs to another identity, or to a newer version of the platform.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_directory(folder.parent)
        except OSError as error:
            raise StorageFailed(f"The folder {folder} cannot be made: {error.strerror}.") from error
        lock = FolderLock(folder)
        try:
            database = Database(folder / "graph.db", identity, clock())
        except BaseException:
            lock.release()
            raise
        try:
            seen = Seen(folder / "seen", database, days=dedupe_days, probe=probe)
            return cls(lock, database, seen, Outbox(database), clock, rules)
        except BaseException:
            database.close()
            lock.release()
            raise

    @property
    def epoch(self) -> int:
        """Number of this activation; the next one's is higher."""
        return self._database.epoch

    @property
    def born(self) -> int:
        """Second (since the epoch) in which this graph's file was made. Outbox sequences begin anew with it."""
        return self._database.born

    @property
    def outbox_bytes(self) -> int:
        """Packs in the outbox that the queue has not confirmed, bytes."""
        return self._outbox.size_bytes

    def apply(self, packs: list[tuple[bytes, int]], now: int) -> Applied:
        """Apply packs, each with its count of records, as one transaction. ``now``: microseconds since the epoch.

        Records come out in the order given, duplicates left out, each with ``profile_id`` set.

        Raises:
            StorageFailed: nothing of it was stored. After a full disk the same call may be made again; after any
                other failure the graph must be closed and opened.
            OwnershipLost: another activation owns the graph; close this one.
            CorruptData: a pack, or the graph, does not check out.
        """
        records = _decoded(packs)
        if not records:
            return Applied()
        self._seen.relieve()
        try:
            with self._database.transaction() as connection:
                fresh = self._sift(records, now)
                unusable = ignored = 0
                seq = None
                if fresh:
                    unusable = self._resolution.absorb(fresh)
                    ignored, became = self._resolution.write(now)
                    self._seen.write(connection)
                    seq = self._outbox.write(connection, [encode_record(record) for record in chain(fresh, became)])
        except BaseException:
            self._seen.rollback()
            self._resolution.rollback()
            raise
        if fresh:
            self._seen.commit()
            self._resolution.commit()
            self._outbox.commit()
        return Applied(len(fresh), len(records) - len(fresh), unusable, ignored, seq)

    def outbox(self, max_bytes: int, *, after: int = 0) -> list[OutboxEntry]:
        """Entries not forgotten with ``seq > after``, oldest first, up to ``max_bytes`` but at least one.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        return self._outbox.read(max_bytes, after)

    def forget(self, seq: int) -> None:
        """The queue has every entry up to ``seq`` durably.

        Costs no sync: rows go with the next batch. After a crash before that, entries come again.

        Raises:
            ValueError: ``seq`` was never handed out.
        """
        self._outbox.forget(seq)

    def profile(self, kind: str, value: str) -> Profile | None:
        """The profile that an external id belongs to.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        accepted = self.rules.accepted(kind, value)
        if accepted is None:
            return None
        with self._database.reading() as connection:
            return read_profile(connection, kind, accepted)

    def profile_by_id(self, profile_id: str) -> Profile | None:
        """The profile that a profile id belongs to by now, whatever it became part of.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = find_persistent(connection, profile_id)
            return None if node is None else profile_of(connection, node)

    def find(self, named: Id | str) -> Profile | None:
        """The profile of an external id, (type, value), or of a profile id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        return self.profile_by_id(named) if isinstance(named, str) else self.profile(*named)

    def traits(self, named: Id | str) -> dict[str, Trait] | None:
        """The traits of a profile with where each is from; None where nobody has that id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, named)
            return None if node is None else trait_details(connection, node)

    def links(self, named: Id | str) -> list[list[ExternalId]] | None:
        """The ids of each account of a person, or of each person of an account, at most
        :data:`~segment_do.identity.about.MAX_LINKS`; None where nobody has that id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, named)
            return None if node is None else links(connection, node)

    def profile_id_of(self, kind: str, value: str) -> str | None:
        """The id alone of the profile of an external id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, (kind, value))
            return None if node is None else profile_id_at(connection, node)

    def own_rules(self) -> Rules | None:
        """The rules that this graph was given with :meth:`set_rules`; None where those of the settings hold.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return own_rules(connection)

    def why(self, one: Id, other: Id) -> list[Edge] | None:
        """The shortest chain of events that makes two ids, (type, value), one profile; None where they are not one.

        Raises:
            NotFound: no event carried one of them.
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return why(connection, self.rules, self._node(one).node, self._node(other).node)

    def history(self, kind: str, value: str) -> list[Step]:
        """What made the profile of an id, in the order in which it counts.

        Raises:
            NotFound: no event carried it.
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return history(connection, self.rules, self._node((kind, value)).node)

    def audit(self, limit: int) -> list[AuditLine]:
        """What was changed by hand, the newest first.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return read_audit(connection, limit)

    def unmerge(self, bond: int, by: str) -> Applied:
        """Undo what one event brought together (``Edge.bond``), and make the profiles anew without it.

        Raises:
            NotFound: there is no such bond.
            StorageFailed, CorruptData, OwnershipLost.
        """
        return self._revise("unmerge", lambda connection: self._cut(connection, [bond]), bond=bond, by=by)

    def split(self, ids: list[Id], by: str) -> Applied:
        """Take ids out of their profile, together: undo every bond that holds them to the rest of it.

        Raises:
            NotFound: no event carried one of them.
            InvalidRequest: they are not of one profile.
            StorageFailed, CorruptData, OwnershipLost.
        """
        taken = {self._node(each).node for each in ids}

        def change(connection: sqlite3.Connection) -> None:
            profiles = {profile_root(connection, node) for node in taken}
            if len(profiles) != 1:
                raise InvalidRequest("The ids are of different profiles already.", code="nothing_to_split")
            inside = set(profile_nodes(connection, profiles.pop()))
            self._cut(connection, bonds_across(connection, self._resolution.bonds, inside, taken))

        return self._revise("split", change, ids=ids, by=by)

    def merge(self, one: Id, other: Id, by: str) -> Applied:
        """Make the profiles of two ids one, whatever the limits say.

        Raises:
            NotFound: no event carried one of them.
            InvalidRequest: they are the same id.
            StorageFailed, CorruptData, OwnershipLost.
        """
        nodes = sorted({self._node(one), self._node(other)}, key=lambda node: (self.rules.rank(node.kind), node.value))
        record = self._by_hand()
        return self._revise(
            "merge",
            lambda _connection: join_by_hand(self._resolution.bonds, self._resolution.clusters, nodes, record),
            ids=[one, other],
            by=by,
        )

    def simulate(self, packs: list[tuple[bytes, int]], now: int) -> list[Record]:
        """What applying these would put into the outbox: the events with their profile ids, and what would become of ids and
        of computed values. Nothing is kept.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        records = _decoded(packs)
        try:
            with self._database.rehearsal():
                self._resolution.absorb(records)
                return records + self._resolution.write(now)[1]
        finally:
            self._resolution.rollback()

    def set_rules(self, rules: Rules | None, defaults: Rules, by: str) -> Applied:
        """Give the graph rules of its own, or (None) take them away; every profile is made anew by them.

        Takes time in proportion to what is in the graph.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        before = self.rules
        self.rules = rules or defaults

        def change(connection: sqlite3.Connection) -> None:
            text = None if rules is None else msgspec.json.encode(rules).decode()
            connection.execute("UPDATE meta SET rules = ?", (text,))
            self._resolution = Resolution(connection, self.rules)
            self._resolution.clusters.replay_all()

        try:
            return self._revise("rules", change, rules=None if rules is None else msgspec.to_builtins(rules), by=by)
        except BaseException:
            self.rules = before
            with self._database.reading() as connection:
                self._resolution = Resolution(connection, before)
            raise

    def propose_rules(self, rules: Rules) -> Proposal:
        """What other rules would make of the profiles that there are. Nothing is kept.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.rehearsal() as connection:
            before = count_profiles(connection)
            clusters = Resolution(connection, rules).clusters
            clusters.replay_all()
            moved = list(clusters.moved.values())
            examples = [(node.kind, node.value, node.profile_id) for node in moved[:_MOST_SHOWN]]
            return Proposal(before, count_profiles(connection), len(moved), examples)

    def computations(self) -> list[Computation]:
        """Computed traits and audiences, traits first, each by key.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return read_computations(connection)

    def set_computation(self, definition: Definition, by: str, *, backfill: bool = False) -> None:
        """Add a computed trait or an audience, or put it in the place of the one with its key.

        It counts events from now on. With ``backfill`` nothing is told of its values until :meth:`backfill` has counted those of
        before. Profiles that it concerns at once are looked at by :meth:`maintain`.

        Raises:
            InvalidRequest: it does not go with the others, or there are too many (``invalid_computation``).
            StorageFailed, CorruptData, OwnershipLost.
        """
        now = self._clock()
        with self._database.transaction() as connection:
            put_computation(connection, definition, now, filling=backfill)
            told = msgspec.to_builtins(definition)
            audit(connection, now, "computation", definition=told, backfill=backfill, by=by)
        self._resolution.computed.load()

    def delete_computation(self, key: str, by: str) -> None:
        """Take a computed trait or an audience away. Nothing more is told of it; what it counted goes in :meth:`maintain`.

        Raises:
            NotFound: there is none of this key.
            InvalidRequest: an audience reads it (``computation_in_use``).
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.transaction() as connection:
            drop_computation(connection, key)
            audit(connection, self._clock(), "computation deleted", key=key, by=by)
        self._resolution.computed.load()

    def backfill(self, key: str, packs: list[tuple[bytes, int]], *, position: int, last: bool = False) -> int:
        """Count events of before a definition, for it alone; returns how many counted.

        Events are given in one order, in any parts; ``position`` grows from part to part and is the caller's own (a log's offset). A
        part up to a position that was counted before changes nothing, so a caller that died goes on after ``Computation.filled``, or
        begins anew. Events that the definition counted as they came are left out. After the ``last`` part :meth:`maintain` tells of the
        values.

        Raises:
            NotFound: there is no such computation.
            InvalidRequest: it was set without ``backfill`` (``not_filling``).
            StorageFailed, CorruptData, OwnershipLost.
        """
        computed = self._resolution.computed
        found = next((each for each in self.computations() if each.definition.key == key), None)
        if found is None:
            raise NotFound(f"There is no computation {key!r}.")
        if position <= found.filled:
            return 0
        if not found.filling:
            raise InvalidRequest(f"The computation {key!r} is not being filled.", code="not_filling")
        records = _decoded(packs)
        try:
            with self._database.transaction() as connection:
                counted = self._resolution.fill(found, records, self._clock())
                connection.execute("UPDATE computation SET filled = ? WHERE number = ?", (position, found.number))
                if last:
                    end_filling(connection, found)
        except BaseException:
            computed.clear()
            raise
        computed.load()
        return counted

    def maintain(self, budget_seconds: float = 0.0) -> bool:
        """Between batches: move message keys into files, merge and expire those; look at some profiles whose computed values another
        day, or another definition, may have changed. True when nothing is left to do.

        Heavy work is a helper thread's; with a budget, waits for it, and goes on looking at profiles, up to so long.

        Raises:
            StorageFailed, CorruptData, OwnershipLost: as in :meth:`apply`.
        """
        swept = True
        if self._resolution.computed.is_due(self._clock()):
            until = time.monotonic() + budget_seconds
            swept = self._sweep()
            while not swept and time.monotonic() < until:
                swept = self._sweep()
        return self._seen.maintain(self._today(), budget_seconds) and swept

    def close(self) -> None:
        """Give the folder up. What was acknowledged is durable already; this only saves work at the next open."""
        try:
            # On a full disk, or for an owner that has lost: entries come again, which the queue expects.
            with suppress(SegmentDoError):
                self._outbox.flush()
            self._seen.close()
        finally:
            try:
                self._database.close()
            finally:
                self._lock.release()

    def _number(self, connection: sqlite3.Connection, named: Id | str) -> int | None:
        if isinstance(named, str):
            return find_persistent(connection, named)
        found = self._resolution.node(*named)
        return None if found is None else found.node

    def _node(self, given: Id) -> Node:
        found = self._resolution.node(*given)
        if found is None:
            raise NotFound(f"No event carried the {given[0]} {given[1]!r}.")
        return found

    def _by_hand(self) -> Record:
        now = self._clock()
        return Record(f"manual-{now}", "manual", "", None, None, None, now, now, None, None, None, b"{}")

    def _cut(self, connection: sqlite3.Connection, bonds: list[int]) -> None:
        cut(connection, self._resolution.clusters, bonds, self._clock())

    def _revise(self, action: str, change: Callable[[sqlite3.Connection], None], **detail: Any) -> Applied:
        """One change by hand, its line in the audit, and what became of ids in the outbox: one transaction."""
        try:
            with self._database.transaction() as connection:
                change(connection)
                self._resolution.finish()
                became = self._resolution.became(self._by_hand(), self._clock())
                audit(connection, self._clock(), action, **detail)
                seq = self._outbox.write(connection, [encode_record(each) for each in became]) if became else None
        except BaseException:
            self._resolution.rollback()
            raise
        self._resolution.commit()
        if became:
            self._outbox.commit()
        return Applied(seq=seq)

    def _sweep(self) -> bool:
        """One step, in a transaction of its own; whether it was the last."""
        with self._database.transaction() as connection:
            told, done = self._resolution.computed.sweep(self._clock())
            if told:
                self._outbox.write(connection, [encode_record(each) for each in told])
        if told:
            self._outbox.commit()
        return done

    def _today(self) -> int:
        return self._clock() // DAY_MICROSECONDS

    def _sift(self, records: list[Record], now: int) -> list[Record]:
        keys = message_keys(records)
        today = now // DAY_MICROSECONDS
        # A receipt in the future (a replica's clock is wrong) must not move the window away from today.
        days = {
            received: min(received // DAY_MICROSECONDS, today)
            for received in {record.received_at for record in records}
        }
        if len(set(days.values())) == 1:
            places = self._seen.sift(keys, received_day=next(iter(days.values())), today=today)
            return records if len(places) == len(records) else [records[place] for place in places]
        found: list[int] = []
        for day in sorted(set(days.values())):
            of_day = [place for place, record in enumerate(records) if days[record.received_at] == day]
            fresh = self._seen.sift([keys[place] for place in of_day], received_day=day, today=today)
            found += [of_day[index] for index in fresh]
        return [records[place] for place in sorted(found)]


def _decoded(packs: list[tuple[bytes, int]]) -> list[Record]:
    try:
        if len(packs) == 1:
            return decode_pack(*packs[0])
        return [record for pack, count in packs for record in decode_pack(pack, count)]
    except msgspec.DecodeError as error:
        raise CorruptData(
            "A pack does not hold the records it should.", hint="This is a bug; please report it."
        ) from error
