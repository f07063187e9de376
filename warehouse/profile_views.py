"""Profiles in SQL: views over ``events`` and ``external_id_changes``, with the names and columns of Segment's Profiles Sync.

An event keeps the profile id that was known when it was applied; the *id map*, the last word on each external id, says
which profile that is by now. So nothing is rewritten when profiles become one: reading resolves.

Of an external id that never moved the map says nothing, and what makes its profile id is no function of SQL. So the
ids that events carry are compared with the profiles under which they were stored, by :data:`OWN_ID`, a function that
the query's process adds. An id that no event was ever stored under is not shown: the rules may have refused it.

A query binds the views that it names, and no others.
"""

from __future__ import annotations

import re

from warehouse.views import STORE

__all__ = ["OWN_ID", "PROFILE_VIEWS", "named_views"]

OWN_ID = "own_segment_id"
"""SQL function (type, value) → the profile id that this external id makes by itself."""

_TRIGGER = (
    "triggering_event_type, triggering_event_id, triggering_event_name, source_id AS triggering_event_source_id,"
    ' "offset" AS seq, timestamp, received_at, received_at AS uuid_ts'
)
_HASH = "sha1(external_id_type || ':' || external_id_value) AS external_id_hash"

_LATER = '(COALESCE(generation, 0), "offset")'
"""What is told of an id in a higher generation is later: the shards of one identity reach the log in any order."""

_ID_MAP = f"""
CREATE OR REPLACE VIEW {STORE}.id_map AS
SELECT identity, segment_id, arg_max(canonical_segment_id, {_LATER}) AS canonical_segment_id
FROM {STORE}.external_id_changes WHERE segment_id IS NOT NULL GROUP BY identity, segment_id
"""  # noqa: S608  # here and below: constants only

PROFILE_VIEWS: dict[str, str] = {
    "external_id_mapping_updates": f"""
SELECT identity, external_id_type, external_id_value, {_HASH}, segment_id, canonical_segment_id, {_TRIGGER}
FROM {STORE}.external_id_changes WHERE segment_id IS NOT NULL
""",  # noqa: S608
    "id_graph_updates": f"""
SELECT identity, segment_id, canonical_segment_id, {_TRIGGER}
FROM {STORE}.external_id_changes WHERE segment_id IS NOT NULL
""",  # noqa: S608
    "profile_merges": f"""
SELECT identity, segment_id, canonical_segment_id, {_TRIGGER}
FROM {STORE}.external_id_changes WHERE segment_id <> canonical_segment_id
""",  # noqa: S608
    "profile_events": f"""
SELECT event.*, COALESCE(map.canonical_segment_id, event.profile_id) AS canonical_profile_id
FROM main.events AS event
LEFT JOIN {STORE}.id_map AS map ON map.identity = event.identity AND map.segment_id = event.profile_id
""",  # noqa: S608
    "profile_traits_updates": """
SELECT identity, profile_id AS segment_id, canonical_profile_id AS canonical_segment_id,
       TRY_CAST(traits AS JSON) AS traits, type AS triggering_event_type, message_id AS triggering_event_id,
       event AS triggering_event_name, source_id AS triggering_event_source_id, "offset" AS seq, timestamp,
       received_at, received_at AS uuid_ts
FROM main.profile_events
WHERE type = 'identify' AND profile_id IS NOT NULL AND json_type(TRY_CAST(traits AS JSON)) = 'OBJECT'
""",
    "user_traits": """
SELECT said.identity, said.canonical_segment_id, trait.key AS name,
       CAST(COALESCE(CAST(trait.value AS VARCHAR), 'null') AS JSON) AS value, said.triggering_event_type,
       said.triggering_event_id, said.triggering_event_name, said.triggering_event_source_id, said.seq, said.timestamp,
       said.received_at, said.uuid_ts
FROM main.profile_traits_updates AS said, json_each(said.traits) AS trait
QUALIFY row_number() OVER (
    PARTITION BY said.identity, said.canonical_segment_id, trait.key
    ORDER BY said.timestamp DESC, said.triggering_event_id DESC, said.seq DESC
) = 1
""",
    "user_identifiers": f"""
WITH told AS (
    SELECT identity, external_id_type, external_id_value, any_value(segment_id) AS segment_id,
           arg_max(canonical_segment_id, {_LATER}) AS canonical_segment_id, arg_max("offset", {_LATER}) AS seq,
           arg_max(timestamp, {_LATER}) AS timestamp, arg_max(received_at, {_LATER}) AS received_at
    FROM {STORE}.external_id_changes WHERE segment_id IS NOT NULL
    GROUP BY identity, external_id_type, external_id_value
), seen AS (
    SELECT identity, external_id_type, external_id_value, profile_id AS segment_id, profile_id AS canonical_segment_id,
           min("offset") AS seq, arg_min(timestamp, "offset") AS timestamp, arg_min(received_at, "offset") AS received_at
    FROM (
        SELECT identity, 'user_id' AS external_id_type, user_id AS external_id_value, profile_id, "offset", timestamp,
               received_at
        FROM {STORE}.events WHERE user_id IS NOT NULL AND profile_id IS NOT NULL
        UNION ALL
        SELECT identity, 'anonymous_id', anonymous_id, profile_id, "offset", timestamp, received_at
        FROM {STORE}.events WHERE anonymous_id IS NOT NULL AND profile_id IS NOT NULL
    )
    GROUP BY identity, external_id_type, external_id_value, profile_id
), alone AS (
    SELECT * FROM seen ANTI JOIN told USING (identity, external_id_type, external_id_value)
), known AS (
    SELECT * FROM told
    UNION ALL
    SELECT * FROM alone WHERE segment_id = {OWN_ID}(external_id_type, external_id_value)
)
SELECT identity, canonical_segment_id, external_id_type, external_id_value, {_HASH}, segment_id, seq, timestamp,
       received_at, received_at AS uuid_ts
FROM known
""",  # noqa: S608
    "id_graph": """
SELECT identity, segment_id, canonical_segment_id, seq, timestamp, received_at, uuid_ts FROM main.user_identifiers
""",
}
"""Name to the SELECT that it stands for; each reads what comes before it alone.

*Current* is the change of the highest generation (see :data:`_LATER`), and of those the one with the highest offset. ``profile_events`` has the columns of ``events`` as they are when the
view is made: make it again after ``events``.
"""

_NEEDS = {
    "profile_traits_updates": ("profile_events",),
    "user_traits": ("profile_events", "profile_traits_updates"),
    "id_graph": ("user_identifiers",),
}


def named_views(sql: str) -> dict[str, str]:
    """What has to be made, in this order, for a query that may name these views: name to statement.

    The text is only searched, so a name inside a string or a comment costs a view that nobody reads.
    """
    written = set(re.findall(r"\w+", sql.lower()))
    needed = {name for name in PROFILE_VIEWS if name in written}
    needed.update(each for name in tuple(needed) for each in _NEEDS.get(name, ()))
    if not needed:
        return {}
    made = {
        name: f"CREATE OR REPLACE VIEW main.{name} AS {PROFILE_VIEWS[name]}" for name in PROFILE_VIEWS if name in needed
    }
    return {"id_map": _ID_MAP, **made}
