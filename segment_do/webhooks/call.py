"""One call of a webhook, and what comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from segment_do.errors import InvalidEvent, MalformedBody

__all__ = ["Call", "Hook", "Made", "Unmapped", "WebhookConfig", "decoded", "event_id"]


class WebhookConfig(msgspec.Struct, frozen=True):
    """What makes a source a webhook. Its repr leaves the settings out: they hold secrets."""

    kind: str
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"WebhookConfig(kind={self.kind!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives every struct this method, with all its fields; rich prints what it returns.
        return [("kind", self.kind)]


class Call(NamedTuple):
    """What was posted. Header names are lower case; ``body`` is as the sender signed it, gzip undone."""

    source_id: str
    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]


class Unmapped(NamedTuple):
    """A part of a call that no event could be made of; it is set aside with its reason."""

    payload: bytes
    error: InvalidEvent


class Made(NamedTuple):
    """What comes of a call."""

    events: list[bytes | Unmapped]
    """Events as JSON objects, as ``/v1/batch`` takes them, in order."""
    ignored: int = 0
    """Parts that are understood and make no event."""
    reply: dict[str, Any] = {}  # noqa: RUF012  # a default that nobody changes
    """Fields that the sender wants to see in the answer."""


class Hook(Protocol):
    """One source's webhook, its settings read."""

    @property
    def signed(self) -> bool:
        """Whether calls prove by a signature whose they are. Where not, the write key has to come with them."""
        ...

    def verify(self, call: Call) -> None:
        """Raises Unauthorized: the signature is missing or wrong. Called where :attr:`signed`."""
        ...

    async def take(self, call: Call) -> Made:
        """The events of a call.

        Raises:
            MalformedBody: the body is no JSON.
            Busy: come again later.
        """
        ...


def decoded(body: bytes) -> Any:
    """The JSON of a body.

    Raises:
        MalformedBody: it is none.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedBody(f"The body cannot be read: {reason}.") from None


def event_id(source_id: str, delivery: str, index: int) -> str:
    """A message id that is the same each time a sender repeats a delivery, and differs between sources."""
    return "webhook-" + hashlib.sha256(f"{source_id}\n{delivery}\n{index}".encode("utf-8", "replace")).hexdigest()[:32]
