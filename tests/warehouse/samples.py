"""Records and frames for the warehouse's tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from segment_do.events.record import EXTERNAL_ID, REJECTED, Record, encode_pack
from segment_do.identity.profile import profile_id
from warehouse.columns import Frame

DAY = 86_400_000_000
NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z


def record(number: int = 0, payload: dict[str, Any] | bytes | None = None, **changes: Any) -> Record:
    """A track event, ``m{number}``; ``payload`` is what was sent."""
    sent: dict[str, Any] | bytes = {"type": "track", "event": "Signed Up"} if payload is None else payload
    fields: dict[str, Any] = {
        "message_id": f"m{number}",
        "type": "track",
        "source_id": "src",
        "user_id": f"u{number}",
        "anonymous_id": None,
        "event": "Signed Up",
        "timestamp": NOON + number,
        "received_at": NOON + number,
        "sent_at": None,
        "original_timestamp": None,
        "ip": None,
        "payload": sent if isinstance(sent, bytes) else json.dumps(sent, separators=(",", ":")).encode(),
    }
    return Record(**{**fields, **changes})


def rejected(number: int = 0, *, payload: str = "{}", index: int | None = 0) -> Record:
    """An event that was set aside."""
    reason = {
        "code": "missing_event",
        "message": "event is missing",
        "index": index,
        "type": "track",
        "payload": payload,
    }
    return record(number, reason, type=REJECTED, event="missing_event", user_id=None)


def moved(number: int, kind: str, value: str, to: tuple[str, str] | None = None, **changes: Any) -> Record:
    """What the identity tells of an external id by event ``m{number}``: it is the profile's of ``to`` now, or its own."""
    canonical = profile_id(*(to or (kind, value)))
    told = {
        "type": kind,
        "id": value,
        "segment_id": profile_id(kind, value),
        "canonical_segment_id": canonical,
        "event": {"type": "identify", "message_id": f"m{number}", "name": None},
    }
    if generation := changes.pop("generation", 0):
        told["generation"] = generation
    fields = {"message_id": f"m{number}/{kind}", "type": EXTERNAL_ID, "event": kind, "user_id": None}
    return record(number, told, **{**fields, "profile_id": canonical, **changes})


def frame(first: int, records: Sequence[Record], identity: str = "tom") -> Frame:
    """The records as the log has them."""
    return first, len(records), identity, encode_pack(records)


def track_frames(offsets: Iterable[int], **properties: Any) -> list[Frame]:
    """One frame an offset, a track event each."""
    return [
        frame(offset, [record(offset, {"type": "track", "event": "Signed Up", "properties": properties})])
        for offset in offsets
    ]
