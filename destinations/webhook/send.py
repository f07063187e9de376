"""What a webhook request holds. Rules: Segment's webhook destinations (contract section 9).

``X-Signature`` is the lowercase hex HMAC-SHA1 of the shared secret over the body's exact bytes; of a batch, over the
first element's exact bytes as they lie in the array. ``Idempotency-Key`` is the message id, for a batch a hash of
its ids: the same events in the same order have the same key, in every attempt and after every restart.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from destinations.base import Exchange, Outcome, Request, WholeEvent
from segment_do.errors import InvalidRequest
from segment_do.version import __version__

__all__ = ["MAX_BATCH", "METHODS", "WebhookSender", "check_headers"]

METHODS = ("POST", "PUT", "PATCH")
MAX_BATCH = 4_000

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS = frozenset(
    [
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-signature",
    ]
)


class WebhookSender:
    """Sends to one URL. Settings are those of the declaration, validated."""

    def __init__(self, settings: Mapping[str, Any], exchange: Exchange) -> None:
        self._exchange = exchange
        self._method: str = settings["method"]
        self._url: str = settings["url"]
        self._secret = (settings["secret"] or "").encode()
        self._batch_size: int = settings["batch_size"]
        given: Mapping[str, str] = settings["headers"]
        defaults = {"Content-Type": "application/json", "User-Agent": f"segment_do/{__version__}"}
        taken = {name.lower() for name in given}
        self._headers = [(name, value) for name, value in defaults.items() if name.lower() not in taken]
        self._headers += given.items()

    @property
    def batch_size(self) -> int:
        """Events a request."""
        return self._batch_size

    async def send(self, events: Sequence[WholeEvent]) -> list[Outcome]:
        """One request; its answer holds for all of its events."""
        return [await self._exchange(self.request(events))] * len(events)

    def request(self, events: Sequence[WholeEvent]) -> Request:
        """The request for these events."""
        first = events[0]
        if self._batch_size == 1:
            body, key = first.body, first.message_id
        else:
            body, key = b"[%b]" % b",".join(event.body for event in events), _batch_key(events)
        headers = [*self._headers, ("Idempotency-Key", _header_safe(key))]
        if self._secret:
            headers.append(("X-Signature", hmac.new(self._secret, first.body, hashlib.sha1).hexdigest()))
        return Request(self._method, self._url, headers, body)


def check_headers(settings: Mapping[str, Any]) -> None:
    """Refuse headers that cannot be sent, or that the request sets itself.

    Raises:
        InvalidRequest: names the header, never its value.
    """
    for name, value in settings["headers"].items():
        if not _TOKEN.fullmatch(name):
            raise InvalidRequest(f"The header name {name[:64]!r} is not one that HTTP allows.")
        if name.lower() in _OURS:
            raise InvalidRequest(f"The header {name!r} is set by the request itself.")
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(f"The value of the header {name!r} may hold printable ASCII only.")


def _batch_key(events: Sequence[WholeEvent]) -> str:
    ids = hashlib.sha256()
    for event in events:
        name = event.message_id.encode("utf-8", "surrogatepass")
        ids.update(b"%d:%b" % (len(name), name))
    return ids.hexdigest()


def _header_safe(key: str) -> str:
    """Message ids are any text; a header is printable ASCII without spaces at its ends. Others become their hash."""
    if key.isascii() and key.isprintable() and key.strip() == key and key:
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
