"""What is durably known about deliveries: cursors, events to try again, dead letters, counters.

Promised: every offset below a destination's cursor was delivered, lies in ``retries``, or lies in ``dead`` (or was
counted as skipped or dropped, at the bounds that say so). A batch's outcome, the moved cursor with its new retries,
dead letters and counters, is one transaction, synced (FULL) before the call returns. Retries and dead letters keep
the event's bytes, so that the log may forget them.

One connection, held exclusively: a second process that opens the file is refused. A transaction is one call in the
connection's thread: it is made whole or not at all, also when its caller is cancelled, and calls follow one another.

Bounds: ``max_dead_letters`` a destination, the oldest go first and are counted in ``dropped``. ``max_retrying`` is
kept by the delivery, which does not start what it might not be able to set aside.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import aiosqlite
import msgspec
from msgspec.structs import astuple

from actors.queue import statements as sql
from segment_do.errors import CorruptData, OwnershipLost, StorageFailed

__all__ = ["Counts", "DeadLetter", "Ledger", "Retry"]

Step = tuple[str, Sequence[Sequence[Any]]]
"""A statement, and the rows it is run for."""
Question = tuple[str, Sequence[Any]]
TRANSACTION = "a transaction"
"""In place of a statement: the parameters are steps, and a question asked after them."""


class Retry(msgspec.Struct, frozen=True):
    """An event that waits for another attempt. Times are microseconds since the epoch."""

    offset: int
    message_id: str
    attempts: int
    """Attempts made so far; 0 for a replayed dead letter."""
    first_failed_at: int
    next_at: int
    last_status: int | None
    last_reason: str
    event: bytes
    """The whole event as JSON."""


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that was given up. ``at`` is microseconds since the epoch."""

    offset: int
    message_id: str
    at: int
    attempts: int
    status: int | None
    response: str
    """Start of the answer's body, at most 4 KB."""
    reason: str
    event: bytes
    """The whole event as JSON."""


class Counts(msgspec.Struct, frozen=True):
    """Counters of one destination."""

    delivered: int = 0
    """Deliveries that were confirmed; an event delivered twice counts twice."""
    skipped: int = 0
    """Offsets the log had forgotten before the cursor reached them."""
    dropped: int = 0
    """Dead letters dropped at the bound."""
    retrying: int = 0
    dead: int = 0


class Ledger:
    """The file. Make it with :meth:`open`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._db = connection

    @classmethod
    async def open(cls, path: str | Path, *, wait_seconds: float = 5.0) -> Ledger:
        """Open the file, making it when it is not there.

        Raises:
            OwnershipLost: another process has it, also after ``wait_seconds``.
            StorageFailed: it cannot be made, read or written.
            CorruptData: it is not a ledger, or a newer version's.
        """
        try:
            # Ours alone to read. Never opened here when it is there: closing it would release SQLite's own locks.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StorageFailed(f"The ledger of deliveries cannot be made: {error.strerror}.") from error
        try:
            db = await aiosqlite.connect(path, isolation_level=None, timeout=wait_seconds, factory=_Connection)
        except sqlite3.Error as error:
            raise _named(error) from error
        try:
            await _prepare(db)
        except sqlite3.Error as error:
            await db.close()
            raise _named(error) from error
        except BaseException:
            await db.close()
            raise
        return cls(db)

    async def close(self) -> None:
        """Finish what has begun, then close the file."""
        await self._db.close()

    # Cursors

    async def cursors(self) -> dict[str, int]:
        """Every consumer's cursor: the offset it reads next. The log is needed from the lowest on."""
        return dict(await self._rows(sql.CURSORS))

    async def ensure_cursor(self, consumer: str, offset: int) -> int:
        """The consumer's cursor, which becomes ``offset`` when it has none."""
        rows = await self._transact([(sql.FIRST_CURSOR, [(consumer, offset)])], (sql.CURSOR_OF, (consumer,)))
        return int(rows[0][0])

    async def move_cursor(self, consumer: str, offset: int) -> None:
        """Set a cursor, forwards or back."""
        await self._transact([(sql.SET_CURSOR, [(consumer, offset)])])

    # Outcomes, each one transaction

    async def passed(
        self,
        destination: str,
        start: int,
        end: int,
        *,
        delivered: int,
        retries: Sequence[Retry],
        dead: Sequence[DeadLetter],
        max_dead_letters: int,
    ) -> Counts:
        """The cursor moved from ``start`` to ``end``, and this became of the events between.

        What an earlier pass left there (the cursor was moved back for a replay) is replaced.
        """
        between = [(destination, start, end)]
        return await self._counted(
            destination,
            [
                (sql.RETRIES_BETWEEN_GONE, between),
                (sql.DEAD_BETWEEN_GONE, between),
                (sql.ADD_RETRY, [(destination, *astuple(row)) for row in retries]),
                (sql.ADD_DEAD, [(destination, *astuple(row)) for row in dead]),
                *_bounded(destination, max_dead_letters, len(dead)),
                (sql.ADD_DELIVERED, [(delivered, destination)]),
                (sql.SET_CURSOR, [(destination, end)]),
            ],
        )

    async def retried(
        self,
        destination: str,
        *,
        delivered: Sequence[int],
        again: Sequence[Retry],
        dead: Sequence[DeadLetter],
        max_dead_letters: int,
    ) -> Counts:
        """What became of events taken from :meth:`due`; ``delivered`` holds offsets.

        An event that a replay has taken out of ``retries`` meanwhile stays out.
        """
        gone = [(destination, offset) for offset in (*delivered, *(row.offset for row in dead))]
        return await self._counted(
            destination,
            [
                (sql.ADD_DEAD_IF_RETRIED, [(destination, *astuple(row), destination, row.offset) for row in dead]),
                (sql.RETRY_GONE, gone),
                (
                    sql.RETRY_AGAIN,
                    [
                        (row.attempts, row.next_at, row.last_status, row.last_reason, destination, row.offset)
                        for row in again
                    ],
                ),
                *_bounded(destination, max_dead_letters, len(dead)),
                (sql.ADD_DELIVERED, [(len(delivered), destination)]),
            ],
        )

    async def skipped(self, destination: str, start: int, end: int) -> Counts:
        """The log has forgotten ``start`` to ``end - 1``: count them, move the cursor, touch nothing else."""
        return await self._counted(
            destination,
            [(sql.ADD_SKIPPED, [(end - start, destination)]), (sql.SET_CURSOR, [(destination, end)])],
        )

    async def replay_dead(self, destination: str, now: int, max_retrying: int) -> tuple[int, Counts]:
        """Make dead letters due at once, oldest first, with their hours starting anew.

        Returns how many, and the counters. At most ``max_retrying`` events wait afterwards; others stay dead.
        """
        rows = await self._transact(
            [
                (sql.FIRST_COUNTERS, [(destination,)]),
                (sql.CHOOSE_NONE, [()]),
                (sql.CHOOSE_DEAD, [(destination, max_retrying, destination)]),
                (sql.RETRY_CHOSEN, [(now, now)]),
                (sql.CHOSEN_GONE, [()]),
            ],
            (sql.REPLAYED, (destination,)),
        )
        replayed, *rest = rows[0]
        return int(replayed), Counts(*rest)

    async def forget(self, destination: str) -> None:
        """Remove everything about a destination: it was deleted."""
        await self._transact([(statement, [(destination,)]) for statement in sql.FORGET])

    # Questions

    async def counts(self, destination: str) -> Counts:
        """The destination's counters."""
        return _counts(await self._rows(sql.COUNTS, (destination,)))

    async def due(self, destination: str, now: int, limit: int) -> list[Retry]:
        """At most ``limit`` events whose time has come, longest due first."""
        return [Retry(*row) for row in await self._rows(sql.DUE, (destination, now, limit))]

    async def next_due(self, destination: str) -> int | None:
        """When the next event is due, microseconds since the epoch; None when none waits."""
        rows = await self._rows(sql.NEXT_DUE, (destination,))
        return rows[0][0]  # type: ignore[no-any-return]

    async def dead(self, destination: str, limit: int) -> list[DeadLetter]:
        """The newest dead letters, newest first."""
        return [DeadLetter(*row) for row in await self._rows(sql.NEWEST_DEAD, (destination, limit))]

    async def find(self, message_id: str) -> dict[str, Literal["retrying", "dead"]]:
        """Destinations where this event waits or is dead."""
        return dict(await self._rows(sql.FIND, (message_id, message_id)))

    # One way in

    async def _counted(self, destination: str, steps: Sequence[Step]) -> Counts:
        first: Step = (sql.FIRST_COUNTERS, [(destination,)])
        return _counts(await self._transact([first, *steps], (sql.COUNTS, (destination,))))

    async def _transact(self, steps: Sequence[Step], then: Question | None = None) -> list[Any]:
        return await self._rows(TRANSACTION, (steps, then))

    async def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return list(await self._db.execute_fetchall(statement, parameters))
        except sqlite3.Error as error:
            raise _named(error) from error


class _Connection(sqlite3.Connection):
    """SQLite's connection, which runs a whole transaction in one call.

    A call costs a change of threads, and where the loop is busy the other thread waits for its turn: ten changes a
    transaction took up to seconds on a loaded machine. One call is also one that cannot be left half-way.
    """

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if statement is not TRANSACTION:
            return super().execute(statement, parameters)
        steps, then = parameters
        super().execute("BEGIN IMMEDIATE")
        try:
            for each, rows in steps:
                super().executemany(each, rows)
            super().execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                super().execute("ROLLBACK")
            raise
        # Nobody comes between: this thread alone has the file.
        return super().execute(*then) if then else super().cursor()


async def _prepare(db: aiosqlite.Connection) -> None:
    # Exclusive before WAL: the lock is then held until the end, and no shared memory file is made.
    await db.execute("PRAGMA locking_mode = EXCLUSIVE")
    await db.execute("PRAGMA journal_mode = WAL")
    await db.execute("PRAGMA synchronous = FULL")
    await db.execute("PRAGMA journal_size_limit = 16777216")
    await db.execute(sql.CHOSEN)
    (version,) = (await db.execute_fetchall("PRAGMA user_version"))[0]  # type: ignore[index]
    if version == 0:
        await db.executescript(sql.SCHEMA)
    elif version != sql.SCHEMA_VERSION:
        raise CorruptData(
            f"The ledger of deliveries has version {version}; this program knows {sql.SCHEMA_VERSION}.",
            hint="Use the program that wrote it, or a newer one.",
        )
    # The lock is taken now, not at the first write.
    await db.execute("BEGIN IMMEDIATE")
    await db.execute("COMMIT")


def _bounded(destination: str, max_dead_letters: int, added: int) -> list[Step]:
    """Drop the oldest dead letters over the bound, and count them."""
    if not added:
        return []
    return [
        (sql.COUNT_EXCESS, [(max_dead_letters, destination)]),
        (sql.DROP_EXCESS, [(destination, destination, max_dead_letters)]),
    ]


def _counts(rows: Sequence[Sequence[int]]) -> Counts:
    return Counts(*rows[0]) if rows else Counts()


def _named(error: sqlite3.Error) -> OwnershipLost | StorageFailed | CorruptData:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OwnershipLost("Another process holds the ledger of deliveries.")
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptData("The ledger of deliveries is damaged.", hint="Restore it from a backup.")
    return StorageFailed(f"The ledger of deliveries cannot be read or written: {error}.")
