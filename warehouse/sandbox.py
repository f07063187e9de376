"""The process in which SQL runs: ``python -m warehouse.sandbox``, one query at a time, over stdin and stdout.

It holds no secret, no lock and no descriptor of the platform, and the warehouse kills it when a query passes its time.
Inside, from the outside in:

- the kernel lets it write no file (``RLIMIT_FSIZE`` 0), dump no core, and map only so much memory (``RLIMIT_DATA``);
- DuckDB may open the snapshot's own files and nothing else, load nothing, spill nothing, and the configuration is
  locked; every query has a database of its own, so nothing is left for the next one;
- the text must be one SELECT on the tables (``statement``).

It leaves when stdin ends, also in the middle of a query.
"""

from __future__ import annotations

import os
import queue
import re
import resource
import struct
import sys
import threading
from typing import Any, BinaryIO, NamedTuple, NoReturn

import duckdb
import msgspec
import pyarrow as pa
from duckdb.func import PythonUDFType

from segment_do.errors import QueryRefused
from warehouse.profile_views import OWN_ID, named_views
from warehouse.schema import ARROW, TABLES, TableName
from warehouse.statement import Statement, parse, render
from warehouse.values import json_rows, selected
from warehouse.views import OBJECTS_VIEW, STORE, PropertyColumns, literal, store_view, table_view, tail_name
from warehouse.wire import ANSWER_BYTES_MAX, READY, Answer, Ask, Failure, Limits

__all__ = ["Sandbox", "main"]

_DATA_SLACK_BYTES = 1 * 2**30
"""Above twice DuckDB's own limit: the tail's rows, an answer, and what allocators keep mapped from query to query."""

_ROWS_A_FETCH = 2_048

_MISSING = (
    re.compile(r'Referenced column "((?:[^"]|"")*)" not found'),
    re.compile(r'does not have a column named "((?:[^"]|"")*)"'),
    re.compile(r'Column "((?:[^"]|"")*)" does not exist on'),
)
_NOT_JSON = re.compile(r"Cannot extract field .* because it is not a struct", re.DOTALL)

# A bare name that means a function where no column has it. The property wins, as it would if it were a column.
_NAMES_OF_FUNCTIONS = frozenset({"user"})


class Sandbox:
    """Runs queries, each in a fresh, locked database. Keeps the tail's rows from query to query."""

    def __init__(self) -> None:
        self._batches: dict[int, pa.Table] = {}
        self._columns = PropertyColumns({"properties": {}, "traits": {}})
        self._next: tuple[Limits, duckdb.DuckDBPyConnection] | None = None

    def prepare(self, limits: Limits) -> None:
        """Make the next query's database before it comes."""
        self._next = (limits, _new_database(limits))

    def _database(self, limits: Limits) -> duckdb.DuckDBPyConnection:
        prepared, self._next = self._next, None
        return prepared[1] if prepared is not None and prepared[0] == limits else _new_database(limits)

    def answer(self, ask: Ask, blobs: dict[int, memoryview]) -> Answer:
        """Run one query. Every failure is an answer too."""
        if ask.catalogue is not None:
            self._columns = PropertyColumns(ask.catalogue)  # type: ignore[arg-type]
        for batch, blob in blobs.items():
            self._batches[batch] = pa.ipc.open_stream(pa.py_buffer(blob)).read_all()
        live = {batch.id for table in ask.tables.values() for batch in table.tail}
        self._batches = {number: rows for number, rows in self._batches.items() if number in live}
        files = [path for table in ask.tables.values() for path in table.files]
        try:
            with self._database(ask.limits) as connection:
                _lock(connection, files)
                for name in _tables_read(ask.sql):
                    table = ask.tables[name]
                    rows = [self._batches[batch.id] for batch in table.tail]
                    tail = pa.concat_tables([ARROW[name].empty_table(), *rows])
                    connection.register(tail_name(name), tail)
                    connection.execute(store_view(name, table.files))
                    connection.execute(table_view(name))
                if "objects" in ask.sql.lower():
                    connection.execute(OBJECTS_VIEW)
                views = _profile_views(connection, ask.sql)
                statement = parse(connection, ask.sql)
                return _run(connection, _bound(connection, statement, self._columns, views), ask.limits)
        except QueryRefused as error:
            return Answer(failure=Failure(error.message, error.hint))
        except (duckdb.Error, MemoryError, OverflowError, RuntimeError, ValueError) as error:
            spent = isinstance(error, (duckdb.OutOfMemoryException, MemoryError))
            return Answer(failure=_told(error, files, self._columns), spent=spent)


def _new_database(limits: Limits) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{limits.memory_bytes}B",
            "python_enable_replacements": "false",
            "temp_directory": "",
            "threads": str(limits.threads),
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE SCHEMA {STORE}")
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, files: list[str]) -> None:
    connection.execute(f"SET allowed_paths = [{', '.join(map(literal, files))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _tables_read(sql: str) -> list[TableName]:
    """The tables that a query can mean: binding one costs a millisecond or two, and most queries read ``events`` alone.

    The text is only searched; a table that is bound for nothing harms nobody.
    """
    text = sql.lower()
    needed: set[TableName] = {"events", *(name for name in TABLES if name in text)}
    if "objects" in text:
        needed.add("object_changes")
    if named_views(sql):
        needed.add("external_id_changes")
    return [name for name in TABLES if name in needed]


def _profile_views(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """Make the views of profiles that a query names; returns the statements that make those over ``events`` again."""
    views = named_views(sql)
    if "user_identifiers" in views:
        _add_own_id(connection)
    for statement in views.values():
        connection.execute(statement)
    return [statement for name, statement in views.items() if name == "profile_events"]


def _add_own_id(connection: duckdb.DuckDBPyConnection) -> None:
    from segment_do.identity.profile import profile_id  # loads SQLite, which other queries need not wait for

    # DuckDB evaluates these annotations, and Arrow's arrays take no parameters then.
    def own_ids(kinds: Any, values: Any) -> Any:
        return pa.array(map(profile_id, kinds.to_pylist(), values.to_pylist()), pa.string())

    connection.create_function(OWN_ID, own_ids, ["VARCHAR", "VARCHAR"], "VARCHAR", type=PythonUDFType.ARROW)


class _Bound(NamedTuple):
    sql: str
    columns: list[str]
    types: list[str]


def _bound(
    connection: duckdb.DuckDBPyConnection, statement: Statement, columns: PropertyColumns, views: list[str]
) -> _Bound:
    """The query bound to the tables, with the property columns that it cannot do without.

    ``views`` are statements that make views of all columns of ``events``, which have to follow it. DuckDB is asked, again and again: what it does not find and the catalogue has becomes a column.
    """
    candidates: dict[str, str] = {}
    for name in statement.columns():
        if name in columns:
            candidates.setdefault(name.lower(), name)
    exposed: dict[str, str] = {}
    for folded in _NAMES_OF_FUNCTIONS & candidates.keys():
        exposed[folded] = candidates.pop(folded)
    as_json = False
    first: duckdb.Error | None = None
    while True:
        if exposed or as_json:
            expressions = {name: columns.expression(name) for name in exposed.values()}
            connection.execute(table_view("events", expressions, as_json=as_json))
            for view in views:
                connection.execute(view)
        try:
            return _starred(connection, statement, list(exposed.values()))
        except duckdb.BinderException as error:
            first = first or error
            text = str(error)
            missing = next((m[1].replace('""', '"').lower() for p in _MISSING if (m := p.search(text))), None)
            if missing in candidates:
                exposed[missing] = candidates.pop(missing)
                first = None
            elif not as_json and _NOT_JSON.search(text):
                as_json = True
                first = None
            elif candidates and missing is None:
                # An error in words that are not known: all that the catalogue can offer, then.
                exposed |= candidates
                candidates = {}
            else:
                raise first from None


def _starred(connection: duckdb.DuckDBPyConnection, statement: Statement, exposed: list[str]) -> _Bound:
    """The query bound, with ``*`` meaning the fixed columns, whatever else was exposed."""
    tree = statement.without_in_star(exposed) if exposed else None
    if tree is not None:
        try:
            return _rendered(connection, tree)
        except duckdb.BinderException:
            pass  # a `*` that the rewriting does not understand: better a column too many than no answer
    return _rendered(connection, statement.tree)


def _rendered(connection: duckdb.DuckDBPyConnection, tree: dict[str, Any]) -> _Bound:
    sql = render(connection, tree)
    relation = connection.sql(sql)
    return _Bound(sql, list(relation.columns), [str(kind) for kind in relation.types])


def _run(connection: duckdb.DuckDBPyConnection, bound: _Bound, limits: Limits) -> Answer:
    # The text is DuckDB's own rendering of a tree that was judged.
    result = connection.execute(f"SELECT {selected(bound.types)} FROM ({bound.sql}) LIMIT {limits.rows + 1}")  # noqa: S608
    rows: list[list[Any]] = []
    size = 0
    while fetched := result.fetchmany(_ROWS_A_FETCH):
        converted = json_rows(fetched, bound.types)
        size += len(msgspec.json.encode(converted))
        if size > ANSWER_BYTES_MAX:
            return Answer(bound.columns, bound.types, rows, truncated=True)
        rows += converted
    return Answer(bound.columns, bound.types, rows[: limits.rows], truncated=len(rows) > limits.rows)


def _told(error: Exception, files: list[str], columns: PropertyColumns) -> Failure:
    """DuckDB's words for a person: without the files' paths, and with a hint where there is one."""
    if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)):
        return Failure(
            "The query needs more memory than one may use.",
            "Read less of it at once: a shorter time, fewer columns, fewer groups (setting warehouse.sql_memory_bytes).",
        )
    text = str(error)
    for path in files:
        text = text.replace(path, "a file of the table")
    text = text.partition("\n\nLINE ")[0]  # the position is one in the rendered text, not in the caller's
    text = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", text)
    message, _, rest = text.partition("\n")
    hint = rest.replace("\n", " ").strip()
    if any(pattern.search(message) for pattern in _MISSING) and (offered := columns.names()):
        hint = f"{hint} Properties seen: {', '.join(offered[:20])}{', …' if len(offered) > 20 else ''}.".strip()
    return Failure(message.strip(), hint[:1_000])


def main() -> NoReturn:
    """Answer queries until stdin ends."""
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    requests: queue.SimpleQueue[tuple[Ask, dict[int, memoryview]]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    sandbox = Sandbox()
    encoder = msgspec.json.Encoder()
    locked = False
    _write(output, READY)
    while True:
        ask, blobs = requests.get()
        if not locked:
            _lock_process(ask.limits)
            locked = True
        data = encoder.encode(sandbox.answer(ask, blobs))
        _write(output, struct.pack("<Q", len(data)) + data)
        sandbox.prepare(ask.limits)


def _read(stream: BinaryIO, requests: queue.SimpleQueue[tuple[Ask, dict[int, memoryview]]]) -> None:
    decoder = msgspec.json.Decoder(Ask)
    while len(prefix := stream.read(8)) == 8:
        ask = decoder.decode(stream.read(struct.unpack("<Q", prefix)[0]))
        batches = [batch for table in ask.tables.values() for batch in table.tail]
        blobs = {
            batch.id: memoryview(stream.read(batch.blob_bytes)) for batch in batches if batch.blob_bytes is not None
        }
        requests.put((ask, blobs))
    os._exit(0)  # the warehouse is gone: nobody wants the answer


def _write(output: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[output.write(view) :]


def _lock_process(limits: Limits) -> None:
    # What is mapped already, not the peak of resident memory: that one is inherited from the process that forked.
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[5]) * resource.getpagesize()
    data = mapped + 2 * limits.memory_bytes + _DATA_SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
