"""Accepted events on their way to the queue: written with the change they belong to, oldest first.

An entry is a pack of records in one row. It stays until the queue has it durably; handing it over again after
a crash is harmless, because the queue refuses a ``seq`` that it has.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from segment_do.identity.database import Database

__all__ = ["ENTRY_BYTES", "Outbox", "OutboxEntry"]

ENTRY_BYTES = 2**20
"""Largest pack in one row, unless a single record is larger."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """``count`` records as a pack. ``seq`` rises strictly and is never used twice."""

    seq: int
    count: int
    pack: bytes


class Outbox:
    """The rows of ``outbox``. ``size_bytes`` counts the packs of entries not yet forgotten."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.reading() as connection:
            (held,) = connection.execute("SELECT coalesce(sum(length(pack)), 0) FROM outbox").fetchone()
            (last,) = connection.execute(
                "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)"
            ).fetchone()
        self.size_bytes: int = held
        self._last: int = last
        self._forgotten = 0
        self._deleted = 0
        self._staged_bytes = 0
        self._staged_last: int = last

    @property
    def last(self) -> int:
        """The newest entry's seq, whether it is still here or not; 0 when there never was one."""
        return self._last

    def write(self, connection: sqlite3.Connection, records: list[bytes]) -> int:
        """Inside a transaction: store encoded records as entries; returns the last one's seq.

        Rows of forgotten entries go in the same transaction, which spares them a sync of their own.
        """
        if self._deleted < self._forgotten:
            connection.execute("DELETE FROM outbox WHERE seq <= ?", (self._forgotten,))
        staged = 0
        for first, last in _cuts(records):
            pack = b"".join(records[first:last])
            cursor = connection.execute("INSERT INTO outbox (count, pack) VALUES (?, ?)", (last - first, pack))
            self._staged_last = cursor.lastrowid or 0
            staged += len(pack)
        self._staged_bytes = staged
        return self._staged_last

    def commit(self) -> None:
        """The transaction that called :meth:`write` is durable."""
        self._last = self._staged_last
        self._deleted = self._forgotten
        self.size_bytes += self._staged_bytes

    def read(self, max_bytes: int, after: int) -> list[OutboxEntry]:
        """Entries with ``seq > after``, oldest first, up to ``max_bytes`` of packs but at least one."""
        entries: list[OutboxEntry] = []
        with self._database.reading() as connection:
            cursor = connection.execute(
                "SELECT seq, count, pack FROM outbox WHERE seq > ? ORDER BY seq", (max(after, self._forgotten),)
            )
            for seq, count, pack in cursor:
                max_bytes -= len(pack)
                if entries and max_bytes < 0:
                    break
                entries.append(OutboxEntry(seq, count, pack))
            cursor.close()
        return entries

    def forget(self, seq: int) -> None:
        """Entries up to ``seq`` are durable in the queue. Their rows go with the next write or at :meth:`flush`.

        Raises:
            ValueError: ``seq`` was never handed out.
        """
        if seq > self._last:
            raise ValueError(f"The outbox has no entry {seq}; its last is {self._last}.")
        if seq <= self._forgotten:
            return
        with self._database.reading() as connection:
            (freed,) = connection.execute(
                "SELECT coalesce(sum(length(pack)), 0) FROM outbox WHERE seq > ? AND seq <= ?", (self._forgotten, seq)
            ).fetchone()
        self.size_bytes -= freed
        self._forgotten = seq

    def flush(self) -> None:
        """Delete rows of forgotten entries now, before closing."""
        if self._deleted < self._forgotten:
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM outbox WHERE seq <= ?", (self._forgotten,))
            self._deleted = self._forgotten


def _cuts(records: list[bytes]) -> list[tuple[int, int]]:
    if sum(map(len, records)) <= ENTRY_BYTES:
        return [(0, len(records))]
    cuts: list[tuple[int, int]] = []
    first = size = 0
    for index, record in enumerate(records):
        if size and size + len(record) > ENTRY_BYTES:
            cuts.append((first, index))
            first, size = index, 0
        size += len(record)
    cuts.append((first, len(records)))
    return cuts
