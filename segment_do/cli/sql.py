"""`segment-do sql`: one SELECT over the events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from segment_do.cli.client import connect
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_lines, print_table
from segment_do.errors import InvalidRequest, PlatformNotRunning

__all__ = ["distinct", "register"]

_MAX_SQL_BYTES: Final = 1_000_000
_QUERY_SECONDS: Final = 600.0
"""The platform stops a query long before, and says so."""
_TABLE_ROWS: Final = 1_000
"""More rows are for programs: --json prints them all."""


class _Answer(msgspec.Struct, rename="camel"):
    columns: list[str]
    rows: list[list[msgspec.Raw]]
    """Cells stay as they came: 64-bit integers and decimals are not rounded on the way through."""
    elapsed_ms: float | None = None
    truncated: bool = False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sql)


def sql(
    query: Annotated[str | None, typer.Argument(metavar="SQL", help="One SELECT; - reads it from stdin.")] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE", help="Read the SQL from a file.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Query the events with SQL.

    A table; with --json one object a row, on a line of its own.
    """
    if (query is None) == (file is None):
        raise typer.BadParameter("Give the SQL as an argument, or - for stdin, or --file; one of them.")
    text = _read(file) if file is not None else _read(None) if query == "-" else query
    with connect(home) as platform:
        body = platform.ask("POST", "/api/sql", body=msgspec.json.encode({"sql": text}), timeout_seconds=_QUERY_SECONDS)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlatformNotRunning("What answers is not the platform: it did not send rows.") from error
    columns = distinct(answer.columns)
    if as_json:
        names = [msgspec.json.encode(column) + b":" for column in columns]
        print_lines(
            b"{" + b",".join([name + bytes(cell) for name, cell in zip(names, row, strict=True)]) + b"}"
            for row in answer.rows
        )
    else:
        print_table(columns, [[msgspec.json.decode(cell) for cell in row] for row in answer.rows[:_TABLE_ROWS]])
        took = "" if answer.elapsed_ms is None else f", {answer.elapsed_ms:,.0f} ms"
        note(f"{len(answer.rows):,} {'row' if len(answer.rows) == 1 else 'rows'}{took}")
        if len(answer.rows) > _TABLE_ROWS:
            note(f"The table shows the first {_TABLE_ROWS:,}; --json prints them all.")
    if answer.truncated:
        note(f"Truncated: the answer stops after {len(answer.rows):,} rows; there are more.")


def distinct(columns: list[str]) -> list[str]:
    """Column names as keys of one object: a repeated name gets the first suffix ``_2``, ``_3``, … that is free."""
    taken = set(columns)
    seen: set[str] = set()
    names: list[str] = []
    for column in columns:
        name, number = column, 2
        if column in seen:
            while f"{column}_{number}" in taken:
                number += 1
            name = f"{column}_{number}"
            taken.add(name)
        seen.add(name)
        names.append(name)
    return names


def _read(path: str | None) -> str:
    try:
        if path is None or path == "-":
            data = sys.stdin.buffer.read(_MAX_SQL_BYTES + 1)
        else:
            with Path(path).open("rb") as opened:
                data = opened.read(_MAX_SQL_BYTES + 1)
        if len(data) > _MAX_SQL_BYTES:
            raise InvalidRequest(f"The SQL is longer than {_MAX_SQL_BYTES:,} bytes.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"The file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("The SQL is not UTF-8 text.") from error
