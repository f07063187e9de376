"""HTTP on the public port: tracking requests go straight from the parser to the door, the rest as uvicorn does it.

A tracking POST needs no ASGI scope, no task and no future: its head and body are collected by the parser's callbacks, and its
answer is one write. Whatever else comes on a connection (the API, preflights, requests sent before the last answer) takes
uvicorn's own way, in its order.

Bounds: a request must have come whole within ``body_timeout_seconds``, head and body together (an upload of the bulk Object API takes
longer, and its application looks after its time, until it has answered); an idle connection is closed
after ``IDLE_SECONDS``; of a body that was refused early some is still read, so that the client can finish writing and read
why, then the connection is closed. One sweep looks after all connections: a timer a request costs more than its parsing.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actors.ingress.answers import OK, Headers, error_body
from actors.ingress.body import body_too_large, body_too_slow
from actors.ingress.door import Door
from actors.ingress.exchange import PATHS, UPLOADS, Exchange
from segment_do.errors import Busy, MalformedBody
from segment_do.settings import IngressSettings

__all__ = ["IDLE_SECONDS", "TrackingProtocol", "sweep"]

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 75.0
_DISCARDED_BODIES: Final = 8
_LARGEST_HEAD_BYTES: Final = 64 * 1024  # and what came with its last part
_PATHS: Final = {path.encode(): meant for path, meant in PATHS.items()}
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n".encode()
    for status in HTTPStatus
}


class TrackingProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, door: Door, settings: IngressSettings, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._door = door
        self._settings = settings
        self._since = self.loop.time()
        self._receiving = False
        self._head_bytes = -1
        """Of the head being received; -1 when none is."""
        self._uploading = False
        self._client: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._client = self.client[0] if self.client else None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was cut off."""
        cycle = self._exchange
        if cycle is not None and not cycle.response_complete and not cycle.whole:
            cycle.response_complete = True
            self._door.leave(cycle)
        super().connection_lost(exc)

    def look(self, now: float) -> None:
        """Cut off what takes too long; ``now`` is the loop's time."""
        waited = now - self._since
        if self._receiving:
            if self._uploading and not self.cycle.response_complete:
                return
            if waited > self._settings.body_timeout_seconds:
                cycle = self._exchange
                if cycle is None or cycle.whole:  # in the middle of a head, or of a body that is not for the door
                    self.transport.close()
                    return
                cycle.keep_alive = False
                if not cycle.response_complete:
                    self._door.refuse(cycle, body_too_slow(self._settings.body_timeout_seconds))
                self.transport.close()
        elif waited > IDLE_SECONDS and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        super().data_received(data)
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's head is too large.")

    # What the parser says

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._receiving = True
        self._uploading = False
        self._head_bytes = 0
        self._since = self.loop.time()

    def on_headers_complete(self) -> None:
        """A head is whole: the door's, or uvicorn's own way."""
        self._head_bytes = -1
        meant = _PATHS.get(self.url)
        parser = self.parser
        if (
            meant is None
            or parser.get_method() != b"POST"
            or (self.cycle is not None and not self.cycle.response_complete)
            or parser.should_upgrade()
        ):
            self._as_uvicorn_does()
            return
        exchange = _Exchange(self, *meant, parser.should_keep_alive() and parser.get_http_version() != "1.0")
        self.cycle = cast(Any, exchange)
        if len(self.connections) > (self.limit_concurrency or 0):
            exchange.keep_alive = False
            self._door.counts.requests += 1
            self._door.refuse(exchange, Busy("There are too many connections.", retry_after=1))
        elif self._door.admit(exchange) and self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
            return
        exchange.size += len(body)
        if exchange.response_complete:
            if exchange.size > _DISCARDED_BODIES * self._settings.max_body_bytes:
                self.transport.close()
        elif exchange.size > self._settings.max_body_bytes:
            exchange.parts = []
            self._door.refuse(exchange, body_too_large(self._settings.max_body_bytes))
        elif exchange.size <= exchange.reserved or self._door.grow(exchange, exchange.size):
            exchange.parts.append(body)
        else:
            exchange.parts = []

    def on_message_complete(self) -> None:
        """A request has come whole."""
        self._receiving = False
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
        elif not exchange.response_complete:
            exchange.whole = True
            parts, exchange.parts = exchange.parts, []
            self._door.take(exchange, parts[0] if len(parts) == 1 else b"".join(parts))

    def on_response_complete(self) -> None:
        """uvicorn's way: an answer has gone out."""
        if self._uploading:
            self._since = self.loop.time()  # for the rest of a file that was refused early
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """The bytes are no HTTP."""
        body = error_body(MalformedBody(msg, code="malformed_request"))
        self.transport.write(_whole(400, body, [*self.server_state.default_headers, (b"connection", b"close")]))
        self.transport.close()

    # What the door says

    def send(self, exchange: _Exchange, status: int, body: bytes, headers: Headers | None) -> None:
        """Write an answer, and let what was pipelined behind it begin."""
        transport = self.transport
        if transport.is_closing():
            return
        dated = self.server_state.default_headers
        if body is OK and headers is None and exchange.keep_alive:
            transport.write(_accepted(dated))
        else:
            more = [*dated, *(headers or [])]
            if not exchange.keep_alive:
                more.append((b"connection", b"close"))
            transport.write(_whole(status, body, more))
            if not exchange.keep_alive:
                transport.close()
                return
        if not self._receiving:
            self._since = self.loop.time()
        if self.pipeline:
            self.on_response_complete()

    @property
    def _exchange(self) -> _Exchange | None:
        cycle: Any = self.cycle
        return cycle if type(cycle) is _Exchange else None

    def _as_uvicorn_does(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        self._uploading = url.startswith(UPLOADS)


class _NobodyWaits:
    def set(self) -> None:
        """uvicorn wakes its application with this; an exchange has none."""


class _Exchange(Exchange):
    """Stands where uvicorn's protocol has its own cycle, so that what is pipelined behind it waits for its answer."""

    __slots__ = ("disconnected", "keep_alive", "parts", "protocol", "response_complete", "size", "whole")
    message_event = _NobodyWaits()

    def __init__(self, protocol: TrackingProtocol, kind: str, client_side: bool, keep_alive: bool) -> None:
        super().__init__(kind, client_side, protocol._client, protocol.headers)
        self.protocol = protocol
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.parts: list[bytes] = []
        self.size = 0
        self.whole = False

    def answer(self, status: int, body: bytes, headers: Headers | None) -> None:
        self.response_complete = True
        if not self.disconnected:
            self.protocol.send(self, status, body, headers)


def _whole(status: int, body: bytes, headers: Headers) -> bytes:
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([_STATUS_LINES[status], b"content-length: %d\r\n" % len(body), *lines, b"\r\n", body])


_newest: tuple[Headers | None, bytes] = (None, b"")


def _accepted(dated: Headers) -> bytes:
    """The answer to nearly every request, made once a second: uvicorn renews the list with the date in it."""
    global _newest
    if _newest[0] is not dated:
        _newest = (dated, _whole(200, OK, dated))
    return _newest[1]


async def sweep(connections: set[Any], settings: IngressSettings) -> None:
    """Look after all connections until cancelled: ten times within the body's timeout, each second at the most."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(1.0, settings.body_timeout_seconds / 10))
        now = loop.time()
        for connection in list(connections):
            try:
                connection.look(now)
            except Exception:
                # One connection's trouble must not leave all others without anybody who cuts them off.
                log.exception("a connection could not be looked after")
