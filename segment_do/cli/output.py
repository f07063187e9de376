"""What commands print: data on stdout, as tables for people or JSON lines for programs; all else on stderr.

Names and payloads come from anybody who holds a write key, so a terminal never gets their control characters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from segment_do.errors import SegmentDoError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_text", "note", "print_error", "print_json", "print_lines", "print_table", "print_text", "printable"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_UNBOUNDED_COLUMNS = 1_000_000
"""Width of what is not a terminal: a table in a pipe or a file is never cut."""

_encoder = msgspec.json.Encoder()


def print_json(*told: Any) -> None:
    """One line of JSON for each."""
    print_lines(_encoder.encode(one) for one in told)


def print_lines(lines: Iterable[bytes]) -> None:
    """Lines as they are, UTF-8 whatever the locale, flushed."""
    sys.stdout.flush()
    data = b"".join([line + b"\n" for line in lines])
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def print_text(text: str) -> None:
    """One line for people."""
    print_lines([printable(text).encode("utf-8", "replace")])


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; cells as :func:`as_text` has them, numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(shown) and all(
            row[index] is None or (isinstance(row[index], (int, float)) and not isinstance(row[index], bool))
            for row in shown
        )
        table.add_column(Text(printable(column)), justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*[Text(as_text(cell)) for cell in row])
    _console().print(table)


def as_text(value: Any) -> str:
    """A cell: nothing for null, JSON for objects and lists, control characters escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return printable(_encoder.encode(value).decode())
    return printable(str(value))


def printable(text: str) -> str:
    """Text without what could steer a terminal or turn a line around."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def note(text: str) -> None:
    """A line for people beside the data."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def print_error(error: SegmentDoError) -> None:
    """What happened and, on a line of its own, what to do."""
    note(f"Error: {error.message}")
    if error.hint:
        note(f"  {error.hint}")


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNBOUNDED_COLUMNS
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
