"""Reading a request's body: gzip undone, with bounds on bytes and on time.

A body costs at most its limit in memory whatever it claims to be, and a client that dribbles is cut off.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from segment_do.errors import MalformedBody, SlowBody, TooLarge

__all__ = ["BodyReader", "ClientGone", "Receive", "gunzip"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client left before its body had arrived; there is nobody to answer."""


class BodyReader:
    """Reads bodies against one clock for all: a timer a request would cost more than the reading.

    ``sweep`` has to run beside it; it looks at the bodies under way ten times within ``timeout_seconds``.
    """

    def __init__(self, *, max_bytes: int, timeout_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._tick = 0
        self._begun: dict[asyncio.Task[Any], int] = {}
        self._late: set[asyncio.Task[Any]] = set()

    async def read(self, receive: Receive) -> bytes:
        """The body as sent.

        Raises:
            TooLarge: more bytes came than are allowed.
            SlowBody: it was not complete in time.
            ClientGone: the connection closed in between.
        """
        task = asyncio.current_task()
        assert task is not None
        self._begun[task] = self._tick
        try:
            message = await receive()
            if not message.get("more_body", False) and message["type"] == "http.request":
                body: bytes = message.get("body", b"")
                if len(body) > self._max_bytes:
                    raise self._too_large()
                return body
            return await self._rest(message, receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise SlowBody(f"The body did not arrive within {self._timeout_seconds:g} seconds.") from None
        finally:
            del self._begun[task]

    async def sweep(self) -> None:
        """Cut off bodies that take too long, until cancelled."""
        while True:
            await asyncio.sleep(self._timeout_seconds / 10)
            self._tick += 1
            for task, begun in self._begun.items():
                if self._tick - begun > 10 and task not in self._late:
                    self._late.add(task)
                    task.cancel()

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()

    def _too_large(self) -> TooLarge:
        return _too_large(self._max_bytes)


def gunzip(data: bytes, *, max_bytes: int) -> bytes:
    """A gzip body undone; stops as soon as it is larger than allowed, so that a bomb costs no more than a body.

    Raises:
        MalformedBody: it is not gzip, or cut short.
        TooLarge: more than ``max_bytes`` come out.
    """
    out = b""
    while data:
        stream = zlib.decompressobj(wbits=31)
        try:
            out += stream.decompress(data, max_bytes + 1 - len(out))
        except zlib.error as error:
            raise MalformedBody(f"The body is not gzip: {error}.") from None
        if len(out) > max_bytes or stream.unconsumed_tail:
            raise _too_large(max_bytes)
        if not stream.eof:
            raise MalformedBody("The gzip body is cut short.")
        data = stream.unused_data.lstrip(b"\0")
    return out


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes:,} bytes.", code="body_too_large")
