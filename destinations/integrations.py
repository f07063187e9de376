"""The ``integrations`` object: the sender's own word on which destinations an event is for (spec, common fields).

``All`` is true unless it says otherwise, and a destination's own name beats it; ``false`` means no, ``true`` or an object
(options for that destination) means yes. Names are case-sensitive. Segment's Go client writes ``all``; it is heard where there is no ``All``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

__all__ = ["is_for"]


class _Event(msgspec.Struct, gc=False):
    integrations: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def is_for(payload: bytes, names: Collection[str]) -> bool:
    """Whether an event (JSON, as sent) may go to the destination of these names. An object that cannot be read forbids nothing."""
    if b'"integrations"' not in payload or b"false" not in payload:  # nearly every event
        return True
    try:
        integrations = _decode(payload).integrations
    except (msgspec.DecodeError, RecursionError):
        return True
    if not isinstance(integrations, dict):
        return True
    for name in names:
        if name in integrations:
            return integrations[name] is not False
    return integrations.get("All", integrations.get("all")) is not False
