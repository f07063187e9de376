"""The sender's own word on which destinations an event is for: its ``integrations`` object, and ``_metadata`` (spec, common fields).

``All`` is true unless it says otherwise, and a destination's own name beats it; ``false`` means no, ``true`` or an object
(options for that destination) means yes. Names are case-sensitive. Segment's Go client writes ``all``; it is heard where there is no ``All``.
``_metadata.bundled`` names those that the browser has served itself, so that they do not get the event twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

__all__ = ["is_for"]


class _Event(msgspec.Struct, gc=False):
    integrations: Any = None
    metadata: Any = msgspec.field(default=None, name="_metadata")


_decode = msgspec.json.Decoder(_Event).decode


def is_for(payload: bytes, names: Collection[str]) -> bool:
    """Whether an event (JSON, as sent) may go to the destination of these names. What cannot be read forbids nothing."""
    allowed = b'"integrations"' not in payload or b"false" not in payload
    if allowed and b'"bundled"' not in payload:  # nearly every event
        return True
    try:
        event = _decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return True
    return not _is_served(event.metadata, names) and _is_allowed(event.integrations, names)


def _is_served(metadata: Any, names: Collection[str]) -> bool:
    bundled = metadata.get("bundled") if isinstance(metadata, dict) else None
    return isinstance(bundled, list) and any(name in bundled for name in names)


def _is_allowed(integrations: Any, names: Collection[str]) -> bool:
    if not isinstance(integrations, dict):
        return True
    for name in names:
        if name in integrations:
            return integrations[name] is not False
    return integrations.get("All", integrations.get("all")) is not False
