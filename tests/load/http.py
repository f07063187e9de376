"""A small HTTP/1.1 client on raw streams: one request at a time on one connection, and an honest account of failure.

What matters to a ledger is whether the server can have seen the request: :class:`NotConnected` means it cannot,
:class:`Cut` means that nobody knows.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import NamedTuple

__all__ = ["Answer", "Connection", "Cut", "NotConnected", "post"]


class NotConnected(Exception):
    """No connection was made: nothing was sent."""


class Cut(Exception):
    """The connection ended, or time was up, after the first byte went out and before the answer was whole."""


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


def post(path: str, body: bytes, write_key: str, host: str = "127.0.0.1") -> bytes:
    """A POST as bytes, authenticated as SDKs do it (the key as Basic user name)."""
    key = base64.b64encode(f"{write_key}:".encode()).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """Kept alive between requests; opened when it is needed, and again after a failure."""

    def __init__(self, port: int, *, timeout_seconds: float = 10.0) -> None:
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request, return the answer.

        Raises:
            NotConnected, Cut: see there.
        """
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server had closed it before we sent anything
        if self._streams is None:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
            except (OSError, TimeoutError) as error:
                raise NotConnected(type(error).__name__) from error
        reader, writer = self._streams
        try:
            async with asyncio.timeout(self._timeout_seconds):
                writer.write(request)
                await writer.drain()
                return await self._answer(reader)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            raise Cut(type(error).__name__) from error
        except BaseException:  # cancelled mid-request: the next answer on this connection would be this one's
            self.close()
            raise

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        at = head.index(b"\r\ncontent-length:") + 17
        length = int(head[at : head.index(b"\r", at)])
        body = await reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self.close()
        return Answer(status, body)

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            with contextlib.suppress(Exception):
                self._streams[1].transport.abort()
            self._streams = None
