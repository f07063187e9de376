"""Segment's own webhooks: the events of another workspace, one a call or many, signed.

Rules (contract, section 9): ``X-Signature`` is the lower-case hex of the HMAC-SHA1 of the shared secret over the body as it was sent; of a
batch, a JSON array, over its first element alone. So in a batch nothing but the first event is proven: whoever sees one signed call
can put others behind it. That is Segment's protocol; use TLS, or let single events alone be sent.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec

from segment_do.errors import InvalidEvent, MalformedBody
from segment_do.events.intake import TYPES
from segment_do.events.repair import repair_text
from segment_do.webhooks.call import Call, Made, Unmapped
from segment_do.webhooks.signature import hex_sha1, prove

__all__ = ["SegmentHook", "SegmentSettings"]

_HEADER: Final = "X-Signature"
_NOT_OURS: Final = ("sentAt", "writeKey", "projectId")
"""``timestamp`` is corrected for the device's clock already; with ``sentAt`` beside it, it would be corrected again."""

_decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class SegmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the kind ``segment``."""

    secret: str | None = None
    """The shared secret of Segment's webhook destination; without it, calls need the write key."""


class SegmentHook:
    """Made from settings."""

    def __init__(self, settings: SegmentSettings) -> None:
        self._secret = settings.secret or ""

    @property
    def signed(self) -> bool:
        """Whether there is a secret."""
        return bool(self._secret)

    def verify(self, call: Call) -> None:
        """See :class:`~.call.Hook`."""
        items = _items(call.body)
        if items == []:
            return  # Segment signs nothing where there is nothing
        signed = call.body if items is None else bytes(items[0])
        # As sent is what counts; as JavaScript would write it again is for proxies that write JSON anew.
        expected = [hex_sha1(self._secret, signed)]
        with contextlib.suppress(*_UNREADABLE):
            expected.append(hex_sha1(self._secret, _encode(msgspec.json.decode(signed))))
        prove(call, _HEADER, expected)

    async def take(self, call: Call) -> Made:
        """See :class:`~.call.Hook`."""
        items = _items(call.body)
        made = Made([])
        for item in [call.body] if items is None else items:
            made.events.append(_event(bytes(item)))
        return made


def _items(body: bytes) -> list[msgspec.Raw] | None:
    """The elements of a batch, as they lie in it; None where the body is one event.

    Raises:
        MalformedBody: it is no JSON.
    """
    try:
        if body.lstrip()[:1] == b"[":
            return _decode_items(body)
        _decode_fields(body)
    except _UNREADABLE as error:
        raise MalformedBody(f"The body is neither an event nor an array of events: {error}.") from None
    return None


def _event(body: bytes) -> bytes | Unmapped:
    try:
        fields: dict[str, Any] = _decode_fields(repair_text(body) if b"\\ud" in body.lower() else body)
    except _UNREADABLE:
        return Unmapped(body, InvalidEvent("An element of the batch is no event.", code="malformed_event"))
    kind = bytes(fields.get("type", b"")).strip(b'"').decode("latin-1")
    if kind not in TYPES:
        told = "asks to delete a person, which webhooks cannot do" if kind == "delete" else "is none that is known"
        return Unmapped(body, InvalidEvent(f"The event's type {told}.", code="unsupported_type"))
    if not any(name in fields for name in _NOT_OURS):
        return body
    return _encode({name: value for name, value in fields.items() if name not in _NOT_OURS})
