"""One identity's graph: everything one agent or application has seen, in one folder.

A batch is one transaction, synced: which events are new, whom they belong to, their traits, and the events
themselves in the outbox. Nothing of it is visible before the commit, in a return value, in the outbox or in a
profile; after it, everything is, whatever is killed. Applying a batch again changes nothing.

A graph is plain Python, used by one thread at a time. It knows of no Ray and waits for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

from segment_do.computed import DAY_MICROSECONDS
from segment_do.errors import SegmentDoError, StorageFailed
from segment_do.events.record import Record, encode_record
from segment_do.home import sync_directory
from segment_do.identity.about import Trait, linked, links, profile_id_at, trait_details, trait_history
from segment_do.identity.computations import Computations
from segment_do.identity.database import Database
from segment_do.identity.decision import Id
from segment_do.identity.explanation import Edge, Step, history, why
from segment_do.identity.outbox import Outbox, OutboxEntry
from segment_do.identity.ownership import FolderLock
from segment_do.identity.packs import decode_packs
from segment_do.identity.persistent import find_persistent
from segment_do.identity.profile import (
    ExternalId,
    Profile,
    profile_of,
    read_profile,
)
from segment_do.identity.resolution import Resolution
from segment_do.identity.revisions import Revisions
from segment_do.identity.rules import DEFAULT_RULES, Rules, own_rules
from segment_do.identity.seen import Seen, message_keys
from segment_do.identity.shards import Layout
from segment_do.identity.shards.letters import Envelope
from segment_do.identity.shards.shard import Shard
from segment_do.units import shard_of

__all__ = ["Applied", "Graph"]

_ID_BYTES = 1024
_KEY_BYTES = 128


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
        layout: Layout | None,
        unit: str,
    ) -> None:
        self._lock = lock
        self._database = database
        self._seen = seen
        self._outbox = outbox
        self._clock = clock
        with database.reading() as connection:
            self._resolution = Resolution(connection, own_rules(connection) or rules)
        self.shard = None if layout is None else Shard(database, shard_of(unit), layout, self._resolution)
        """Where the identity is laid out over several graphs."""
        self._resolution.shard = self.shard
        self.revisions = Revisions(database, self._resolution, outbox, clock)
        """What people change by hand."""
        self.computations = Computations(database, self._resolution, clock)
        """Computed traits and audiences."""

    @classmethod
    def open(
        cls,
        folder: Path,
        identity: str,
        *,
        dedupe_days: int,
        clock: Callable[[], int],
        rules: Rules = DEFAULT_RULES,
        layout: Layout | None = None,
        probe: Callable[[str], None] = lambda step: None,
    ) -> Self:
        """Take the folder, make it if there is none, and raise its epoch.

        ``clock`` gives microseconds since the epoch; it decides which days' message ids may go. ``rules`` hold unless the
        graph has rules of its own. Where the identity has several graphs, ``layout`` says how, and ``identity`` is the name of this one
        (:func:`~.shards.unit_name`). ``probe`` is called with a step's name where a crash would be interesting, for tests.

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
            small = layout is not None and layout.granularity == "profile"
            database = Database(folder / "graph.db", identity, clock(), small=small)
        except BaseException:
            lock.release()
            raise
        try:
            seen = Seen(folder / "seen", database, days=dedupe_days, probe=probe)
            return cls(lock, database, seen, Outbox(database), clock, rules, layout, identity)
        except BaseException:
            database.close()
            lock.release()
            raise

    @property
    def epoch(self) -> int:
        """Number of this activation; the next one's is higher."""
        return self._database.epoch

    @property
    def rules(self) -> Rules:
        """The rules that hold: the graph's own, or those it was opened with."""
        return self._resolution.rules

    @property
    def born(self) -> int:
        """Second (since the epoch) in which this graph's file was made. Outbox sequences begin anew with it."""
        return self._database.born

    @property
    def outbox_bytes(self) -> int:
        """Packs in the outbox that the queue has not confirmed, bytes."""
        return self._outbox.size_bytes

    @property
    def letter_bytes(self) -> int:
        """Of a shard: letters that other shards have not confirmed, bytes."""
        return 0 if self.shard is None else self.shard.post.size_bytes

    @property
    def memory_bytes(self) -> int:
        """About what it holds in memory beside pages of its file: ids, and keys of message ids."""
        return self._resolution.held * _ID_BYTES + self._seen.held * _KEY_BYTES

    @property
    def last_seq(self) -> int:
        """``seq`` of the newest outbox entry ever written; 0 when there is none."""
        return self._outbox.last

    @property
    def failed(self) -> bool:
        """Whether its file failed: it has to be closed and opened again."""
        return self._database.failed

    @property
    def sweeping(self) -> bool:
        """Whether :meth:`maintain` has profiles to look at."""
        return self._resolution.computed.is_due(self._clock())

    def apply(self, packs: list[tuple[bytes, int]], now: int, letters: Sequence[Envelope] = ()) -> Applied:
        """Apply packs, each with its count of records, as one transaction. ``now``: microseconds since the epoch.

        Records come out in the order given, duplicates left out, each with ``profile_id`` set. A shard takes in ``letters`` of other shards
        as well, those that it took in before left out, and lets out the events that are applied here.

        Raises:
            StorageFailed: nothing of it was stored. After a full disk the same call may be made again; after any
                other failure the graph must be closed and opened.
            OwnershipLost: another activation owns the graph; close this one.
            CorruptData: a pack, or the graph, does not check out.
        """
        records = decode_packs(packs)
        if not records and not letters:
            return Applied()
        self._seen.relieve()
        unusable = ignored = 0
        seq = None
        try:
            with self._database.transaction() as connection:
                fresh = self._sift(records, now)
                if fresh or letters:
                    self._resolution.prepare()
                    insides = self._resolution.read(fresh)
                    here = fresh
                    if self.shard is not None:
                        here, insides = self.shard.begin(fresh, insides, letters)
                    unusable = self._resolution.absorb(here, insides)
                    ignored = self._resolution.write()
                    if self.shard is None:
                        became = self._resolution.tell(now)
                    else:
                        self.shard.settle()
                        became = self._resolution.tell(now, self.shard.cause)
                        self.shard.end()
                    self._seen.write(connection)
                    out = [encode_record(record) for record in chain(here, became)]
                    seq = self._outbox.write(connection, out) if out else None
        except BaseException:
            self._seen.rollback()
            self._resolution.rollback()
            raise
        if fresh or letters:
            self._seen.commit()
            self._resolution.commit()
            if seq is not None:
                self._outbox.commit()
        return Applied(len(fresh), len(records) - len(fresh), unusable, ignored, seq)

    def bring(self, one: Id, other: Id) -> None:
        """Of a shard: have two ids lie in one shard, as if an event had carried both. Their profiles stay what they are.

        Raises:
            StorageFailed, CorruptData, OwnershipLost: as in :meth:`apply`.
        """
        assert self.shard is not None, "an identity in one graph has all ids in one place"
        try:
            with self._database.transaction():
                self.shard.bring(one, other, self._clock())
                self.shard.end()
        except BaseException:
            self._resolution.rollback()
            raise
        self._resolution.commit()

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

    def trait_history(self, named: Id | str, name: str | None = None) -> dict[str, list[Trait]] | None:
        """The values that the traits of a profile had (or this one of them), the newest first: of each value the last event that set it,
        at most :data:`~segment_do.identity.about.MAX_VALUES` a trait; None where nobody has that id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, named)
            return None if node is None else trait_history(connection, node, name)

    def links(self, named: Id | str) -> list[list[ExternalId]] | None:
        """The ids of each account of a person, or of each person of an account, at most
        :data:`~segment_do.identity.about.MAX_LINKS`; None where nobody has that id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, named)
            return None if node is None else links(connection, node)

    def linked(self, named: Id | str) -> list[Id]:
        """The ids of the accounts of a person, or of the people of an account, wherever they lie.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, named)
            return [] if node is None else linked(connection, node)

    def profile_id_of(self, kind: str, value: str) -> str | None:
        """The id alone of the profile of an external id.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            node = self._number(connection, (kind, value))
            return None if node is None else profile_id_at(connection, node)

    def own_rules(self) -> Rules | None:
        """The rules that this graph was given with :meth:`.Revisions.set_rules`; None where those of the settings hold.

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
            return why(connection, self.rules, self._resolution.known(*one).node, self._resolution.known(*other).node)

    def history(self, kind: str, value: str) -> list[Step]:
        """What made the profile of an id, in the order in which it counts.

        Raises:
            NotFound: no event carried it.
            StorageFailed, CorruptData, OwnershipLost.
        """
        with self._database.reading() as connection:
            return history(connection, self.rules, self._resolution.known(kind, value).node)

    def simulate(self, packs: list[tuple[bytes, int]], now: int) -> list[Record]:
        """What applying these would put into the outbox: the events with their profile ids, and what would become of ids and
        of computed values. Nothing is kept.

        Raises:
            StorageFailed, CorruptData, OwnershipLost.
        """
        records = decode_packs(packs)
        try:
            with self._database.rehearsal():
                self._resolution.prepare()
                self._resolution.absorb(records, self._resolution.read(records))
                self._resolution.write()
                return records + self._resolution.tell(now)
        finally:
            self._resolution.rollback()

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
                if self.shard is not None:
                    self.shard.post.flush()
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
