"""What the warehouse and its query process say to each other over a pipe.

A message is a length, a JSON header, and blobs whose lengths the header gives: Arrow rows go as they are. JSON, not
msgpack, for the answer, because a sum of integers passes 64 bits easily.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warehouse.catalogue import SqlType
from warehouse.schema import TableName

__all__ = ["ANSWER_BYTES_MAX", "READY", "Answer", "Ask", "Batch", "Failure", "Limits", "Table"]

ANSWER_BYTES_MAX = 64 * 2**20
"""An answer's rows beyond so many bytes are cut, as rows beyond ``sql_max_rows`` are."""

READY = b"!"
"""The first byte from the process: it has loaded everything and waits for a query."""


class Limits(msgspec.Struct):
    """What one query may use."""

    rows: int
    memory_bytes: int
    threads: int


class Batch(msgspec.Struct):
    """Rows of the tail. ``blob_bytes`` is None when the process has them from a query before."""

    id: int
    blob_bytes: int | None = None


class Table(msgspec.Struct):
    """One table as the query shall see it."""

    files: list[str]
    tail: list[Batch]


class Ask(msgspec.Struct):
    """One query. ``catalogue`` is None when it has not changed since the query before."""

    sql: str
    tables: dict[TableName, Table]
    limits: Limits
    catalogue: dict[str, dict[str, SqlType]] | None = None


class Failure(msgspec.Struct):
    """Why there is no answer."""

    message: str
    hint: str = ""


class Answer(msgspec.Struct):
    """The rows, JSON-ready, or the failure."""

    columns: list[str] = []
    types: list[str] = []
    rows: list[list[Any]] = []
    truncated: bool = False
    failure: Failure | None = None
    spent: bool = False
    """The process ran out of memory: it answered, but the next query shall have another."""
