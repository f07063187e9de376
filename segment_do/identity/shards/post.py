"""Letters of one shard: kept until the other shard has them durably, and taken in once.

Written in the transaction of the change that they tell of. Handing over is at least once, in order for each shard; whoever takes
letters in remembers the last one of each sender.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from segment_do.identity.database import Database
from segment_do.identity.shards.letters import Envelope, Letter, encode_letters

__all__ = ["Post"]


class Post:
    """The tables ``letter`` and ``heard``: one row for all letters of a step to one shard. ``size_bytes`` counts those not yet confirmed."""

    def __init__(self, database: Database, shard: str) -> None:
        self._database = database
        self._shard = shard
        with database.reading() as connection:
            (self.size_bytes,) = connection.execute("SELECT coalesce(sum(length(body)), 0) FROM letter").fetchone()
        self._staged_bytes = 0
        self._confirmed: dict[str, int] = {}
        self._confirmed_bytes = 0

    def write(self, connection: sqlite3.Connection, letters: Iterable[tuple[str, Letter]]) -> None:
        """Inside a transaction: keep letters, each with its shard. Confirmed ones go, which spares them a sync of their own."""
        connection.executemany("DELETE FROM letter WHERE shard = ? AND seq <= ?", self._confirmed.items())
        together: dict[str, list[Letter]] = {}
        for shard, letter in letters:
            together.setdefault(shard, []).append(letter)
        rows = [(shard, encode_letters(some)) for shard, some in together.items()]
        connection.executemany("INSERT INTO letter (shard, body) VALUES (?, ?)", rows)
        self._staged_bytes = sum(len(body) for _shard, body in rows)

    def commit(self) -> None:
        """The transaction that called :meth:`write` is durable."""
        self.size_bytes += self._staged_bytes
        self._confirmed, self._staged_bytes = {}, 0

    def shards(self) -> list[str]:
        """Those that letters wait for."""
        with self._database.reading() as connection:
            return [shard for (shard,) in connection.execute("SELECT DISTINCT shard FROM letter")]

    def read(self, shard: str, max_bytes: int) -> list[Envelope]:
        """The oldest letters to a shard that it has not confirmed, up to ``max_bytes`` but at least one."""
        found: list[Envelope] = []
        with self._database.reading() as connection:
            cursor = connection.execute(
                "SELECT seq, body FROM letter WHERE shard = ? AND seq > ? ORDER BY seq",
                (shard, self._confirmed.get(shard, 0)),
            )
            for seq, body in cursor:
                max_bytes -= len(body)
                if found and max_bytes < 0:
                    break
                found.append(Envelope(self._shard, self._database.born, seq, body))
            cursor.close()
        return found

    def confirm(self, shard: str, letters: list[Envelope]) -> None:
        """The shard has these durably. Their rows go with the next write; after a crash before that they are sent again."""
        self._confirmed[shard] = letters[-1].seq
        self.size_bytes -= sum(len(letter.body) for letter in letters)

    def flush(self) -> None:
        """Delete confirmed letters now, before closing."""
        if self._confirmed:
            with self._database.transaction() as connection:
                self.write(connection, ())
            self.commit()

    def take(self, connection: sqlite3.Connection, letters: Iterable[Envelope]) -> list[bytes]:
        """Inside a transaction: the bodies of those that are new."""
        found = []
        last: dict[str, tuple[int, int]] = {}
        for letter in letters:
            if letter.sender not in last:
                row = connection.execute("SELECT born, seq FROM heard WHERE shard = ?", (letter.sender,)).fetchone()
                last[letter.sender] = row or (0, 0)
            if (letter.born, letter.seq) > last[letter.sender]:
                last[letter.sender] = (letter.born, letter.seq)
                found.append(letter.body)
        connection.executemany(
            "INSERT OR REPLACE INTO heard VALUES (?, ?, ?)", [(shard, *heard) for shard, heard in last.items()]
        )
        return found
