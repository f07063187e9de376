"""Exactly once into Iceberg, with one integer a table.

A commit takes the rows of the log range ``[committed, hi)``. Each table carries its own mark, the log offset after the
last event that it holds: a property and an entry in the snapshot's summary, both set in the transaction that appends
the rows. Several tables are several transactions, so a crash between them leaves the others ahead of ``events``; when the
range comes again, rows below a table's own mark are left out. ``events`` comes last, and its mark is what counts as
committed. At the start, and after an outcome that is not known, the tables are believed and not this process.

Everything that the catalog comes to name is on disk before (``durable_io``). What a crash leaves behind before that
point is a few files that nothing names; maintenance deletes them.

One writer: the lock file is held while the writer is open, and pyiceberg is told not to repeat a commit that lost to
another, because a repeated append would store its rows twice.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from segment_do.errors import CorruptData, NotReady, OwnershipLost, SegmentDoError, StorageFailed
from segment_do.settings import WarehouseSettings
from warehouse.durable_io import make_directories
from warehouse.schema import OFFSET, TABLES, TableName
from warehouse.snapshot import Manifests, Snapshot, mark_of
from warehouse.tables import open_catalog, open_table

__all__ = ["Writer"]


class Writer:
    """The one writer of a warehouse. Its methods block; one of them runs at a time, in any thread."""

    def __init__(self, directory: Path, settings: WarehouseSettings, catalog: SqlCatalog, lock: int) -> None:
        self.directory = directory
        self.settings = settings
        self.manifests = Manifests()
        self.tables: dict[TableName, Table] = {name: open_table(catalog, directory, name) for name in TABLES}
        self._catalog = catalog
        self._lock = lock
        self._unknown: set[TableName] = set()
        """Tables whose last outcome could not be looked up; nothing is written before it is."""
        self._looks = 0
        self._turn = threading.Lock()

    @classmethod
    def open(cls, directory: Path, settings: WarehouseSettings) -> Writer:
        """Take the warehouse in ``directory``; it is made at the first start.

        Raises:
            OwnershipLost: another process has it open.
            SettingsError: it was made in another place.
        """
        directory = directory.absolute()
        make_directories(str(directory))
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        catalog = None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            catalog = open_catalog(directory)
            return cls(directory, settings, catalog, lock)
        except BaseException as error:
            if catalog is not None:
                catalog.close()
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise OwnershipLost(f"Another process writes the warehouse in {directory}.") from error
            raise

    @property
    def committed(self) -> int:
        """Log offset after the last event that is committed: where the log has to be read from."""
        return mark_of(self.tables["events"])

    def commit(self, rows: Mapping[TableName, pa.Table], hi: int) -> int:
        """Store the rows of the log range ``[committed, hi)``, and return the new ``committed``, ``hi``.

        ``rows`` holds all rows of the range, by table; a table without any may be missing. Safe to repeat after any
        failure and after any crash, also with other bounds.

        Raises:
            CorruptData: ``hi`` lies below what is committed: this is another log, or one that was set back.
            StorageFailed: the disk or the catalog failed; the next call finds out what it has to do.
            OwnershipLost: somebody else has written to the tables.
        """
        with self._turn:
            if self.closed:
                raise NotReady("The warehouse is closed.")
            for name in tuple(self._unknown):
                self.reload(name)
            if hi < self.committed:
                raise CorruptData(
                    f"The log ends at offset {hi}, but the warehouse holds it up to {self.committed}.",
                    hint="The queue's log is not the one this warehouse was filled from: restore them together.",
                )
            for name in TABLES:
                mark = mark_of(self.tables[name])
                if mark >= hi:
                    continue
                fresh = _from(rows.get(name), mark)
                if fresh is None and name != "events":
                    continue
                self._append(name, fresh, mark, hi)
            return self.committed

    def _append(self, name: TableName, rows: pa.Table | None, mark: int, hi: int) -> None:
        table = self.tables[name]
        try:
            with table.transaction() as transaction:
                if rows is not None:
                    transaction.append(rows, snapshot_properties={OFFSET: str(hi)})
                transaction.set_properties({OFFSET: str(hi)})
        except Exception as error:  # whatever it was, the table knows whether the commit landed
            self.reload(name)
            found = mark_of(self.tables[name])
            if found == hi and not isinstance(error, CommitFailedException):
                return
            if found != mark:
                raise OwnershipLost(
                    f"The table {name} moved from offset {mark} to {found} while this process was its writer."
                ) from error
            raise StorageFailed(f"The table {name} could not be written: {error}") from error

    def reload(self, name: TableName) -> None:
        """Read a table again, as the catalog has it.

        Raises:
            StorageFailed: it cannot be read now.
        """
        self._unknown.add(name)
        try:
            self.tables[name] = open_table(self._catalog, self.directory, name)
        except SegmentDoError:
            raise
        except Exception as error:
            raise StorageFailed(f"The table {name} could not be read: {error}") from error
        self._unknown.discard(name)

    def snapshots(self) -> tuple[int, dict[TableName, Snapshot]]:
        """All tables at one moment, and the moment's number: of two, the higher is the later.

        Raises:
            StorageFailed: their metadata cannot be read now.
        """
        with self._turn:
            self._looks += 1
            try:
                return self._looks, {name: self.manifests.snapshot(table) for name, table in self.tables.items()}
            except OSError as error:
                raise StorageFailed(f"The warehouse's metadata could not be read: {error}") from error

    @property
    def turn(self) -> threading.Lock:
        """The lock under which maintenance changes the tables, so that it never runs beside a commit."""
        return self._turn

    @property
    def closed(self) -> bool:
        """Whether the warehouse was given back. Whoever has the turn looks before writing."""
        return self._lock < 0

    def close(self) -> None:
        """Give the warehouse back. Waits for what is running."""
        with self._turn:
            if not self.closed:
                self._catalog.close()
                os.close(self._lock)
                self._lock = -1


def _from(rows: pa.Table | None, mark: int) -> pa.Table | None:
    """The rows at ``mark`` and above; None when there are none."""
    if rows is None or rows.num_rows == 0:
        return None
    rows = rows.filter(pc.greater_equal(rows["offset"], pa.scalar(mark)))
    return rows if rows.num_rows else None
