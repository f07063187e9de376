"""The one connection to an identity's SQLite file, and what its errors mean.

Every change runs in :meth:`Database.transaction`: BEGIN IMMEDIATE, the epoch is still ours, COMMIT with a
sync. What an error leaves behind is never guessed at: after a full disk the connection goes on, after any
other failure every later call is refused and the owner has to open the graph again, because a sync that
failed once must not be believed when it succeeds the second time.

Exactly one connection a file, in exclusive mode. SQLite before 3.51.3 can lose commits when two connections
share a WAL file, and many a Python is built with an older one. Exclusive mode also keeps the WAL index in
memory, and makes a second opener fail even if it got past the folder's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segment_do.errors import CorruptData, OwnershipLost, SegmentDoError, SettingsError, StorageFailed
from segment_do.home import sync_directory

__all__ = ["Database"]

SCHEMA_VERSION = 9
PAGE_BYTES = 4096
SMALL_PAGE_BYTES = 1024
"""Of a file that one person's facts go into: an empty one is a page a table and index."""
CACHE_KIBIBYTES = 16 * 1024
MAPPED_BYTES = 2**31
"""Of the file, read through the kernel's own cache instead of being copied into ours, which then holds what is being changed.
SQLite maps no more than this. A disk that fails while such a page is read ends the process, as with runs of message keys."""
HEAP_BYTES = 256 * 2**20
"""All graphs of a process together: beyond it a page that is read takes the place of another one of its own file."""
CHECKPOINT_PAGES = 4096
"""WAL size at which a commit also moves it into the file: 16 MB. Outbox pages that were written and freed
meanwhile are moved once instead of each time."""
WAL_KEPT_BYTES = 64 * 2**20
"""After one very large transaction the WAL file is cut back to this."""


class Database:
    """Open with the identity's name; raises the epoch. ``now``: microseconds, kept as ``born`` where the file is new. ``small``: it is to hold little.

    Raises:
        OwnershipLost: another connection has the file.
        StorageFailed: the disk is full or fails.
        CorruptData: this is not an intact graph.
        SettingsError: the folder belongs to another identity, or to a newer version of the platform.
    """

    def __init__(self, path: Path, identity: str, now: int, *, small: bool = False) -> None:
        self._fatal: SegmentDoError | None = None
        self.epoch = 0
        self.born = now // 1_000_000
        fresh = not path.exists()
        try:
            self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _translated(error) from error
        try:
            self._prepare(identity, path, SMALL_PAGE_BYTES if small else PAGE_BYTES)
            if fresh:
                sync_directory(path.parent)
        except sqlite3.Error as error:
            self.connection.close()
            raise _translated(error) from error
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, identity: str, path: Path, page_bytes: int) -> None:
        execute = self.connection.execute
        execute(f"PRAGMA page_size = {page_bytes}")
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA secure_delete = OFF")
        execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        execute(f"PRAGMA soft_heap_limit = {HEAP_BYTES}")
        execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 0:
            self.connection.executescript(Path(__file__).with_name("schema.sql").read_text())
        elif version != SCHEMA_VERSION:
            raise SettingsError(
                f"{path} was written by another version of the platform (schema {version}, not {SCHEMA_VERSION}).",
                hint="Use that version, or begin anew: layouts may change before 1.0, and are not carried over.",
            )
        name = identity.encode("utf-8", "surrogatepass")
        execute("BEGIN IMMEDIATE")
        execute(
            "INSERT INTO meta (one, identity, born, epoch) VALUES (1, ?, ?, 0) ON CONFLICT DO NOTHING",
            (name, self.born),
        )
        owner, self.born, epoch = execute("SELECT identity, born, epoch FROM meta").fetchone()
        if owner != name:
            execute("ROLLBACK")
            raise SettingsError(
                f"{path.parent} belongs to another identity.", hint="One folder holds one identity; give each its own."
            )
        execute("UPDATE meta SET epoch = epoch + 1")
        execute("COMMIT")
        self.epoch = epoch + 1

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, synced when it returns. Whatever is raised inside undoes it.

        Raises:
            OwnershipLost: the epoch is no longer ours; every later call raises the same.
            StorageFailed: nothing was stored.
            CorruptData: SQLite found the file damaged.
        """
        connection = self._usable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            (epoch,) = connection.execute("SELECT epoch FROM meta").fetchone()
            if epoch != self.epoch:
                self._fatal = OwnershipLost(
                    f"Epoch {epoch} has replaced this activation's {self.epoch}.",
                    hint="Another activation owns the graph; this one must stop.",
                )
                raise self._fatal  # noqa: TRY301  # undone below like any other failure
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = _translated(error)
            if _primary_code(error) != sqlite3.SQLITE_FULL:
                self._fatal = failure
            self._undo()
            raise failure from error
        except BaseException:
            self._undo()
            raise

    @contextmanager
    def rehearsal(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is undone at its end: to see what would come of something.

        Raises:
            StorageFailed, CorruptData, OwnershipLost: as in :meth:`transaction`.
        """
        connection = self._usable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            self._undo()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Committed state only: the one thread that uses the graph is outside any transaction here.

        Raises:
            StorageFailed, CorruptData, OwnershipLost: as in :meth:`transaction`.
        """
        connection = self._usable()
        try:
            yield connection
        except sqlite3.Error as error:
            raise _translated(error) from error

    @property
    def failed(self) -> bool:
        """Whether every call is refused from here on: the file has to be opened again."""
        return self._fatal is not None

    def close(self) -> None:
        """Close the connection. A WAL that cannot be moved into the file stays, and is read at the next open."""
        self.connection.close()

    def _usable(self) -> sqlite3.Connection:
        if self._fatal is not None:
            raise self._fatal
        return self.connection

    def _undo(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._fatal = self._fatal or _translated(error)


def _primary_code(error: sqlite3.Error) -> int:
    # Extended codes carry the primary one in the low byte. Misuse found by Python itself has none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _translated(error: sqlite3.Error) -> SegmentDoError:
    code = _primary_code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return OwnershipLost("Another connection has the graph's file.", hint="It goes on; this one must not write.")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptData(
            f"The graph's file is damaged: {error}.", hint="Restore the identity's folder from a backup."
        )
    if code == sqlite3.SQLITE_FULL:
        return StorageFailed("The disk is full: nothing of the batch was stored.", hint="Free some space.")
    return StorageFailed(
        f"The graph's file failed ({getattr(error, 'sqlite_errorname', 'SQLITE_ERROR')}): nothing of it was stored.",
        hint="Open the graph again once the disk is well.",
    )
