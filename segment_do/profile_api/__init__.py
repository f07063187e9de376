"""Segment's Profile API as pure rules: what a call asks for, what an answer looks like, and which tokens open a space."""

from segment_do.profile_api.answers import (
    DELETED_IDS,
    Part,
    event_items,
    events_answer,
    external_ids_answer,
    links_data,
    metadata_answer,
    traits_answer,
)
from segment_do.profile_api.call import Call, read_call, read_deletion
from segment_do.profile_api.events import EventsWanted
from segment_do.profile_api.failure import error_answer
from segment_do.profile_api.rate import Rates
from segment_do.profile_api.token import ProfileToken, new_secret, opens

__all__ = [
    "DELETED_IDS",
    "Call",
    "EventsWanted",
    "Part",
    "ProfileToken",
    "Rates",
    "error_answer",
    "event_items",
    "events_answer",
    "external_ids_answer",
    "links_data",
    "metadata_answer",
    "new_secret",
    "opens",
    "read_call",
    "read_deletion",
    "traits_answer",
]
