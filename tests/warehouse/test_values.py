from __future__ import annotations

from collections.abc import Iterator

import duckdb
import msgspec
import pytest

from warehouse.values import json_rows, selected


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("TIMESTAMPTZ '2026-11-22 01:02:03.004+02'", "2026-11-21T23:02:03.004Z"),
        ("TIMESTAMP '2026-11-22 01:02:03.000005'", "2026-11-22T01:02:03.000005Z"),
        ("TIMESTAMP '2026-11-22'", "2026-11-22T00:00:00.000Z"),
        ("TIMESTAMPTZ '9999-12-31 23:59:59Z'", "9999-12-31T23:59:59.000Z"),
        ("DATE '2026-11-22'", "2026-11-22"),
        ("TIME '10:00:00.5'", "10:00:00.500000"),
        ("INTERVAL 14 MONTH", "1 year 2 months"),
        ("[TIMESTAMPTZ '2026-11-22 00:00:00Z']", ["2026-11-22T00:00:00.000Z"]),
        ("{'a': TIMESTAMPTZ '2026-11-22 00:00:00Z', 'b': 1.5}", {"a": "2026-11-22T00:00:00.000Z", "b": 1.5}),
        ("MAP {1: 'x', 2: 'y'}", {"1": "x", "2": "y"}),
        ("9223372036854775807::HUGEINT * 10", 92233720368547758070),
        ("18446744073709551615::UBIGINT", 2**64 - 1),
        ("1.10::DECIMAL(18, 2)", 1.1),
        ("5::DECIMAL(38, 10)", 5),
        ("0.1234567890123456789::DECIMAL(38, 19)", "0.1234567890123456789"),
        ("12345678901234567890.5::DECIMAL(38, 1)", "12345678901234567890.5"),
        ("'nan'::DOUBLE", None),
        ("'-inf'::FLOAT", None),
        ("['inf'::DOUBLE, 1.0]", [None, 1.0]),
        ("'\\xAA'::BLOB", "qg=="),
        ("'123e4567-e89b-12d3-a456-426614174000'::UUID", "123e4567-e89b-12d3-a456-426614174000"),
        ("'{\"a\": 1}'::JSON", '{"a": 1}'),
        ("true", True),
        ("NULL", None),
        ("'a'::ENUM('a', 'b')", "a"),
        ("'101'::BIT", "101"),
        ("'294247-01-01'::TIMESTAMP", "294247-01-01 00:00:00"),
    ],
)
def test_values_are_json(connection: duckdb.DuckDBPyConnection, sql: str, value: object) -> None:
    """Every type that DuckDB answers with has one form in JSON, exact where JSON can be."""
    types = [str(kind) for kind in connection.sql(f"SELECT {sql}").types]
    rows = json_rows(connection.execute(f"SELECT {selected(types)} FROM (SELECT {sql})").fetchall(), types)
    assert rows == [[value]]
    assert type(rows[0][0]) is type(value)
    assert msgspec.json.decode(msgspec.json.encode(rows)) == [[value]]
