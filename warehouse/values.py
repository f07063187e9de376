"""Values of an answer as JSON has them.

Times are ISO-8601 in UTC with ``Z``; integers of any size stay integers; a DECIMAL is a number where a double holds it
exactly, else text; NaN and infinity are null, for JSON has neither; bytes are base64; the keys of a MAP become text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

__all__ = ["json_rows", "selected"]

_AS_THEY_ARE = frozenset(
    {
        "BIGINT",
        "BOOLEAN",
        "HUGEINT",
        "INTEGER",
        "JSON",
        "SMALLINT",
        "TINYINT",
        "UBIGINT",
        "UHUGEINT",
        "UINTEGER",
        "USMALLINT",
        "UTINYINT",
        "VARCHAR",
        "BIGNUM",
        "BIT",
    }
)
_ZONED = "TIMESTAMP WITH TIME ZONE"


def selected(types: Iterable[str]) -> str:
    """The columns of an answer, by position, in types that Python can fetch.

    DuckDB hands a TIMESTAMPTZ to Python through pytz; the same instant without a zone needs nothing. The session's
    zone is UTC, so the cast changes no value.
    """
    columns = []
    for position, name in enumerate(types, 1):
        if _ZONED in name:
            columns.append(f"CAST(#{position} AS {name.replace(_ZONED, 'TIMESTAMP')})")
        elif name == "INTERVAL":
            columns.append(f"CAST(#{position} AS VARCHAR)")
        else:
            columns.append(f"#{position}")
    return ", ".join(columns)


def json_rows(rows: list[tuple[Any, ...]], types: list[str]) -> list[list[Any]]:
    """Fetched rows as JSON values; ``types`` are DuckDB's names for the columns."""
    converters = [None if name in _AS_THEY_ARE else _any for name in types]
    if not any(converters):
        return [list(row) for row in rows]
    return [
        [value if convert is None else convert(value) for value, convert in zip(row, converters, strict=True)]
        for row in rows
    ]


def _any(value: Any) -> Any:
    convert = _CONVERTERS.get(value.__class__)
    return value if convert is None else convert(value)


def _float(value: float) -> float | None:
    return value if isfinite(value) else None


def _decimal(value: Decimal) -> float | int | str | None:
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _datetime(value: datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds") + "Z"


_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    float: _float,
    Decimal: _decimal,
    datetime: _datetime,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: str,
    UUID: str,
    bytes: lambda value: base64.b64encode(value).decode(),
    list: lambda value: [_any(item) for item in value],
    tuple: lambda value: [_any(item) for item in value],
    dict: lambda value: {key if isinstance(key, str) else str(_any(key)): _any(item) for key, item in value.items()},
}
