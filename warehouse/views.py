"""The views that a query sees: each table is the files of one snapshot and the uncommitted tail; ``objects`` is made of one.

A property becomes a column of ``events`` only where the query would not bind without it. So data that arrives can
never change what a query means: a column of the table wins, and so does an alias, a CTE's column or anything else that
the query itself calls by that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warehouse.catalogue import SEED, Kind, SqlType, wider
from warehouse.schema import COLUMNS, TableName

__all__ = [
    "OBJECTS_VIEW",
    "STORE",
    "PropertyColumns",
    "identifier",
    "literal",
    "store_view",
    "table_view",
    "tail_name",
]

STORE = "store"
"""Schema of the views below the ones that queries name."""

OBJECTS_VIEW = f"""
CREATE OR REPLACE VIEW main.objects AS
SELECT latest.identity, latest.source_id, latest.collection, latest.object_id AS id,
       CAST(COALESCE(merged.properties, '{{}}') AS JSON) AS properties, latest.received_at, latest."offset"
FROM (
    SELECT * FROM {STORE}.object_changes
    QUALIFY row_number() OVER (
        PARTITION BY identity, collection, object_id ORDER BY received_at DESC, "offset" DESC
    ) = 1
) AS latest
LEFT JOIN (
    SELECT identity, collection, object_id,
           '{{' || string_agg(CAST(to_json(name) AS VARCHAR) || ':' || value, ',' ORDER BY name) || '}}' AS properties
    FROM (
        SELECT change.identity, change.collection, change.object_id, field.key AS name,
               COALESCE(CAST(field.value AS VARCHAR), 'null') AS value
        FROM {STORE}.object_changes AS change, json_each(TRY_CAST(change.properties AS JSON)) AS field
        QUALIFY row_number() OVER (
            PARTITION BY change.identity, change.collection, change.object_id, field.key
            ORDER BY change.received_at DESC, change."offset" DESC
        ) = 1
    )
    GROUP BY identity, collection, object_id
) AS merged USING (identity, collection, object_id)
"""  # noqa: S608  # the one name in it is a constant
"""SQL that makes ``objects``: each object once, of each of its properties the value that was received last.

What one request or upload sets shares its moment; there the log's order decides. A property set to null is null; none is
ever taken away. ``source_id``, ``received_at`` and ``offset`` are those of the last change.
"""

_SQL = {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "long": "BIGINT"}
_JSON_COLUMNS = ("properties", "traits", "context", "integrations", "extra")
_SPELLINGS_MAX = 8


def identifier(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL has it."""
    quoted = "'" + text.replace("'", "''") + "'"
    # The parser takes a NUL for the end of the text.
    return quoted if "\0" not in quoted else "(" + quoted.replace("\0", "' || chr(0) || '") + ")"


def tail_name(table: TableName) -> str:
    """Under this name the rows of the tail are registered."""
    return f"tail_of_{table}"


def store_view(table: TableName, files: Sequence[str]) -> str:
    """SQL that makes the union of the snapshot's files and the tail.

    The reader is told names and types by field id, so it opens no file to learn them, and a column that older files
    lack reads as NULL.
    """
    # count(*) over a union reads the first column, whatever it is: a small one, then.
    columns = ", ".join(identifier(column.name) for column in reversed(COLUMNS[table]))
    union = f"SELECT {columns} FROM {tail_name(table)}"  # noqa: S608  # names and literals are quoted
    if files:
        fields = ", ".join(
            f"{column.number}: {{name: {literal(column.name)}, type: {literal(_SQL[column.kind])}, default_value: NULL}}"
            for column in COLUMNS[table]
        )
        paths = ", ".join(literal(path) for path in files)
        union = f"SELECT {columns} FROM read_parquet([{paths}], schema = MAP {{{fields}}}) UNION ALL {union}"  # noqa: S608
    return f"CREATE OR REPLACE VIEW {STORE}.{table} AS {union}"


def table_view(table: TableName, exposed: Mapping[str, str] | None = None, *, as_json: bool = False) -> str:
    """SQL that makes the view which queries name.

    ``exposed`` adds columns, name to expression. ``as_json`` gives the JSON texts the type JSON, so that
    ``properties.plan`` reads a key; it costs a parse of every value, and is used only where the query needs it.
    """
    columns = [
        f"CAST({identifier(column.name)} AS JSON) AS {identifier(column.name)}"
        if as_json and column.name in _JSON_COLUMNS
        else identifier(column.name)
        for column in COLUMNS[table]
    ]
    columns += [f"{expression} AS {identifier(name)}" for name, expression in (exposed or {}).items()]
    return f"CREATE OR REPLACE VIEW main.{table} AS SELECT {', '.join(columns)} FROM {STORE}.{table}"  # noqa: S608


class PropertyColumns:
    """What the catalogue offers beside the fixed columns of ``events``. Names compare as DuckDB's do, without case."""

    def __init__(self, types: Mapping[Kind, Mapping[str, SqlType]]) -> None:
        self._keys: dict[str, list[tuple[Kind, str, SqlType]]] = {}
        kinds: tuple[Kind, ...] = ("properties", "traits")
        for kind in kinds:
            for name, sql_type in types[kind].items():
                self._keys.setdefault(name.lower(), []).append((kind, name, sql_type))
        self._fixed = frozenset(column.name for column in COLUMNS["events"])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._keys and name.lower() not in self._fixed

    def names(self) -> list[str]:
        """Every name on offer, each in the spelling seen first."""
        return [keys[0][1] for folded, keys in self._keys.items() if folded not in self._fixed]

    def expression(self, name: str) -> str:
        """SQL for one of them: the first of these that has a value.

        The property of exactly this spelling, properties that differ in case only, then traits likewise; of eight
        spellings at most.
        """
        keys = sorted(self._keys[name.lower()], key=lambda key: (key[0] != "properties", key[1] != name))
        keys = keys[:_SPELLINGS_MAX]
        sql_type = keys[0][2]
        for _, _, other in keys[1:]:
            sql_type = wider(sql_type, other)
        if name.lower() in SEED:
            sql_type = SEED[name.lower()]
        values = [_value(kind, key, sql_type, seeded=name.lower() in SEED) for kind, key, _ in keys]
        return values[0] if len(values) == 1 else f"COALESCE({', '.join(values)})"


def _value(kind: Kind, key: str, sql_type: SqlType, *, seeded: bool) -> str:
    # A JSON pointer takes any key; the other notation would give dots, quotes and stars a meaning.
    pointer = literal("/" + key.replace("~", "~0").replace("/", "~1"))
    if sql_type == "JSON":
        return f"json_extract({kind}, {pointer})"
    text = f"json_extract_string({kind}, {pointer})"
    if sql_type == "VARCHAR":
        return text
    value = f"TRY_CAST({text} AS {sql_type})"
    # A seeded column reads text as well, and the text "NaN" would make every average of it NaN.
    return f"CASE WHEN isfinite({value}) THEN {value} END" if seeded else value
