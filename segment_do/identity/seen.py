"""Which message ids were accepted before: exact, for at least N days, at a cost that does not grow.

A key is the 128-bit hash of a message id. New keys of a batch go into SQLite as one blob in the batch's own
transaction, and into memory. When many have gathered, a helper thread writes them as a sorted file
(:mod:`.runs`), and one transaction swaps the rows for the file. Files of one day are merged in tiers of
four, so an identity that saw 10 million ids today holds about a dozen; a past day becomes one file. The helper
threads never touch SQLite.

The window is counted in UTC days. A key is filed under the day on which it was applied, and an event received on
day ``d`` is a duplicate when its key lies under day ``d - N`` or later. What counts is thus when an event came in,
not when it is applied: a journal that was left over for weeks is judged by its own days, and may be replayed again
after that. A day's keys are removed when it lies N + 2 days back *and* N + 2 later days hold keys (two of them
for events that waited in a journal). So neither a machine that was off for a month nor a clock that jumped a year
makes the platform forget what it must still refuse.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from segment_do.errors import StorageFailed
from segment_do.events.record import REJECTED, Record
from segment_do.identity.database import Database

if TYPE_CHECKING:
    # numpy stays unloaded until an identity has its first run: 40 MB and 0.1 s that a small one never pays.
    from segment_do.identity.runs import Keys, Run

__all__ = ["DAY_MICROSECONDS", "Seen", "message_keys"]

DAY_MICROSECONDS = 86_400_000_000
RECENT_KEYS = 32_768
"""Keys in memory above which :meth:`Seen.maintain` makes a run of them (about 4 MB, and 10 ms when an identity wakes)."""
OVERDUE_FACTOR = 8
"""At so many times :data:`RECENT_KEYS` a batch waits until keys have gone into a run (about 32 MB)."""
LAG_DAYS = 2
"""An event may wait so long between receipt and batch without the window becoming shorter for it."""
TIER = 4
"""Runs of similar size of the current day at which they are merged."""
_KEY_BYTES = 16
_THOUSAND_KEYS = struct.Struct("16s" * 1_000)


def message_keys(records: Iterable[Record]) -> list[bytes]:
    """16 bytes for each record's message id, whatever its text.

    Rejected records have keys of their own: having set an event aside must not cost the corrected one that comes
    later under the same message id.
    """
    digest = xxhash.xxh3_128_digest
    return [
        digest(record.message_id.encode("utf-8", "surrogatepass"), 1 if record.type == REJECTED else 0)
        for record in records
    ]


class Seen:
    """Keys in memory, in SQLite and in run files. ``sift``, ``write`` and ``commit`` or ``rollback`` make one batch.

    ``probe`` is called with a step's name between writing a file and registering it, and so on, for tests.

    Raises:
        CorruptData: a registered run is missing or damaged.
    """

    def __init__(
        self, folder: Path, database: Database, *, days: int, probe: Callable[[str], None] = lambda step: None
    ) -> None:
        self._folder = folder
        self._database = database
        self._window = days
        self._probe = probe
        self._recent: dict[bytes, int] = {}
        self._recent_days: Counter[int] = Counter()
        self._flushing: dict[bytes, int] = {}
        self._staged: dict[bytes, None] = {}
        self._staged_day = 0
        self._last_row = 0
        self._staged_row = 0
        self._runs: list[Run] = []
        self._next_run = 1
        self._flush: _Job | None = None
        self._merge: _Job | None = None
        self._load()

    def _load(self) -> None:
        with self._database.reading() as connection:
            registered = connection.execute("SELECT id, day, count FROM seen_run ORDER BY id").fetchall()
            rows = connection.execute("SELECT id, day, keys FROM seen_recent ORDER BY id").fetchall()
        # Nearly always those of one day, all in one piece: a quarter of a million keys may be waited for when an identity wakes after a crash.
        for day, its in groupby(rows, key=itemgetter(1)):
            keys = dict.fromkeys(_split(b"".join([row[2] for row in its])), day)
            self._recent = {**self._recent, **keys} if self._recent else keys
            self._recent_days[day] = len(keys)
        if len(self._recent_days) > 1:
            self._recent_days = Counter(self._recent.values())
        self._last_row = rows[-1][0] if rows else 0
        known = {self._path(identifier).name for identifier, _, _ in registered}
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            for path in self._folder.iterdir():
                if path.name not in known:
                    path.unlink()  # written, or merged away, just before a crash
        except OSError as error:
            raise StorageFailed(f"The folder {self._folder} cannot be used: {error.strerror}.") from error
        if registered:
            from segment_do.identity.runs import Run

            self._runs = [Run(self._path(identifier), identifier, day, count) for identifier, day, count in registered]
            self._next_run = registered[-1][0] + 1

    @property
    def held(self) -> int:
        """Keys in memory."""
        return len(self._recent) + len(self._flushing)

    def relieve(self) -> None:
        """Before a batch: when far too many keys are in memory, wait until a run has taken them.

        Raises:
            StorageFailed: it could not be written.
        """
        while len(self._recent) >= OVERDUE_FACTOR * RECENT_KEYS:
            self._finish_flush()
            self._start_flush()
            if self._flush is not None:
                self._flush.wait(1.0)

    def sift(self, keys: Sequence[bytes], *, received_day: int, today: int) -> list[int]:
        """Positions of the keys not seen in the window that ends on ``received_day``; they are staged for
        :meth:`write`.

        A key that occurs twice in a batch counts the first time. Call once per day of receipt within a batch.
        """
        floor = received_day - self._window
        filed = self._filed(keys, floor) if self._runs else ()
        staged, recent, flushing = self._staged, self._recent, self._flushing
        self._staged_day = today
        fresh: list[int] = []
        for position, key in enumerate(keys):
            if key in staged or position in filed:
                continue
            if (key in recent or key in flushing) and max(
                recent.get(key, floor - 1), flushing.get(key, floor - 1)
            ) >= floor:
                continue
            staged[key] = None
            fresh.append(position)
        return fresh

    def _filed(self, keys: Sequence[bytes], floor: int) -> set[int]:
        from segment_do.identity.runs import held

        return held([run for run in self._runs if run.day >= floor], list(keys))

    def write(self, connection: sqlite3.Connection) -> None:
        """Inside the batch's transaction: store what :meth:`sift` staged. Nothing where it is nothing: a shard's step may be letters alone."""
        self._staged_row = self._last_row
        if not self._staged:
            return
        self._staged_row += 1
        connection.execute(
            "INSERT INTO seen_recent (id, day, keys) VALUES (?, ?, ?)",
            (self._staged_row, self._staged_day, b"".join(self._staged)),
        )

    def commit(self) -> None:
        """The batch's transaction is durable."""
        if not self._staged:
            return
        self._recent.update(dict.fromkeys(self._staged, self._staged_day))
        self._recent_days[self._staged_day] += len(self._staged)
        self._last_row = self._staged_row
        self._staged = {}

    def rollback(self) -> None:
        """The batch's transaction is undone, or was never begun."""
        self._staged = {}

    def maintain(self, today: int, budget_seconds: float) -> bool:
        """Do what is due; wait up to ``budget_seconds`` for helper threads. True when nothing is left to do.

        Call it between batches. What it does itself is bounded: sorting out the keys in memory by day, and one
        transaction that deletes their rows.

        Raises:
            StorageFailed: a run could not be written or registered; its keys are safe in SQLite, and the next
                call tries again.
        """
        until = time.monotonic() + budget_seconds
        while True:
            # Flushes come first: they must go on where there is no room on disk for a merge.
            self._finish_flush()
            self._start_flush()
            self._finish_merge()
            self._expire(today)
            self._start_merge(today)
            # A flush ends soon; a merge may outlast many budgets.
            job = self._flush or self._merge
            if job is None:
                return True
            left = until - time.monotonic()
            if left <= 0 or not job.wait(left):
                return False

    def close(self) -> None:
        """Stop the helper threads. Keys they were writing are still in SQLite."""
        for job in (self._flush, self._merge):
            if job is not None:
                job.stop()
        self._flush = self._merge = None
        self._runs = []

    def _start_flush(self) -> None:
        if self._flush is not None or len(self._recent) <= RECENT_KEYS:
            return
        # The day with the most keys. What little belongs to others stays in memory, instead of a file for each.
        day = max(self._recent_days, key=self._recent_days.__getitem__)
        if self._recent_days.pop(day) == len(self._recent):
            self._flushing, self._recent = self._recent, {}
        else:
            self._flushing = {key: its for key, its in self._recent.items() if its == day}
            self._recent = {key: its for key, its in self._recent.items() if its != day}
        keys, path = list(self._flushing), self._new_path()

        def work(stopped: Callable[[], bool]) -> Run:
            from segment_do.identity.runs import Run, sorted_keys, write_run

            return Run(path, int(path.stem), day, write_run(path, day, [sorted_keys(keys)], stopped))

        self._flush = _Job(work, day, last_row=self._last_row, probe=self._probe)

    def _finish_flush(self) -> None:
        job = self._flush
        if job is None or not job.finished:
            return
        try:
            run = job.result()
        except BaseException:
            # The rows are still there, so their keys are recent again.
            self._recent_days[job.day] += len(self._flushing)
            self._recent = {**self._flushing, **self._recent}
            self._flushing, self._flush = {}, None
            raise
        # When this fails the job stays, and the next call registers it: the file must outlive a commit whose
        # outcome is unknown. If it was not registered in the end, the next open removes it.
        with self._database.transaction() as connection:
            self._register(connection, run)
            connection.execute("DELETE FROM seen_recent WHERE day = ? AND id <= ?", (job.day, job.last_row))
        self._runs.append(run)
        self._flushing, self._flush = {}, None
        self._probe("run registered")

    def _start_merge(self, today: int) -> None:
        if self._merge is not None:
            return
        inputs = self._mergeable(today)
        if not inputs:
            return
        path, day = self._new_path(), inputs[0].day

        def work(stopped: Callable[[], bool]) -> Run:
            from segment_do.identity.runs import Run, write_run

            sources: list[Keys] = [(run.primary, run.secondary) for run in inputs]
            return Run(path, int(path.stem), day, write_run(path, day, sources, stopped))

        self._merge = _Job(work, day, inputs=inputs, probe=self._probe)

    def _mergeable(self, today: int) -> list[Run]:
        """Runs to merge next: all of a past day, or a full tier of today, smallest first; else none."""
        tiers: dict[tuple[int, int], list[Run]] = {}
        for run in self._runs:
            tier = 0 if run.day < today else max(0, (run.count // RECENT_KEYS).bit_length() - 1) // 2
            tiers.setdefault((tier, run.day), []).append(run)
        for (_, day), runs in sorted(tiers.items(), key=lambda item: item[0]):
            if len(runs) >= (2 if day < today else TIER):
                return runs
        return []

    def _finish_merge(self) -> None:
        job = self._merge
        if job is None or not job.finished:
            return
        try:
            run = job.result()
        except BaseException:
            self._merge = None
            raise
        with self._database.transaction() as connection:
            self._register(connection, run)
            self._unregister(connection, job.inputs)
        self._runs.append(run)
        self._merge = None
        self._probe("merge registered")
        self._drop(job.inputs)

    def _expire(self, today: int) -> None:
        days = sorted({run.day for run in self._runs} | self._recent_days.keys())
        kept = self._window + LAG_DAYS + 1
        if len(days) <= kept:
            return
        floor = min(today - self._window - LAG_DAYS, days[-kept])
        if days[0] >= floor or any(job is not None and job.day < floor for job in (self._flush, self._merge)):
            return
        old = [run for run in self._runs if run.day < floor]
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM seen_recent WHERE day < ?", (floor,))
            self._unregister(connection, old)
        self._recent = {key: day for key, day in self._recent.items() if day >= floor}
        self._recent_days = Counter(self._recent.values())
        self._probe("day expired")
        self._drop(old)

    def _register(self, connection: sqlite3.Connection, run: Run) -> None:
        connection.execute(
            "INSERT INTO seen_run (id, day, count) VALUES (?, ?, ?)", (run.identifier, run.day, run.count)
        )

    def _unregister(self, connection: sqlite3.Connection, runs: list[Run]) -> None:
        connection.executemany("DELETE FROM seen_run WHERE id = ?", [(run.identifier,) for run in runs])

    def _drop(self, runs: list[Run]) -> None:
        self._runs = [run for run in self._runs if run not in runs]
        handles: list[int] = []
        for run in runs:
            # A failure to unlink is left for the next open, which removes what is not registered.
            with suppress(OSError):
                handles.append(os.open(run.path, os.O_RDONLY))
                run.path.unlink()
        # The last reference to a file frees its pages: 90 ms for 10 million keys. That must not be ours.
        if handles:
            threading.Thread(target=_close_all, args=(handles,), name="seen-drop").start()

    def _new_path(self) -> Path:
        path = self._path(self._next_run)
        self._next_run += 1
        return path

    def _path(self, identifier: int) -> Path:
        return self._folder / f"{identifier}.run"


def _split(joined: bytes) -> list[bytes]:
    """The keys in bytes that join them."""
    whole = len(joined) - len(joined) % _THOUSAND_KEYS.size
    keys = list(chain.from_iterable(_THOUSAND_KEYS.iter_unpack(joined[:whole])))
    return keys + [joined[at : at + _KEY_BYTES] for at in range(whole, len(joined), _KEY_BYTES)]


def _close_all(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


class _Job:
    """A run being written by a thread of its own."""

    def __init__(
        self,
        work: Callable[[Callable[[], bool]], Run],
        day: int,
        *,
        probe: Callable[[str], None],
        last_row: int = 0,
        inputs: Sequence[Run] = (),
    ) -> None:
        self.day = day
        self.last_row = last_row
        self.inputs = list(inputs)
        self._work = work
        self._probe = probe
        self._stop = threading.Event()
        self._run: Run | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="seen-run", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            run = self._work(self._stop.is_set)
            self._probe("run written")
            self._run = run
        except BaseException as failure:  # noqa: BLE001  # carried to the owner's thread, which raises it
            self._failure = failure

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout_seconds: float) -> bool:
        self._thread.join(timeout_seconds)
        return self.finished

    def result(self) -> Run:
        """The run, mapped and checked, not yet registered.

        Raises:
            StorageFailed: the disk is full or failed. No file is left.
        """
        if isinstance(self._failure, OSError):
            raise StorageFailed(
                f"A run of message keys could not be written: {self._failure.strerror}.",
                hint="Its keys are safe in the graph's file; free some space.",
            ) from self._failure
        if self._failure is not None:
            raise self._failure
        assert self._run is not None
        return self._run

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
