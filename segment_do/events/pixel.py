"""Events in an image's address: what a page or a mail can send without a script.

Rules: Segment's pixel tracking API. ``data`` holds the event as base64 of JSON, in the ordinary or the URL-safe alphabet, padded or
not; or the event's fields are parameters of their own, dots between the levels (``properties.subject=Hello``). Nothing here
checks the event itself; that is the intake's work.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from segment_do.errors import MalformedBody

__all__ = ["GIF", "pixel_event"]

GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent point."""
_MOST_FIELDS: Final = 1_000
_DEEPEST: Final = 16


def pixel_event(query: bytes) -> bytes:
    """The event of a pixel's query string, as JSON.

    Raises:
        MalformedBody: ``data`` is no base64, or there are too many parameters or levels.
    """
    try:
        given = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise MalformedBody(f"The query cannot be read: {error}.") from None
    for name, value in given:
        if name == "data":
            return _decoded(value)
    event: dict[str, Any] = {}
    for name, value in given:
        _put(event, name.split("."), value)
    return msgspec.json.encode(event)


def _decoded(data: str) -> bytes:
    # A plus that was not escaped has become a space on its way.
    plain = data.strip().replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedBody("The pixel's data is not base64.") from None


def _put(event: dict[str, Any], path: list[str], value: str) -> None:
    if len(path) > _DEEPEST:
        raise MalformedBody(f"A parameter has more than {_DEEPEST} levels.")
    for step in path[:-1]:
        inner = event.setdefault(step, {})
        if not isinstance(inner, dict):
            raise MalformedBody("One parameter is both a value and a level.")
        event = inner
    event[path[-1]] = value
