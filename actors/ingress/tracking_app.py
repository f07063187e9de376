"""The door as a plain ASGI application: tracking requests go to it, everything else to the control API.

The public port uses it for what its protocol does not answer by itself (preflights, pipelined requests, the API); Serve's own
HTTP door uses it for everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from actors.ingress.answers import Headers, Send, cors, error_body, send_answer
from actors.ingress.body import ClientGone, Receive, read_body
from actors.ingress.door import Door
from actors.ingress.exchange import PATHS, Exchange
from segment_do.errors import MalformedBody, SegmentDoError
from segment_do.settings import IngressSettings

__all__ = ["TrackingApp"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_Answer = tuple[int, bytes, Headers | None]


class _Awaited(Exchange):
    """Its answer is waited for."""

    __slots__ = ("answered",)

    def __init__(self, kind: str, scope: Scope) -> None:
        super().__init__(kind, scope["client"][0] if scope.get("client") else None, scope["headers"])
        self.answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()

    def answer(self, status: int, body: bytes, headers: Headers | None) -> None:
        if not self.answered.done():  # its client may have gone
            self.answered.set_result((status, body, headers))


class TrackingApp:
    """ASGI application. One event loop uses it."""

    def __init__(self, settings: IngressSettings, door: Door, elsewhere: App) -> None:
        self._settings = settings
        self._door = door
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = PATHS.get(scope.get("path", ""))
        if kind is None:
            await self._elsewhere(scope, receive, send)
        elif scope["method"] == "POST":
            await self._track(_Awaited(kind, scope), receive, send)
        else:
            await _answer_others(scope, send)

    async def _track(self, exchange: _Awaited, receive: Receive, send: Send) -> None:
        if self._door.admit(exchange):
            try:
                body = await read_body(
                    receive,
                    max_bytes=self._settings.max_body_bytes,
                    timeout_seconds=self._settings.body_timeout_seconds,
                )
            except SegmentDoError as error:
                self._door.refuse(exchange, error)
            except (ClientGone, asyncio.CancelledError) as gone:
                self._door.leave(exchange)
                if isinstance(gone, asyncio.CancelledError):
                    raise
                return
            else:
                self._door.take(exchange, body)
        await send_answer(send, *await exchange.answered)


async def _answer_others(scope: Scope, send: Send) -> None:
    """Preflights, and methods that a tracking path does not take."""
    asked = dict(scope["headers"])
    origin = asked.get(b"origin")
    if scope["method"] == "OPTIONS":
        wanted = asked.get(b"access-control-request-headers", b"")
        await send_answer(send, 200, b"{}", cors(origin, wanted) if origin else None)
        return
    error = MalformedBody("This path takes POST.", code="method_not_allowed")
    headers = cors(origin) if origin else []
    await send_answer(send, 405, error_body(error), [*headers, (b"allow", b"POST, OPTIONS")])
