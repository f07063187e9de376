"""The sandbox without its process: what queries see, and what they cannot reach. Real files, real tail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import frame, record, rejected, track_frames
from warehouse.catalogue import Catalogue
from warehouse.columns import rows_of
from warehouse.engine import _ipc
from warehouse.sandbox import Sandbox, _lock, _new_database
from warehouse.schema import COLUMNS, TABLES
from warehouse.wire import Answer, Ask, Batch, Limits, Table
from warehouse.writer import Writer

LIMITS = Limits(rows=1_000, memory_bytes=256 * 2**20, threads=2)

SEED_QUERY = """
SELECT event, count(*) AS count, avg(revenue) AS avgRevenue
FROM events WHERE timestamp > now() - INTERVAL 7 DAY GROUP BY event ORDER BY count DESC
"""

Query = Callable[[str], Answer]


def over(*payloads: dict[str, Any] | bytes, files: dict[Any, list[str]] | None = None) -> Query:
    """Queries over track events with these payloads in the tail, and these files."""
    rows = rows_of([frame(n, [record(n, payload)]) for n, payload in enumerate(payloads)], 0)
    catalogue = Catalogue(Path("/nowhere/columns.json"))
    catalogue.observe("properties", rows.properties)
    catalogue.observe("traits", rows.traits)
    sandbox = Sandbox()

    def query(sql: str) -> Answer:
        given = files or {name: [] for name in TABLES}
        tables = {name: Table(given[name], []) for name in TABLES}
        tables["events"].tail.append(Batch(1))
        types: dict[str, Any] = {"properties": catalogue.types("properties"), "traits": catalogue.types("traits")}
        return sandbox.answer(Ask(sql, tables, LIMITS, types), {1: memoryview(_ipc(rows.events))})

    return query


def props(**properties: Any) -> dict[str, Any]:
    return {"type": "track", "properties": properties}


def values(answer: Answer) -> list[list[Any]]:
    assert answer.failure is None, answer.failure
    return answer.rows


def test_seed_query_runs_on_an_empty_table() -> None:
    """Before the first event, revenue is a column and the answer is empty."""
    answer = over()(SEED_QUERY)
    assert values(answer) == []
    assert answer.columns == ["event", "count", "avgRevenue"]
    assert answer.types == ["VARCHAR", "BIGINT", "DOUBLE"]


def test_files_and_tail_are_one_table(tmp_path: Path) -> None:
    """A query reads the committed files and the tail as one table, of both tables."""
    writer = Writer.open(tmp_path, WarehouseSettings())
    records = [rejected(n) if n == 1 else record(n, props(revenue=n)) for n in range(4)]
    rows = rows_of([frame(0, records)], 0)
    writer.commit({"events": rows.events, "rejected": rows.rejected}, 4)
    files = {name: [file.path for file in snapshot.files] for name, snapshot in writer.snapshots()[1].items()}
    writer.close()
    query = over(props(revenue=10), props(), files=files)
    assert values(query("SELECT count(*), sum(revenue), count(DISTINCT message_id) FROM events")) == [[5, 15.0, 4]]
    assert values(query("SELECT message_id, index FROM rejected")) == [["m1", 0]]
    assert values(query('SELECT max("offset"), min(received_at) FROM events')) == [[3, "2026-11-02T12:00:00.000Z"]]


def test_only_the_columns_of_the_query_are_read(tmp_path: Path) -> None:
    """Through the views, a query reads the columns that it names from Parquet, and skips by their bounds."""
    writer = Writer.open(tmp_path, WarehouseSettings())
    writer.commit({"events": rows_of(track_frames(range(3)), 0).events}, 3)
    files = [file.path for file in writer.snapshots()[1]["events"].files]
    writer.close()
    from warehouse.views import store_view, table_view, tail_name

    with _new_database(LIMITS) as connection:
        _lock(connection, files)
        connection.register(tail_name("events"), rows_of([], 0).events)
        connection.execute(store_view("events", files))
        connection.execute(table_view("events", {"revenue": "json_extract_string(properties, '/revenue')"}))
        plan = connection.execute("EXPLAIN SELECT event FROM events WHERE timestamp > now()").fetchall()[0][1]
    (scan,) = [part for part in plan.split("Function") if "READ_PARQUET" in part]
    assert "event" in scan
    assert "timestamp > " in scan
    assert "properties" not in scan


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("plan", "plan"),
        ("Plan Name", '"Plan Name"'),
        ("a.b", '"a.b"'),
        ('q"r', '"q""r"'),
        ("it's", '"it\'s"'),
        ("a/b~c", '"a/b~c"'),
        ("*", '"*"'),
        ("$.x", '"$.x"'),
        ("0", '"0"'),
        ("größe", "größe"),
        ("select", '"select"'),
        ("user", "user"),
        ("x'); DROP TABLE y; --", '"x\'); DROP TABLE y; --"'),
    ],
)
def test_any_key_is_a_column(name: str, sql: str) -> None:
    """A property is a column whatever characters its key has."""
    query = over(props(**{name: "here"}), props())
    assert values(query(f"SELECT {sql} FROM events ORDER BY 1 NULLS LAST")) == [["here"], [None]]
    assert values(query(f"SELECT e.{sql} FROM events e WHERE e.{sql} IS NOT NULL")) == [["here"]]


def test_columns_have_the_types_seen() -> None:
    """Numbers compare as numbers, objects are JSON, and what had several types is text."""
    query = over(
        props(qty=9, price=1, ok=True, tags=["a"], mixed=1),
        props(qty=10, price=2.5, ok=False, tags={"b": 1}, mixed="x"),
    )
    answer = query("SELECT max(qty), sum(price), bool_or(ok), any_value(tags), max(mixed) FROM events")
    assert values(answer) == [[10, 3.5, True, '["a"]', "x"]]
    assert answer.types == ["BIGINT", "DOUBLE", "BOOLEAN", "JSON", "VARCHAR"]


def test_reserved_numbers_stay_numbers() -> None:
    """A revenue sent as text counts if it is a number; text that is none is left out, and so is NaN."""
    query = over(props(revenue="12.50"), props(revenue="n/a"), props(revenue="NaN"), props(revenue=7.5))
    assert values(query("SELECT avg(revenue), count(revenue) FROM events")) == [[10.0, 2]]


def test_traits_are_columns_too() -> None:
    """A name only in traits is a column; one in both is the property where there is one."""
    query = over(
        {"type": "identify", "traits": {"email": "a@x", "plan": "t"}},
        {"type": "track", "properties": {"plan": "p"}, "traits": {"plan": "t"}},
    )
    assert values(query("SELECT email, plan FROM events ORDER BY message_id")) == [["a@x", "t"], [None, "p"]]


def test_keys_that_differ_in_case_are_one_column() -> None:
    """DuckDB's names have no case: the spelling asked for comes first, the others fill in."""
    query = over(props(Plan="A", plan="a"), props(PLAN="b"))
    assert values(query("SELECT plan FROM events ORDER BY message_id")) == [["a"], ["b"]]
    assert values(query("SELECT Plan FROM events ORDER BY message_id")) == [["A"], ["b"]]
    assert query("SELECT Plan FROM events").columns == ["Plan"]
    mixed = over(props(revenue=1), props(Revenue=3))
    assert values(mixed("SELECT avg(revenue) AS avgRevenue FROM events")) == [[2.0]]


def test_columns_of_the_table_win() -> None:
    """A property called like a column is reached through properties, and shadows nothing."""
    query = over(props(event="other", user_id="other"))
    assert values(query("SELECT event, user_id, properties->>'event' FROM events")) == [["Signed Up", "u0", "other"]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT date_trunc('day', timestamp)::DATE AS day, count(*) FROM events GROUP BY day ORDER BY day",
        "WITH d AS (SELECT '2026-11-02'::DATE AS day, 1) SELECT * FROM d WHERE day IS NOT NULL",
        "SELECT day, 1 FROM (SELECT timestamp::DATE AS day FROM events) WHERE day > '2000-01-01'",
        "SELECT day, 1 FROM events JOIN (SELECT '2026-11-02'::DATE AS day) d ON true",
        "SELECT timestamp::DATE AS day, 1 FROM events WHERE day > '2000-01-01'",
    ],
)
def test_data_never_changes_what_a_query_means(sql: str) -> None:
    """A name that the query itself gives means that, also after a property of that name has arrived."""
    assert values(over(props(day="a property"))(sql)) == [["2026-11-02", 1]]
    assert values(over(props())(sql)) == [["2026-11-02", 1]]


@pytest.mark.parametrize("star", ["*", "e.*", "* EXCLUDE (ip), ip", "* REPLACE (1 AS ip)", "*, revenue AS r"])
def test_star_is_the_fixed_columns(star: str) -> None:
    """`SELECT *` gives the table's own columns, whatever properties the rest of the query names."""
    answer = over(props(revenue=5))(f"SELECT {star} FROM events e WHERE revenue > 3 ORDER BY revenue")
    assert values(answer)
    names = [column.name for column in COLUMNS["events"]]
    assert sorted(answer.columns) == sorted([*names, "r"] if star.endswith("r") else names)


def test_star_of_a_subquery_keeps_its_columns() -> None:
    """Only the star of the table itself is cut; a subquery's star gives what the subquery selects."""
    query = over(props(revenue=5))
    answer = query("SELECT * FROM (SELECT event, revenue FROM events) s JOIN (SELECT 1 AS revenue2) t ON true")
    assert answer.columns == ["event", "revenue", "revenue2"]
    assert query("SELECT count(*), revenue FROM events GROUP BY ALL").columns == ["count_star()", "revenue"]


def test_json_columns_are_read_in_every_way() -> None:
    """Arrow, JSON functions and dots all reach into properties and context."""
    query = over({"type": "track", "properties": {"a": {"b": [1, 2]}, "n": 5}, "context": {"page": {"path": "/x"}}})
    assert values(
        query("SELECT properties->>'$.a.b[1]', (properties->>'n')::INT, context->'page'->>'path' FROM events")
    ) == [["2", 5, "/x"]]
    assert values(query("SELECT json_keys(properties), json_type(properties, '$.a') FROM events")) == [
        [["a", "n"], "OBJECT"]
    ]
    assert values(query("SELECT properties.n, context.page.path FROM events WHERE properties.n::INT = 5")) == [
        ["5", '"/x"']
    ]


def test_unknown_columns_say_what_there_is() -> None:
    """The refusal names the missing column, and the hint what has been seen."""
    failure = over(props(plan="pro"))("SELECT plann FROM events").failure
    assert failure is not None
    assert "plann" in failure.message
    assert "plan" in failure.hint
    assert "LINE" not in failure.message


def test_several_unknown_and_known_columns() -> None:
    """All known properties of a query become columns; the first unknown one is the refusal."""
    query = over(props(a=1, b=2, c=3, d=4))
    assert values(query("SELECT a + b, (SELECT max(c) FROM events), d FROM events ORDER BY a, d")) == [[3, 3, 4]]
    failure = query("SELECT a, b, nope FROM events").failure
    assert failure is not None
    assert '"nope"' in failure.message


def test_rows_are_capped() -> None:
    """An answer stops at the bound of rows, and says that it did; the order is the query's."""
    answer = over()("SELECT range AS n FROM range(5000) ORDER BY n DESC")
    assert (len(answer.rows), answer.truncated) == (1_000, True)
    assert answer.rows[0] == [4999]
    exact = over()("SELECT * FROM range(1000)")
    assert (len(exact.rows), exact.truncated) == (1_000, False)


def test_bytes_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows that are huge are cut as well."""
    monkeypatch.setattr("warehouse.sandbox.ANSWER_BYTES_MAX", 1_000)
    answer = over()("SELECT repeat('x', 2000) FROM range(3)")
    assert (answer.rows, answer.truncated, answer.failure) == ([], True, None)


def test_memory_is_bounded() -> None:
    """A query that needs more memory than allowed is refused, and the process is not used again."""
    answer = over()("SELECT count(DISTINCT range) FROM range(90000000)")
    assert answer.failure is not None
    assert "memory" in answer.failure.message
    assert answer.spent


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1/0 + 'a'::INT",
        "SELECT error('stop')",
        "SELECT $1",
        "SELECT a.b.c FROM events",
        "SELECT event FROM events GROUP BY type",
        "SELECT (SELECT range FROM range(2))",
        "SELECT *",
        "SELECT unknown_function(1)",
    ],
)
def test_failures_are_answers(sql: str) -> None:
    """Whatever fails in DuckDB comes back as a sentence."""
    failure = over(props(a=1))(sql).failure
    assert failure is not None
    assert failure.message


def test_no_path_is_told(tmp_path: Path) -> None:
    """A file that cannot be read is an error that does not tell where files lie."""
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not parquet")
    failure = over(files={name: [str(broken)] if name == "events" else [] for name in TABLES})(
        "SELECT count(event) FROM events"
    ).failure
    assert failure is not None
    assert str(tmp_path) not in failure.message + failure.hint


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT content FROM read_text('{secret}')",
        "FROM '{secret}'",
        "FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{folder}/x.db'",
        "INSTALL httpfs",
        "LOAD '{folder}/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['{secret}']",
        "SET lock_configuration = false",
        "SET temp_directory = '{folder}'",
        "PRAGMA enable_profiling = 'json'",
        "SET profiling_output = '{folder}/p'",
        "EXPORT DATABASE '{folder}/e'",
        "CREATE SECRET s (TYPE s3)",
        "FROM rows_of_python",
        "CALL enable_logging(storage = 'file', storage_path = '{folder}')",
    ],
)
def test_the_engine_is_locked_behind_the_judge(tmp_path: Path, sql: str) -> None:
    """Were a text to pass the judge, DuckDB itself reads and writes nothing but the snapshot's files."""
    import duckdb

    rows_of_python = pa.table({"x": [1]})
    file, secret = tmp_path / "data.parquet", tmp_path / "secret"
    pq.write_table(rows_of_python, file)
    secret.write_text("secret")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with _new_database(LIMITS) as connection:
        _lock(connection, [str(file)])
        assert connection.execute(f"SELECT x FROM '{file}'").fetchall() == [(1,)]
        with pytest.raises(duckdb.Error):
            connection.execute(sql.format(folder=tmp_path, file=file, secret=secret)).fetchall()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_kernel_lets_the_process_write_nothing(tmp_path: Path) -> None:
    """After the first query the process can neither write a file nor map memory without end."""
    program = """
import sys
from warehouse.sandbox import _lock_process
from warehouse.wire import Limits
_lock_process(Limits(1, 2**26, 1))
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        file.write(b"x")
except OSError as error:
    print("no file:", error.errno)
try:
    bytearray(3 * 2**30)
except MemoryError:
    print("no memory")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x")], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "no file: 27\nno memory\n"
