"""SQL for a page of a profile's events."""

from __future__ import annotations

from collections.abc import Iterable

from segment_do.profile_api import EventsWanted
from warehouse.views import literal

__all__ = ["profile_events_sql"]


def profile_events_sql(wanted: EventsWanted) -> str:
    """One SELECT of the columns that :data:`segment_do.profile_api.events.COLUMNS` names; every text in it is quoted."""
    carried = [
        f"{column} IN ({_list(values)})"
        for column, values in (
            ("user_id", wanted.user_ids),
            ("anonymous_id", wanted.anonymous_ids),
            ("group_id", wanted.group_ids),
        )
        if values
    ]
    conditions = [
        f"identity = {literal(wanted.identity)}",
        f'"timestamp" >= make_timestamptz({wanted.start:d}) AND "timestamp" < make_timestamptz({wanted.end:d})',
        f"({' OR '.join(carried) or 'false'})",
    ]
    if wanted.include:
        conditions.append(f"event IN ({_list(wanted.include)})")
    if wanted.exclude:
        conditions.append(f"(event IS NULL OR event NOT IN ({_list(wanted.exclude)}))")
    if wanted.after is not None:
        at, offset = wanted.after
        sign = ">" if wanted.ascending else "<"
        conditions.append(f'(epoch_us("timestamp"), "offset") {sign} ({at:d}, {offset:d})')
    order = "ASC" if wanted.ascending else "DESC"
    return (  # every text in it is quoted above
        "SELECT message_id, type, event, source_id, user_id, anonymous_id, profile_id, group_id,"  # noqa: S608
        ' epoch_us("timestamp") AS at, "offset", properties, traits, context'
        f" FROM events WHERE {' AND '.join(conditions)}"
        f' ORDER BY "timestamp" {order}, "offset" {order} LIMIT {wanted.limit + 1:d}'
    )


def _list(values: Iterable[str]) -> str:
    return ", ".join(map(literal, values))
