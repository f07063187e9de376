"""Events as they were counted, or would have been: rows become records again, with what a graph reads of an event and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from segment_do.computed import PastPart, PastWanted
from segment_do.events.record import Record, encode_pack
from warehouse.views import literal

__all__ = ["past_events_sql", "past_part"]


def past_events_sql(wanted: PastWanted) -> str:
    """One SELECT of what :func:`past_part` reads; every text in it is quoted."""
    conditions = [
        f"identity = {literal(wanted.identity)}",
        f'"offset" >= {wanted.begin:d} AND "offset" < {wanted.end:d}',
        f"received_at < make_timestamptz({wanted.received_before:d})",
        f"({' OR '.join(_named(call, names) for call, names in wanted.calls.items()) or 'false'})",
    ]
    if wanted.happened_from is not None:
        conditions.append(f'"timestamp" >= make_timestamptz({wanted.happened_from:d})')
    return (  # every text in it is quoted above
        "SELECT message_id, type, source_id, user_id, anonymous_id, COALESCE(event, name) AS called,"  # noqa: S608
        ' epoch_us("timestamp") AS happened, epoch_us(received_at) AS received, properties, context, "offset"'
        f' FROM events WHERE {" AND ".join(conditions)} ORDER BY "offset" LIMIT {wanted.limit:d}'
    )


def past_part(wanted: PastWanted, rows: list[list[Any]], *, truncated: bool) -> PastPart:
    """The rows as a part; ``truncated``: there were more than are here.

    Where the limit was met there may be more behind the last row, and the part ends with it.
    """
    whole = not truncated and len(rows) < wanted.limit
    position = wanted.end - 1 if whole else rows[-1][-1] if rows else wanted.begin - 1
    return PastPart(encode_pack(map(_record, rows)), len(rows), position)


def _named(call: str, names: Iterable[str] | None) -> str:
    of_type = f"type = {literal(call)}"
    if names is None:
        return f"({of_type})"
    column = "event" if call == "track" else "name"
    return f"({of_type} AND {column} IN ({', '.join(map(literal, names))}))"


def _record(row: list[Any]) -> Record:
    message_id, kind, source_id, user_id, anonymous_id, called, happened, received, properties, context, _offset = row
    parts = [f'"{name}":{text}' for name, text in (("properties", properties), ("context", context)) if text]
    return Record(
        message_id, kind, source_id, user_id, anonymous_id, called,
        happened, received, None, None, None, f"{{{','.join(parts)}}}".encode(),
    )  # fmt: skip
