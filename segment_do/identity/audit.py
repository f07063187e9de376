"""The audit: a line for each change that somebody made by hand."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["AuditLine", "read_audit", "write_audit"]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One change."""

    line: int
    at: int
    """Microseconds since the epoch."""
    action: str
    detail: dict[str, Any]


def write_audit(connection: sqlite3.Connection, at: int, action: str, **detail: Any) -> None:
    """Write a line, in the transaction of what it tells of."""
    connection.execute(
        "INSERT INTO audit (at, action, detail) VALUES (?, ?, ?)", (at, action, msgspec.json.encode(detail).decode())
    )


def read_audit(connection: sqlite3.Connection, limit: int) -> list[AuditLine]:
    """The newest lines first."""
    rows = connection.execute("SELECT line, at, action, detail FROM audit ORDER BY line DESC LIMIT ?", (limit,))
    return [AuditLine(line, at, action, msgspec.json.decode(detail)) for line, at, action, detail in rows]
