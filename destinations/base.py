"""What a destination is: a declaration, and a sender made from it and somebody's settings.

A destination is data: its type, what it is for, the settings it takes. Forms, validation, masking and the docs are
derived from that; ``make`` turns valid settings into a sender, and the sender alone knows the vendor. A sender says
what came of an attempt (:class:`Outcome`); whether to try again is decided in one place, ``destinations/retry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

__all__ = ["Destination", "DestinationConfig", "Exchange", "Field", "Outcome", "Request", "Sender", "WholeEvent"]

FieldType = Literal["text", "url", "boolean", "integer", "choice", "mapping"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a destination."""

    name: str
    label: str
    description: str
    type: FieldType
    required: bool = False
    secret: bool = False
    """Never shown again once stored. Of a ``mapping``, the values are secret and the names are not."""
    default: Any = None
    choices: tuple[str, ...] = ()
    """For ``choice``: what may be chosen."""
    minimum: int | None = None
    """For ``integer``."""
    maximum: int | None = None
    """For ``integer``."""


class WholeEvent(NamedTuple):
    """One event, ready to be sent."""

    message_id: str
    body: bytes
    """The event as JSON (``segment_do.events.whole``)."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of one attempt."""

    status: int | None = None
    """HTTP status (or its like); None when no answer came."""
    error: str | None = None
    """Stable code of what went wrong before there was an answer: ``timeout``, ``connection_refused``,
    ``connection_reset``, ``name_not_found``, ``tls``, ``network`` are tried again; any other code
    (``address_refused``, ``unsendable``, ``unreadable``, ``sender_failed``) is not."""
    detail: str = ""
    """A sentence for people. Never holds a secret."""
    retry_after: str | None = None
    """The ``Retry-After`` header as it came."""
    response: bytes = b""
    """First 4 KB of the answer's body."""


class Request(NamedTuple):
    """One HTTP request, as a sender asks for it."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class Exchange(Protocol):
    """Sends one request, once; never raises for what the network does. ``destinations/http.py`` is the real one."""

    async def __call__(self, request: Request) -> Outcome: ...


class Sender(Protocol):
    """Sends events to one configured destination. Holds no state that a restart would miss."""

    @property
    def batch_size(self) -> int:
        """Most events that one call takes, at least 1."""
        ...

    async def send(self, events: Sequence[WholeEvent]) -> Sequence[Outcome]:
        """One attempt at 1 to ``batch_size`` events; one outcome for each, in order.

        The same event may come again (at least once): whoever has a field for an idempotency key fills it with
        something that depends on the message ids alone.
        """
        ...


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Declaration of one type of destination."""

    type: str
    name: str
    description: str
    fields: tuple[Field, ...]
    make: Callable[[Mapping[str, Any], Exchange], Sender]
    """A sender from settings that the registry has validated, and the one way to the network."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """What the fields alone cannot say. Raises :class:`~segment_do.errors.InvalidRequest`."""


class DestinationConfig(msgspec.Struct, kw_only=True, rename="camel"):
    """A destination somebody set up. Its repr leaves the settings out: they hold secrets."""

    id: str
    type: str
    source_id: str | None
    """Deliver the events of this source; None = of all."""
    name: str
    settings: dict[str, Any]
    enabled: bool = True
    created_at: int = 0
    """Microseconds since the epoch."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"DestinationConfig({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives every struct this method, with all its fields; rich prints what it returns.
        return [(name, getattr(self, name)) for name in ("id", "type", "source_id", "name", "enabled", "created_at")]
