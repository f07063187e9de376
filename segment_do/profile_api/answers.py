"""The answers of the Profile API, in the shapes of Segment's. What is not known is null; nothing is invented.

Profiles, traits and links come as :mod:`segment_do.identity.questions` tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from segment_do.computed import COMPUTED_SOURCE
from segment_do.events.timestamps import iso
from segment_do.profile_api.call import Call, invalid
from segment_do.profile_api.events import COLUMNS, next_after
from segment_do.profile_api.pages import read_next, write_next

__all__ = [
    "DELETED_IDS",
    "Part",
    "event_items",
    "events_answer",
    "external_ids_answer",
    "links_data",
    "metadata_answer",
    "traits_answer",
]

Part = dict[str, Any]
"""A whole answer, as JSON values."""
T = TypeVar("T")

DELETED_IDS: Final = "delete_external_ids"
_MOST_LINKS: Final = 20


def traits_answer(call: Call, told: Part) -> Part:
    """``{"traits": {…}, "cursor"}``; with ``verbose`` each trait is ``{value, source_id, updated_at}``.

    Those of events, and computed ones and audiences that the profile has; with ``class`` only those. Where an event has set a trait of a
    computed one's name, the computed one is told.

    Raises:
        InvalidRequest: the page is none of ours.
    """
    computed = {
        key: {"name": key, "value": each["value"], "sourceId": COMPUTED_SOURCE, "updatedAt": each["updatedAt"]}
        for key, each in told["computed"].items()
        if call.of_class in (None, each["class"])
    }
    of_events = {} if call.of_class else {each["name"]: each for each in told["traits"]}
    traits = [each for _name, each in sorted({**of_events, **computed}.items())]
    if call.include:
        traits = [each for each in traits if each["name"] in call.include]
    page, following = _page(call, traits, lambda each: str(each["name"]))
    return {
        "traits": {
            each["name"]: {"value": _raw(each["value"]), "source_id": each["sourceId"], "updated_at": each["updatedAt"]}
            if call.verbose
            else _raw(each["value"])
            for each in page
        },
        "cursor": _cursor(call, following),
    }


def external_ids_answer(call: Call, told: Part) -> Part:
    """``{"data": [{source_id, collection, id, type, created_at, encoding, first_message_id}], "cursor"}``.

    Raises:
        InvalidRequest: the page is none of ours.
    """
    ids = told["externalIds"]
    if call.include:
        ids = [each for each in ids if each["type"] in call.include]
    page, following = _page(call, ids, lambda each: f"{each['type']}:{each['id']}")
    return {
        "data": [
            {**_external_id(each, told["collection"]), "first_message_id": each["messageId"] or None} for each in page
        ],
        "cursor": _cursor(call, following),
    }


def events_answer(call: Call, rows: Sequence[list[Any]]) -> Part:
    """``{"data": […], "cursor"}`` of the rows read for one page: at most one more than ``limit``."""
    page = list(rows[: call.limit])
    following = next_after(page[-1]) if len(rows) > call.limit else ""
    return {"data": event_items(page), "cursor": _cursor(call, following)}


def metadata_answer(told: Part, newest: Sequence[list[Any]]) -> Part:
    """``{"metadata": {…}}``, with ``newest`` the rows of the profile's last event, if it had one lately. A profile does not expire."""
    first = min(told["externalIds"], key=lambda each: (each["firstSeen"], each["messageId"]))
    last = dict(zip(COLUMNS, newest[0], strict=True)) if newest else {}
    return {
        "metadata": {
            "created_at": told["firstSeen"],
            # An id knows the hour in which it was last seen.
            "updated_at": max(told["lastSeen"], iso(last["at"])) if last else told["lastSeen"],
            "expires_at": None,
            "first_message_id": first["messageId"] or None,
            "first_source_id": first["sourceId"] or None,
            "last_message_id": last.get("message_id"),
            "last_source_id": last.get("source_id"),
        }
    }


def links_data(told: Part) -> list[Part]:
    """The ``data`` of links: ``[{to_collection, external_ids: [{id, type, source_id, collection, created_at, encoding}]}]``."""
    return [
        {
            "to_collection": each["collection"],
            "external_ids": [_external_id(one, each["collection"]) for one in each["externalIds"]],
        }
        for each in told["links"][:_MOST_LINKS]
    ]


def event_items(rows: Sequence[list[Any]]) -> list[Part]:
    """Events as the Profile API tells them, from rows of :data:`~.events.COLUMNS`."""
    return [_event(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def _event(row: Part) -> Part:
    ids = [("users", "user_id", row["user_id"]), ("users", "anonymous_id", row["anonymous_id"])]
    ids.append(("accounts", "group_id", row["group_id"]))
    return {
        "external_ids": [
            {"collection": collection, "type": kind, "id": value, "encoding": "none"}
            for collection, kind, value in ids
            if value
        ],
        "context": _object(row["context"]),
        "type": row["type"],
        "message_id": row["message_id"],
        "source_id": row["source_id"],
        "timestamp": iso(row["at"]),
        "properties": _object(row["properties"] or row["traits"]),
        "event": row["event"],
        "related": {"users": [row["profile_id"]] if row["profile_id"] else []},
    }


def _external_id(each: Part, collection: str) -> Part:
    return {
        "source_id": each["sourceId"],
        "collection": collection,
        "id": each["id"],
        "type": each["type"],
        "created_at": each["firstSeen"],
        "encoding": "none",
    }


def _page(call: Call, all_of: Sequence[T], name: Callable[[T], str]) -> tuple[list[T], str]:
    """One page, and the ``next`` of the one behind it, empty where there is none."""
    begin = 0
    if call.next is not None:
        try:
            wanted = read_next(call.next)
        except ValueError:
            raise invalid("next is not what a page before has told.") from None
        begin = next((place for place, each in enumerate(all_of) if name(each) == wanted), -1)
        if begin < 0:
            raise invalid("next names what is no longer there; begin again without it.")
    end = begin + call.limit
    return list(all_of[begin:end]), write_next(name(all_of[end])) if end < len(all_of) else ""


def _cursor(call: Call, following: str) -> Part:
    return {"url": call.path, "has_more": bool(following), "next": following, "limit": call.limit}


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _object(text: str | None) -> msgspec.Raw | Part:
    return _raw(text) if text else {}
