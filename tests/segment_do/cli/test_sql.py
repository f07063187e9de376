from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.cli.sql import distinct
from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run


def answer(columns: list[str], rows: bytes, *, truncated: bool = False) -> bytes:
    told = json.dumps(columns).encode(), rows, json.dumps(truncated).encode()
    return b'{"columns":%b,"rows":%b,"elapsedMs":2.5,"truncated":%b}' % told


def test_json_is_one_object_a_row(api: Api) -> None:
    """--json prints one object a row; values come through as the platform wrote them, big integers and decimals whole."""
    api.sql = answer(["n", "d", "t"], b'[[18446744073709551616,1.10,"x\\u2028y"],[null,0,{"a":[1]}]]')
    ran = run("sql", "SELECT", "--json")
    assert ran.out.splitlines() == [
        '{"n":18446744073709551616,"d":1.10,"t":"x\\u2028y"}',
        '{"n":null,"d":0,"t":{"a":[1]}}',
    ]
    assert ran.err == ""


def test_repeated_columns_get_suffixes(api: Api) -> None:
    """No column is lost to another of its name."""
    api.sql = answer(["a", "a", "a_2", "a"], b"[[1,2,3,4]]")
    assert run("sql", "SELECT", "--json").rows == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}]


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b", ""]), max_size=12))
def test_names_are_distinct(columns: list[str]) -> None:
    """Names are as many as columns, all different, and the first of each name keeps it."""
    names = distinct(columns)
    assert len(set(names)) == len(names) == len(columns)
    for index, column in enumerate(columns):
        if column not in columns[:index]:
            assert names[index] == column


def test_table_for_people(api: Api) -> None:
    """Without --json: a table on stdout, never cut in a pipe; count and time on stderr; no control characters."""
    long = "long " * 100
    api.sql = answer(["event", "n"], json.dumps([[long, 1], ["\x1b[31mred", 22], [None, 3]]).encode())
    ran = run("sql", "SELECT")
    assert long in ran.out
    assert "\x1b" not in ran.out
    assert "\\x1b[31mred" in ran.out
    assert ran.err == "3 rows, 2 ms\n"


def test_truncated_is_said(api: Api) -> None:
    """An answer that was cut says so, on stderr, with --json too."""
    api.sql = answer(["n"], b"[[1],[2]]", truncated=True)
    for args in (["--json"], []):
        assert "Truncated: the answer stops after 2 rows" in run("sql", "SELECT", *args).err


def test_long_tables_are_cut_and_say_so(api: Api) -> None:
    """A table shows 1,000 rows and names the way to the others."""
    api.sql = answer(["n"], json.dumps([[n] for n in range(1200)]).encode())
    ran = run("sql", "SELECT")
    assert len(ran.out.splitlines()) == 1002
    assert "--json prints them all" in ran.err
    assert len(run("sql", "SELECT", "--json").rows) == 1200


def test_sql_from_stdin_and_file(api: Api, tmp_path: Path) -> None:
    """`-` reads the SQL from stdin, --file from a file."""
    file = tmp_path / "query.sql"
    file.write_text("SELECT 'ü'\n")
    assert run("sql", "-", "--json", stdin="SELECT 2").code == 0
    assert run("sql", "--file", str(file), "--json").code == 0
    assert [json.loads(body)["sql"] for body in api.bodies] == ["SELECT 2", "SELECT 'ü'\n"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 1_000_001, "longer than 1,000,000 bytes"),
    ],
)
def test_files_that_cannot_be_sent(api: Api, tmp_path: Path, data: bytes | None, told: str) -> None:
    """SQL that cannot be read is an error in a sentence."""
    file = tmp_path / "query.sql"
    if data is not None:
        file.write_bytes(data)
    ran = run("sql", "--file", str(file))
    assert ran.code == 1
    assert told in ran.err


def test_refused_query(api: Api) -> None:
    """A query that may not run is told in the platform's words."""
    api.fail = 400, {"code": "query_refused", "message": "Only one SELECT may run."}
    ran = run("sql", "DELETE FROM events", "--json")
    assert (ran.code, ran.out, ran.err) == (1, "", "Error: Only one SELECT may run.\n")
