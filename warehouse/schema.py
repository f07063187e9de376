"""Names and kinds of the columns, as plain data: the tables, the rows and the SQL views are all made from it.

``properties``, ``traits``, ``context`` and ``integrations`` are the JSON text as it was sent; ``extra`` is a JSON
object of all other top-level fields. The write key is in none of them. ``event`` is the name of a track event; a page
or a screen has its name in ``name``.

``object_changes`` holds what was set on objects, one row a change; ``properties`` are those of the change alone.

``external_id_changes`` holds whose an external id became, one row a change: ``segment_id`` is the profile id that the
external id makes by itself, ``canonical_segment_id`` that of the profile it belongs to from there on. A change of a higher ``generation`` is later, whatever the offsets say.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import pyarrow as pa

__all__ = ["ARROW", "COLUMNS", "OFFSET", "TABLES", "Column", "TableName"]

TableName = Literal["events", "rejected", "object_changes", "external_id_changes"]

TABLES: tuple[TableName, ...] = ("rejected", "object_changes", "external_id_changes", "events")
"""In the order in which a commit writes them: ``events``, whose offset says what is committed, comes last."""

OFFSET = "segment_do.offset"
"""Property of a table, and key in its snapshots' summaries: log offset after the last event that it holds."""


class Column(NamedTuple):
    """One column. ``number`` is its field id: stored in every file, never used again for another column."""

    number: int
    name: str
    kind: Literal["text", "time", "long"]


# A new column goes to the end, with the next number: files without it then read as NULL there.
COLUMNS: dict[TableName, tuple[Column, ...]] = {
    "events": (
        Column(1, "message_id", "text"),
        Column(2, "type", "text"),
        Column(3, "event", "text"),
        Column(4, "identity", "text"),
        Column(5, "source_id", "text"),
        Column(6, "user_id", "text"),
        Column(7, "anonymous_id", "text"),
        Column(8, "profile_id", "text"),
        Column(9, "group_id", "text"),
        Column(10, "previous_id", "text"),
        Column(11, "name", "text"),
        Column(12, "category", "text"),
        Column(13, "timestamp", "time"),
        Column(14, "received_at", "time"),
        Column(15, "sent_at", "time"),
        Column(16, "original_timestamp", "time"),
        Column(17, "properties", "text"),
        Column(18, "traits", "text"),
        Column(19, "context", "text"),
        Column(20, "integrations", "text"),
        Column(21, "extra", "text"),
        Column(22, "ip", "text"),
        Column(23, "offset", "long"),
    ),
    "rejected": (
        Column(1, "received_at", "time"),
        Column(2, "source_id", "text"),
        Column(3, "identity", "text"),
        Column(4, "code", "text"),
        Column(5, "message", "text"),
        Column(6, "type", "text"),
        Column(7, "message_id", "text"),
        Column(8, "index", "long"),
        Column(9, "payload", "text"),
        Column(10, "offset", "long"),
    ),
    "object_changes": (
        Column(1, "received_at", "time"),
        Column(2, "source_id", "text"),
        Column(3, "identity", "text"),
        Column(4, "collection", "text"),
        Column(5, "object_id", "text"),
        Column(6, "properties", "text"),
        Column(7, "offset", "long"),
    ),
    "external_id_changes": (
        Column(1, "identity", "text"),
        Column(2, "source_id", "text"),
        Column(3, "external_id_type", "text"),
        Column(4, "external_id_value", "text"),
        Column(5, "segment_id", "text"),
        Column(6, "canonical_segment_id", "text"),
        Column(7, "triggering_event_type", "text"),
        Column(8, "triggering_event_id", "text"),
        Column(9, "triggering_event_name", "text"),
        Column(10, "timestamp", "time"),
        Column(11, "received_at", "time"),
        Column(12, "offset", "long"),
        Column(13, "generation", "long"),
    ),
}

_ARROW_TYPES = {
    "text": pa.large_string(),  # 64-bit offsets: compaction joins more than 2 GiB where events are large
    "time": pa.timestamp("us", tz="UTC"),
    "long": pa.int64(),
}

ARROW: dict[TableName, pa.Schema] = {
    table: pa.schema([pa.field(column.name, _ARROW_TYPES[column.kind]) for column in columns])
    for table, columns in COLUMNS.items()
}
"""Each table's columns as Arrow has them."""
