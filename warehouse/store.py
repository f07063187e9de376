"""The warehouse as its actor drives it: take log frames, commit them, answer SQL over both. No Ray here.

Rows that were taken but are not committed are the *tail*. A query sees one moment: the files of the last commit and
the tail behind it. A commit writes beside the event loop; when it is done, files and tail change in one step of the
loop, so no query meets a row twice or misses one, whenever it comes.

The caller bounds the tail: it stops calling :meth:`WarehouseStore.take` while ``pending_bytes`` is above its bound
(``commit_bytes`` and some; the log keeps the rest) and commits when ``pending_bytes`` or ``oldest_pending_age`` says
so. One call of ``take`` should carry at most a few megabytes of frames: it runs in the event loop, about 5 µs an
event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from segment_do.computed import PastPart, PastWanted
from segment_do.errors import NotReady, StorageFailed
from segment_do.settings import WarehouseSettings
from warehouse.catalogue import Catalogue
from warehouse.columns import Frame, rows_of
from warehouse.engine import Engine, View
from warehouse.maintenance import Maintenance, Report
from warehouse.past_events import past_events_sql, past_part
from warehouse.schema import TABLES, TableName
from warehouse.snapshot import Snapshot
from warehouse.views import literal
from warehouse.writer import Writer

__all__ = ["WarehouseStore"]

_REJECTED = """
SELECT received_at AS "receivedAt", source_id AS "sourceId", identity, code, message, type,
       message_id AS "messageId", "index", payload
FROM rejected ORDER BY "offset" DESC
"""


class _Piece(NamedTuple):
    """The rows of one ``take``: the log range ``[lo, hi)``."""

    lo: int
    hi: int
    taken_at: float
    rows: dict[TableName, pa.Table]
    ids: dict[TableName, int]
    size_bytes: int


class WarehouseStore:
    """One warehouse. Belongs to one event loop; only one process can have it open."""

    def __init__(
        self,
        writer: Writer,
        catalogue: Catalogue,
        settings: WarehouseSettings,
        seen: tuple[int, dict[TableName, Snapshot]],
        threads: ThreadPoolExecutor,
        clock: Callable[[], float],
        grace_seconds: float,
    ) -> None:
        self._writer = writer
        self._catalogue = catalogue
        self._seen, self._snapshots = seen
        self._threads = threads
        self._clock = clock
        self._engine = Engine(settings)
        self._maintenance = Maintenance(writer, grace_seconds)
        self._pieces: list[_Piece] = []
        self._next_id = 0
        self._commit: asyncio.Future[int] | None = None
        self._last_commit_seconds: float | None = None
        self._last_error: str | None = None
        self._closed = False
        self._warming: asyncio.Task[None] | None = None
        self.committed = self._snapshots["events"].mark
        """Log offset after the last committed event: the log has to be read from here after a start."""
        self.received = self.committed
        """Log offset after the last event taken."""

    @classmethod
    async def open(
        cls,
        directory: Path,
        settings: WarehouseSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        grace_seconds: float = 900.0,
    ) -> WarehouseStore:
        """Open the warehouse in ``directory``; it is made at the first start.

        ``clock`` gives the seconds in which ``oldest_pending_age`` counts. ``grace_seconds`` is how long a replaced
        file stays on disk for the queries that may be reading it.

        Raises:
            OwnershipLost: another process has it open.
            SettingsError: it was made in another place.
            CorruptData: the property catalogue cannot be read.
        """
        loop = asyncio.get_running_loop()
        # Commits and maintenance block, each in a thread; the writer lets one of them at the tables at a time.
        threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="warehouse")
        writer: Writer | None = None
        try:
            writer = await loop.run_in_executor(threads, Writer.open, directory, settings)
            catalogue = Catalogue(writer.directory / "columns.json")
            seen = await loop.run_in_executor(threads, writer.snapshots)
        except BaseException:
            if writer is not None:
                writer.close()
            threads.shutdown()
            raise
        store = cls(writer, catalogue, settings, seen, threads, clock, grace_seconds)
        store._warming = asyncio.ensure_future(store._engine.warm())
        return store

    def take(self, frames: Iterable[Frame]) -> None:
        """Decode frames into the tail. They come in log order; what lies below ``received`` is passed over.

        Raises:
            CorruptData: a frame cannot be decoded, or events are missing between ``received`` and the next frame.
                Nothing of the call was taken.
        """
        lo = self.received
        rows = rows_of(frames, lo)
        tables = rows.tables()
        count = sum(table.num_rows for table in tables.values())
        if count == 0:
            return
        self._catalogue.observe("properties", rows.properties)
        self._catalogue.observe("traits", rows.traits)
        ids: dict[TableName, int] = {name: self._next_id + number for number, name in enumerate(tables, 1)}
        self._next_id += len(tables)
        size = sum(table.nbytes for table in tables.values())
        self._pieces.append(self._above_marks(_Piece(lo, lo + count, self._clock(), tables, ids, size)))
        self.received = lo + count

    @property
    def pending_events(self) -> int:
        """Events in the tail."""
        return self.received - self.committed

    @property
    def pending_bytes(self) -> int:
        """Memory that the tail's rows take."""
        return sum(piece.size_bytes for piece in self._pieces)

    def oldest_pending_age(self, now: float | None = None) -> float:
        """Seconds since the oldest event of the tail was taken; 0.0 when there is none. ``now`` is the clock's."""
        if not self._pieces:
            return 0.0
        return (self._clock() if now is None else now) - self._pieces[0].taken_at

    async def commit(self) -> int:
        """Commit the tail as it is now; ``take`` may go on meanwhile. Returns the new ``committed``.

        A call while another runs waits for that one and then commits what came since. A caller that is cancelled
        leaves the commit running.

        Raises:
            StorageFailed: the disk or the catalog failed. The tail is kept; call again.
            OwnershipLost, CorruptData: as :meth:`Writer.commit`; the process should stop.
        """
        while self._commit is not None:
            await asyncio.wait([self._commit])
        if not self._pieces:
            return self.committed
        self._check_open()
        self._commit = asyncio.ensure_future(self._commit_pieces(list(self._pieces)))
        self._commit.add_done_callback(self._commit_ended)
        return await asyncio.shield(self._commit)

    def _commit_ended(self, commit: asyncio.Future[int]) -> None:
        self._commit = None
        if not commit.cancelled():
            error = commit.exception()  # also says that it was looked at, when the caller has gone
            self._last_error = None if error is None else str(error)

    async def _commit_pieces(self, pieces: list[_Piece]) -> int:
        started = self._clock()
        await self._in_thread(self._write, pieces, self._catalogue.encoded())
        await self._look_again()
        self._last_commit_seconds = self._clock() - started
        return self.committed

    def _write(self, pieces: list[_Piece], columns: tuple[int, bytes] | None) -> None:
        if columns is not None:
            try:
                self._catalogue.save(columns)
            except OSError as error:
                raise StorageFailed(f"The property catalogue could not be written: {error}") from error
        rows = {name: pa.concat_tables([piece.rows[name] for piece in pieces]) for name in TABLES}
        self._writer.commit(rows, pieces[-1].hi)

    async def _look_again(self) -> None:
        """From here on queries see the tables as they are now, and the tail behind them, in one step of the loop."""
        ticket, snapshots = await self._in_thread(self._writer.snapshots)
        if ticket < self._seen:
            return  # looked at before what is shown already
        self._seen = ticket
        self._snapshots = snapshots
        self.committed = snapshots["events"].mark
        self._pieces = [self._above_marks(piece) for piece in self._pieces if piece.hi > self.committed]

    def _above_marks(self, piece: _Piece) -> _Piece:
        """The piece without rows that their table holds: after a crash between two tables, one is ahead."""
        for name in TABLES:
            mark = self._snapshots[name].mark
            if piece.lo < mark:
                rows = piece.rows[name]
                rows = rows.filter(pc.greater_equal(rows["offset"], pa.scalar(mark)))
                self._next_id += 1
                piece = piece._replace(rows={**piece.rows, name: rows}, ids={**piece.ids, name: self._next_id})
        return piece

    async def maintain(self, now: float | None = None) -> Report:
        """One bounded round of maintenance: compaction, expiry, deletion. ``now`` is seconds since the epoch.

        Raises:
            StorageFailed: the disk or the catalog failed. Nothing is lost; call again later.
        """
        self._check_open()
        try:
            report: Report = await self._in_thread(self._maintenance.run, time.time() if now is None else now)
        finally:
            await self._look_again()
        return report

    async def sql(self, sql: str) -> dict[str, Any]:
        """Answer SQL over the committed files and the tail.

        Returns ``{"columns": [name], "types": [type], "rows": [[value]], "truncated": bool}``, JSON-ready.

        Raises:
            QueryRefused, QueryTimedOut, Busy: as :meth:`Engine.run`.
        """
        self._check_open()
        return await self._engine.run(sql, self._view())

    async def past_events(self, wanted: PastWanted) -> PastPart:
        """Events of a part of the log, which has to be taken already; opens only the files that can hold them.

        Raises:
            NotReady: the log is not taken up to ``wanted.end`` yet.
            QueryRefused, QueryTimedOut, Busy: as :meth:`Engine.run`.
        """
        self._check_open()
        if self.received < wanted.end:
            raise NotReady("The warehouse has not taken the log so far yet.", retry_after=1)
        view = self._view()
        files = [
            file.path for file in self._snapshots["events"].files if file.may_hold("events", wanted.begin, wanted.end)
        ]
        found = await self._engine.run(past_events_sql(wanted), view._replace(files={**view.files, "events": files}))
        return past_part(wanted, found["rows"], truncated=found["truncated"])

    def _view(self) -> View:
        return View(
            files={name: [file.path for file in self._snapshots[name].files] for name in TABLES},
            tail={
                name: [(piece.ids[name], piece.rows[name]) for piece in self._pieces if piece.rows[name].num_rows]
                for name in TABLES
            },
            catalogue_version=self._catalogue.version,
            catalogue={"properties": self._catalogue.types("properties"), "traits": self._catalogue.types("traits")},
        )

    async def contains(self, message_id: str) -> bool:
        """Whether SQL sees the event: committed or in the tail, set aside or not."""
        for piece in reversed(self._pieces):
            for rows in (piece.rows["events"], piece.rows["rejected"]):
                if pc.index(rows["message_id"], pa.scalar(message_id, pa.large_string())).as_py() >= 0:
                    return True
        quoted = literal(message_id)
        found = await self.sql(
            f"(SELECT 1 FROM events WHERE message_id = {quoted} LIMIT 1)"  # noqa: S608  # quoted
            f" UNION ALL (SELECT 1 FROM rejected WHERE message_id = {quoted} LIMIT 1)"
        )
        return bool(found["rows"])

    async def rejected(self, limit: int) -> list[dict[str, Any]]:
        """The events set aside last, newest first: ``receivedAt``, ``sourceId``, ``identity``, ``code``, ``message``,
        ``type``, ``messageId``, ``index``, ``payload``."""
        found = await self.sql(f"{_REJECTED} LIMIT {max(0, int(limit))}")
        return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    def status(self) -> dict[str, Any]:
        """Where it stands, JSON-ready."""
        return {
            "committed": self.committed,
            "received": self.received,
            "pendingEvents": self.pending_events,
            "pendingBytes": self.pending_bytes,
            "oldestPendingSeconds": round(self.oldest_pending_age(), 3),
            "lastCommitSeconds": self._last_commit_seconds,
            "lastError": self._last_error,
            "tables": {
                name: {
                    "rows": snapshot.rows,
                    "files": len(snapshot.files),
                    "bytes": sum(file.size_bytes for file in snapshot.files),
                }
                for name, snapshot in self._snapshots.items()
            },
            "properties": len(self._catalogue.types("properties")),
            "traits": len(self._catalogue.types("traits")),
        }

    async def close(self) -> None:
        """Wait for what is being written and give the warehouse back. The tail is not committed: the log has it."""
        if self._closed:
            return
        self._closed = True
        if self._warming is not None:
            await asyncio.wait([self._warming])
        await self._engine.close()
        while self._commit is not None:
            await asyncio.wait([self._commit])
        await self._in_thread(self._writer.close)
        self._threads.shutdown()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("The warehouse is closing.")
