"""Which SQL may run: exactly one SELECT, on the warehouse's own tables, with functions that stay inside.

DuckDB itself parses the text and hands out its syntax tree (``json_serialize_sql``, which takes SELECT statements
only), and the tree is judged. A second parser would see some texts differently from the one that runs them: DuckDB 2
has INSERT inside WITH, for one. The lock-down of the engine (``sandbox``) stands behind this, not instead of it.

Tables and table functions are allowed by name; everything not named is refused. Scalar functions are refused by name:
the ones that read settings, run text as SQL, write logs or hold the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb
import msgspec

from segment_do.errors import QueryRefused
from warehouse.profile_views import PROFILE_VIEWS
from warehouse.schema import COLUMNS

__all__ = ["Statement", "parse", "render"]

_LENGTH_MAX = 100_000

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"}
)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat", "repeat_row"})
_FUNCTIONS_REFUSED = frozenset(
    {
        "current_setting",
        "currval",
        "getenv",
        "getvariable",
        "json_deserialize_sql",
        "json_execute_serialized_sql",
        "json_serialize_plan",
        "json_serialize_sql",
        "nextval",
        "parse_duckdb_log_message",
        "pg_get_constraintdef",
        "pg_get_viewdef",
        "pg_sleep",
        "query",
        "query_table",
        "setseed",
        "setval",
        "sleep_ms",
        "which_secret",
        "write_log",
    }
)
_PREFIXES_REFUSED = ("__internal", "duckdb_", "pragma_", "read_", "parquet_", "sniff_", "glob")

_TABLES = frozenset({*COLUMNS, "objects", *PROFILE_VIEWS})
"""What queries can name."""

_WITH_PROPERTIES = frozenset({"events", "profile_events"})
"""Those of them in which properties become columns."""

_SHOW_TABLES = f"SELECT unnest({sorted(_TABLES)}) AS name"  # DuckDB writes lists as Python does

_HINT = (
    "The tables are events, rejected, objects, object_changes and external_id_changes; of profiles there are"
    f" {', '.join(sorted(PROFILE_VIEWS))}."
)

_tree = msgspec.json.Decoder(dict[str, Any])


class Statement:
    """A SELECT that may run, as DuckDB's own syntax tree."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def columns(self) -> list[str]:
        """Every name that is written where a column could be, in order, as written; repeated ones too."""
        found: list[str] = []
        for node in _nodes(self.tree):
            if node.get("class") == "COLUMN_REF":
                found += node["column_names"]
        return found

    def without_in_star(self, columns: list[str]) -> dict[str, Any] | None:
        """The tree with ``columns``, properties all, left out of every ``*``; None when there is no ``*``."""
        tree: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.tree))
        changed = False
        for node in _nodes(tree):
            if node.get("type") != "SELECT_NODE":
                continue
            names = _events_in(node.get("from_table"))
            for star in _stars(node):
                aimed = [name for name in names if star["relation_name"].casefold() in ("", name.casefold())]
                named = {entry["key"].casefold() for entry in star["replace_list"]}
                for name in aimed:
                    star["qualified_exclude_list"] += [
                        {"catalog": "", "schema": "", "table": name, "column": column}
                        for column in columns
                        if column.casefold() not in named
                    ]
                    changed = True
        return tree if changed else None


def parse(connection: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """Judge a text.

    Raises:
        QueryRefused: it is not one SELECT, or it reaches for something outside the warehouse's tables.
    """
    if len(sql) > _LENGTH_MAX:
        raise QueryRefused(f"The SQL has {len(sql):,} characters; at most {_LENGTH_MAX:,} are allowed.")
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    try:
        tree = _tree.decode(row[0] if row else "{}")
        if tree.get("error"):
            raise _unparsed(tree)
        count = len(tree["statements"])
        if count != 1:
            raise QueryRefused(
                "There is no SQL to run." if count == 0 else f"There are {count} statements; one SELECT may run."
            )
        _judge(tree, _system_names())
    except RecursionError as error:
        raise QueryRefused("The SQL is nested too deeply.") from error
    if any(node.get("show_type") == "SHOW_SPECIAL" for node in _nodes(tree)):
        # DuckDB would list what is registered for the views, too.
        return parse(connection, _SHOW_TABLES)
    return Statement(tree)


def render(connection: duckdb.DuckDBPyConnection, tree: dict[str, Any]) -> str:
    """The text that DuckDB makes of a tree. It is what runs: nothing that was not judged can be in it."""
    row = connection.execute("SELECT json_deserialize_sql(?::JSON)", [msgspec.json.encode(tree).decode()]).fetchone()
    assert row is not None
    return str(row[0])


def _unparsed(tree: dict[str, Any]) -> QueryRefused:
    if tree.get("error_type") == "not implemented":
        return QueryRefused(
            "Only SELECT may run here (also WITH, VALUES, DESCRIBE, SUMMARIZE and SHOW TABLES).",
            hint="The warehouse is read-only through SQL.",
        )
    return QueryRefused(f"The SQL cannot be parsed: {tree.get('error_message', 'syntax error')}.")


@cache
def _system_names() -> frozenset[str]:
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE internal"
            " UNION SELECT table_name FROM duckdb_tables() WHERE internal"
        ).fetchall()
    return frozenset(name.casefold() for (name,) in rows)


def _judge(tree: dict[str, Any], system: frozenset[str]) -> None:
    nodes = list(_nodes(tree))
    ctes = {entry["key"].casefold() for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])}
    if taken := sorted(ctes & system):
        # Where such a name is out of the CTE's scope it would mean the system's own table.
        raise QueryRefused(f"{taken[0]} is a name of the system.", hint="Call the CTE something else.")
    tables = _TABLES | ctes
    for node in nodes:
        kind = str(node.get("type", ""))
        if ("cte_map" in node or kind.endswith("_NODE")) and kind not in _NODES:
            raise QueryRefused("Only SELECT may run here.", hint="The warehouse is read-only through SQL.")
        if "sample" in node and "alias" in node and kind not in _SOURCES:
            raise QueryRefused(f"FROM may not name a source of this kind ({kind}).", hint=_HINT)
        if kind == "BASE_TABLE":
            _judge_table(node["qualified_name"]["path"], tables)
        elif kind == "SHOW_REF":
            _judge_show(node, tables)
        elif kind == "TABLE_FUNCTION":
            _judge_table_function(node["function"])
        elif node.get("class") == "FUNCTION":
            _judge_function(node)


def _judge_table(path: list[str], tables: frozenset[str]) -> None:
    if len(path) == 1 or path[:-1] == ["main"]:
        name = path[-1].casefold()
        if name in tables:
            return
    raise QueryRefused(f"There is no table {'.'.join(path)}.", hint=_HINT)


def _judge_show(node: dict[str, Any], tables: frozenset[str]) -> None:
    name = node["table_name"].strip('"')
    if node["show_type"] == "SHOW_SPECIAL" and name != "tables":
        raise QueryRefused(f"SHOW {name.upper()} may not run here.", hint="SHOW TABLES may.")
    if node["show_type"] not in ("SHOW_SPECIAL", "DESCRIBE", "SUMMARY", "SHOW"):
        raise QueryRefused("This kind of SHOW may not run here.", hint="SHOW TABLES may.")
    if node["show_type"] != "SHOW_SPECIAL" and node.get("query") is None:
        _judge_table(node["qualified_name"]["path"], tables)


def _judge_table_function(function: dict[str, Any]) -> None:
    name = function.get("function_name", "")
    if function.get("class") != "FUNCTION" or function.get("schema") or name.casefold() not in _TABLE_FUNCTIONS:
        raise QueryRefused(f"FROM may not call {name}.", hint=f"{_HINT} Files and addresses cannot be read.")


def _judge_function(function: dict[str, Any]) -> None:
    name = function["function_name"].casefold()
    if name in _FUNCTIONS_REFUSED or name.startswith(_PREFIXES_REFUSED):
        raise QueryRefused(f"The function {name} may not be called here.")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree, outer ones first, in the order of the text."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(reversed(value.values()))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _events_in(source: Any) -> list[str]:
    """The names under which ``events``, or ``profile_events``, itself stands in one FROM clause."""
    if not isinstance(source, dict):
        return []
    if source.get("type") == "BASE_TABLE" and source["table_name"].casefold() in _WITH_PROPERTIES:
        return [source["alias"] or source["table_name"]]
    if source.get("type") == "JOIN":
        return _events_in(source["left"]) + _events_in(source["right"])
    return []


def _stars(select: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The ``*`` of one select list, not those of the selects inside it."""
    waiting: list[Any] = list(select["select_list"])
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("type") in _NODES:
                continue
            if value.get("class") == "STAR":
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
