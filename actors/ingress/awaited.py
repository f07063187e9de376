"""An exchange whose answer is waited for, as an ASGI application needs it, and its body, read within the door's bounds."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from actors.ingress.answers import Headers
from actors.ingress.body import ClientGone, Receive, read_body
from actors.ingress.door import Door
from actors.ingress.exchange import Exchange
from segment_do.errors import SegmentDoError
from segment_do.settings import IngressSettings

__all__ = ["AwaitedExchange", "admitted_body"]


class AwaitedExchange(Exchange):
    """Made from an ASGI scope."""

    __slots__ = ("answered",)

    def __init__(self, kind: str, client_side: bool, scope: MutableMapping[str, Any]) -> None:
        client = scope["client"][0] if scope.get("client") else None
        super().__init__(kind, client_side, client, scope["headers"])
        self.answered: asyncio.Future[tuple[int, bytes, Headers | None]] = asyncio.get_running_loop().create_future()

    def answer(self, status: int, body: bytes, headers: Headers | None) -> None:
        """Have it sent."""
        if not self.answered.done():  # its client may have gone
            self.answered.set_result((status, body, headers))


async def admitted_body(
    door: Door, exchange: AwaitedExchange, receive: Receive, settings: IngressSettings
) -> bytes | None:
    """The request's body as it was sent; None where it was refused, which the exchange then holds the answer of.

    Raises:
        ClientGone: there is nobody to answer.
    """
    if not door.admit(exchange):
        return None
    try:
        body = await read_body(
            receive, max_bytes=settings.max_body_bytes, timeout_seconds=settings.body_timeout_seconds
        )
    except SegmentDoError as error:
        door.refuse(exchange, error)
        return None
    except (ClientGone, asyncio.CancelledError):
        door.leave(exchange)
        raise
    return body if len(body) <= exchange.reserved or door.grow(exchange, len(body)) else None
