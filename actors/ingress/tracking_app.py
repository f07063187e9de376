"""The door as a plain ASGI application: tracking requests go to it, everything else to the control API.

The public port uses it for what its protocol does not answer by itself (preflights, pixels, pipelined requests, the API); Serve's
own HTTP door uses it for everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from actors.ingress.answers import OK, Send, cors, error_body, send_answer, status_of
from actors.ingress.awaited import AwaitedExchange, admitted_body
from actors.ingress.body import ClientGone, Receive, read_body
from actors.ingress.door import Door
from actors.ingress.exchange import PATHS
from segment_do.errors import MalformedBody, SegmentDoError
from segment_do.events.pixel import GIF, pixel_event
from segment_do.settings import IngressSettings

__all__ = ["App", "Scope", "TrackingApp", "answer_others", "query_key"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TELEMETRY: Final = frozenset({"/v1/m", "/v1/m/"})
_PIXELS: Final = {
    f"/v1/pixel/{name}{slash}": name
    for name in ("track", "identify", "page", "screen", "group", "alias")
    for slash in ("", "/", ".gif")
}


class TrackingApp:
    """ASGI application. One event loop uses it."""

    def __init__(self, settings: IngressSettings, door: Door, elsewhere: App) -> None:
        self._settings = settings
        self._door = door
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if meant := PATHS.get(path):
            if scope["method"] == "POST":
                await self._track(AwaitedExchange(*meant, scope), scope, receive, send)
            else:
                await answer_others(scope, send, "POST, OPTIONS")
        elif kind := _PIXELS.get(path):
            if scope["method"] in ("GET", "HEAD"):
                await self._pixel(AwaitedExchange(kind, True, scope), scope, send)
            else:
                await answer_others(scope, send, "GET, HEAD, OPTIONS")
        elif path in _TELEMETRY:
            await self._telemetry(scope, receive, send)
        else:
            await self._elsewhere(scope, receive, send)

    async def _track(self, exchange: AwaitedExchange, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            exchange.key = query_key(scope["query_string"])
        try:
            body = await admitted_body(self._door, exchange, receive, self._settings)
        except ClientGone:
            return
        if body is not None:
            self._door.take(exchange, body)
        await send_answer(send, *await exchange.answered)

    async def _pixel(self, exchange: AwaitedExchange, scope: Scope, send: Send) -> None:
        """Whatever comes of it, the page sees a point: an image that does not load is a mark on somebody's page."""
        query = scope["query_string"]
        exchange.length = len(query)
        exchange.key = query_key(query)
        if self._door.admit(exchange):
            try:
                self._door.take(exchange, pixel_event(query))
            except SegmentDoError as error:
                self._door.refuse(exchange, error)
        await exchange.answered
        headers = [
            (b"content-type", b"image/gif"),
            (b"content-length", str(len(GIF)).encode()),
            (b"cache-control", b"no-store"),
            *(cors(exchange.origin) if exchange.origin else []),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": GIF})

    async def _telemetry(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What SDKs tell of themselves: taken, so that they do not send it to somebody else, and thrown away."""
        if scope["method"] != "POST":
            await answer_others(scope, send, "POST, OPTIONS")
            return
        origin = dict(scope["headers"]).get(b"origin")
        headers = cors(origin) if origin else None
        try:
            await self._read(receive)
        except SegmentDoError as error:
            await send_answer(send, status_of(error), error_body(error), headers)
        except ClientGone:
            return
        else:
            await send_answer(send, 200, OK, headers)

    async def _read(self, receive: Receive) -> bytes:
        return await read_body(
            receive,
            max_bytes=self._settings.max_body_bytes,
            timeout_seconds=self._settings.body_timeout_seconds,
        )


async def answer_others(scope: Scope, send: Send, allowed: str) -> None:
    """Preflights, and methods that a path open to browsers does not take."""
    asked = dict(scope["headers"])
    origin = asked.get(b"origin")
    if scope["method"] == "OPTIONS":
        wanted = asked.get(b"access-control-request-headers", b"")
        await send_answer(send, 200, b"{}", cors(origin, wanted) if origin else None)
        return
    error = MalformedBody(f"This path takes {allowed.partition(',')[0]}.", code="method_not_allowed")
    headers = cors(origin) if origin else []
    await send_answer(send, 405, error_body(error), [*headers, (b"allow", allowed.encode())])


def query_key(query: bytes) -> str | None:
    """The write key that an address itself carries, if it does."""
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=1_000)).get("writeKey")
    except ValueError:
        return None
