"""A receiver of webhooks: a real HTTP server on 127.0.0.1 that keeps the bytes it got and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import NamedTuple

import msgspec


class Got(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # lowercase names
    body: bytes

    @property
    def ids(self) -> list[str]:
        """Message ids in the body, an object or an array."""
        found = msgspec.json.decode(self.body)
        return [event["messageId"] for event in (found if isinstance(found, list) else [found])]


class Answer(NamedTuple):
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"


RESET = "reset"  # cut the connection, without an answer
HANG = "hang"  # never answer

Reply = Answer | str
Replier = Callable[[Got], Reply | Awaitable[Reply]]


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[str]:
    """A server that does with each connection what ``handler`` does, after the request's head; gives its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            await _closed(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(Exception):
        await writer.wait_closed()


class Receiver:
    """``async with Receiver() as receiver``; ``receiver.reply`` may be changed at any time."""

    def __init__(self, reply: Replier = lambda got: Answer(), *, tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self.got: list[Got] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._tls = tls
        self._more = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def ids(self) -> list[str]:
        return [name for got in self.got for name in got.ids]

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until the condition holds, looked at after every request."""
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            await _closed(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        got = Got(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.reply(got)
            if isinstance(reply, Awaitable):
                reply = await reply
            async with self._more:
                self.got.append(got)
                self._more.notify_all()
            if reply == HANG:
                await asyncio.Event().wait()
        finally:
            self._at_once -= 1
        if reply == RESET:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        assert isinstance(reply, Answer)
        lines = [f"HTTP/1.1 {reply.status} Whatever", f"content-length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body)
        await writer.drain()
        return True
