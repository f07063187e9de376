"""From a call to the bytes of one event: Segment's spec applied where the event is made.

Pure: no clock, no randomness, no I/O; both are parameters. The event is encoded within the call, so what a caller
does to its objects afterwards cannot change it. Whatever comes out is one valid JSON object of at most
:data:`MAX_EVENT_BYTES`; whatever cannot become one is an :class:`~segment_do.errors.InvalidEvent` that names the field.

Rules: Segment's spec, common fields (ids are text, times are ISO 8601) and limits of the HTTP tracking API.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from segment_do.errors import InvalidEvent
from segment_do.sdk.values import encode_value, repaired
from segment_do.version import __version__

__all__ = ["MAX_EVENT_BYTES", "Message", "build", "instant", "new_message_id", "text_id"]

MAX_EVENT_BYTES: Final = 32_768
"""Largest event that the contract allows, bytes of its JSON."""

_MAX_MESSAGE_ID: Final = 100
_LIBRARY: Final = {"name": "segment_do", "version": __version__}
_CONTEXT: Final = {"library": _LIBRARY}
_PYTHON_SPELLING: Final = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "message_id": "messageId",
    "group_id": "groupId",
    "previous_id": "previousId",
}
_BODY: Final = {
    "track": "properties",
    "page": "properties",
    "screen": "properties",
    "identify": "traits",
    "group": "traits",
    "alias": None,
}
"""For each type, the object that it always carries."""

_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode


class Message(NamedTuple):
    """One event, ready to be sent."""

    message_id: str
    data: bytes
    """The event as a JSON object."""


def build(fields: Mapping[str, Any], *, speaker: str | None, now: float, new_id: Callable[[], str]) -> Message:
    """One event from its fields, spelled as on the wire (``type``, ``event``, ``userId``, ``properties``, …).

    Filled in where absent: ``messageId`` (``new_id()``), ``timestamp`` (``now``, epoch seconds), ``context.library``,
    and ``userId`` = ``speaker`` when the event names neither a user nor an anonymous id. Fields that the spec does not
    know are kept.

    Raises:
        InvalidEvent: the event breaks the contract, or a value in it has no JSON; the message names the field, ``code``
            is the one that the platform itself would give.
    """
    if not isinstance(fields, Mapping):
        raise InvalidEvent(f"An event must be a mapping, not {_kind(fields)}.", code="wrong_type")
    given = dict(fields)
    kind = given.pop("type", None)
    if not isinstance(kind, str) or kind not in _BODY:
        raise InvalidEvent(
            "The event's type must be one of track, identify, page, screen, group, alias.", code="invalid_type"
        )
    user_id = text_id("userId", given.pop("userId", None))
    anonymous_id = text_id("anonymousId", given.pop("anonymousId", None))
    message_id = text_id("messageId", given.pop("messageId", None))
    if user_id is None and (anonymous_id is None or kind == "alias"):
        user_id = speaker
        if user_id is None and anonymous_id is None:
            raise InvalidEvent(
                "The event has neither userId nor anonymousId.",
                hint="Pass user_id=… or anonymous_id=…, or speak through Analytics.for_(agent).",
                code="no_user_anon_id",
            )
    if message_id is None:
        message_id = new_id()
    elif len(message_id) > _MAX_MESSAGE_ID:
        raise InvalidEvent(f"The messageId is longer than {_MAX_MESSAGE_ID} characters.", code="message_id_too_long")
    event: dict[str, Any] = {
        "type": kind,
        "messageId": message_id,
        "timestamp": instant(given.pop("timestamp", None), now),
    }
    if user_id is not None:
        event["userId"] = user_id
    if anonymous_id is not None:
        event["anonymousId"] = anonymous_id
    _check_own_fields(kind, given, user_id)
    body = _BODY[kind]
    if body is not None:
        event[body] = _object(body, given.pop(body, None))
    context = given.pop("context", None)
    event["context"] = _CONTEXT if context is None else {"library": _LIBRARY, **_object("context", context)}
    integrations = given.pop("integrations", None)
    if integrations is not None:
        event["integrations"] = _object("integrations", integrations)
    if given:
        for wrong, right in _PYTHON_SPELLING.items():
            if wrong in given:
                raise InvalidEvent(
                    f"An event in a batch is spelled as on the wire: `{wrong}` must be `{right}`.", code="wrong_field"
                )
        event.update(given)
    data = encode_value(event)
    if len(data) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"The event has {len(data):,} bytes; {MAX_EVENT_BYTES:,} are allowed.", code="event_too_large"
        )
    return Message(message_id, data)


def text_id(name: str, given: object) -> str | None:
    """An id as text: numbers become their digits as in JavaScript, None and "" mean none.

    Raises:
        InvalidEvent: it is something that cannot be an id (a bool, a list, an object).
    """
    if given is None or given == "":
        return None
    if type(given) is str:
        return given if given.isascii() else repaired(given)
    if isinstance(given, Enum):
        return text_id(name, given.value)
    if isinstance(given, str):
        return repaired(str.__str__(given))
    if isinstance(given, UUID):
        return str(given)
    if isinstance(given, float) and math.isfinite(given):
        return str(int(given)) if given.is_integer() and abs(given) < 1e21 else repr(float(given))
    if hasattr(given, "__index__") and not isinstance(given, bool):  # int, and numpy's integers
        try:
            return int.__repr__(operator.index(given))
        except ValueError:  # more digits than the interpreter writes
            raise InvalidEvent(f"`{name}` is a number of too many digits.", code="wrong_type") from None
    raise InvalidEvent(f"`{name}` must be text or a number, not {_kind(given)}.", code="wrong_type")


def instant(given: object, now: float) -> str:
    """A time as ISO 8601. ``None`` is ``now`` (epoch seconds); text is sent as it is when it is ISO 8601.

    A ``datetime`` without a zone is local time, as Python itself reads it; a ``date`` is its midnight in UTC.

    Raises:
        InvalidEvent: it is not a time.
    """
    if given is None:
        return _iso(datetime.fromtimestamp(now, UTC))
    if isinstance(given, datetime):
        try:
            return _iso(given.astimezone(UTC))
        except (OverflowError, ValueError, OSError):
            raise InvalidEvent("`timestamp` is out of range.", code="wrong_type") from None
    if isinstance(given, date):
        return f"{given.isoformat()}T00:00:00.000Z"
    if isinstance(given, str):
        try:
            datetime.fromisoformat(given)
        except ValueError:
            raise InvalidEvent("`timestamp` is text that is not ISO 8601.", code="wrong_type") from None
        return str(given)
    raise InvalidEvent(f"`timestamp` must be a datetime or ISO 8601 text, not {_kind(given)}.", code="wrong_type")


def new_message_id(milliseconds: int, random: bytes) -> str:
    """A version 7 UUID (RFC 9562) from the time and 10 random bytes: unique, and close in time is close in order."""
    time = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}"
    tail = random.hex()
    return f"{time[:8]}-{time[8:]}-7{tail[:3]}-{'89ab'[random[9] & 3]}{tail[3:6]}-{tail[6:18]}"


def _check_own_fields(kind: str, given: dict[str, Any], user_id: str | None) -> None:
    """What the spec demands of each type beyond the common fields; leaves the checked text in ``given``."""
    if kind == "track":
        given["event"] = _name("event", given.get("event"))
        if given["event"] is None:
            raise InvalidEvent("A track call needs the event's name in `event`.", code="missing_event")
    elif kind == "group":
        given["groupId"] = text_id("groupId", given.get("groupId"))
        if given["groupId"] is None:
            raise InvalidEvent("A group call needs a groupId.", code="missing_group_id")
    elif kind == "alias":
        given["previousId"] = text_id("previousId", given.get("previousId"))
        if given["previousId"] is None or user_id is None:
            raise InvalidEvent("An alias call needs userId and previousId.", code="missing_previous_id")
    elif kind != "identify":
        for field in ("name", "category"):
            if field in given:
                name = _name(field, given.pop(field))
                if name is not None:
                    given[field] = name


def _name(field: str, given: object) -> str | None:
    if isinstance(given, Enum):
        given = given.value
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise InvalidEvent(f"`{field}` must be text, not {_kind(given)}.", code="wrong_type")
    return given if type(given) is str else str.__str__(given)


def _object(field: str, given: Any) -> Mapping[str, Any]:
    """A value that has to be a JSON object: a mapping, or something that encodes as one (a dataclass, a model)."""
    if given is None:
        return {}
    if type(given) is dict or isinstance(given, Mapping):
        found: Mapping[str, Any] = given
        return found
    encoded = encode_value(given, path=field)
    if not encoded.startswith(b"{"):
        raise InvalidEvent(f"`{field}` must be an object, not {_kind(given)}.", code="wrong_type")
    decoded: dict[str, Any] = msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
    return decoded


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def _kind(given: object) -> str:
    return "None" if given is None else f"a {type(given).__name__}"
