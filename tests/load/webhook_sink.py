"""A webhook receiver that misbehaves by seed, and remembers what it took.

An event counts as delivered when its request was read whole and answered with 200: the sender may then forget it. One
answered with 500, cut off, or left by the sender before the answer, does not count and has to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Faults", "WebhookSink"]


class Faults(NamedTuple):
    """Share of requests, 0 to 1, that go wrong in each way."""

    error: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    slow_seconds: float = 1.0


class WebhookSink:
    """Listens on 127.0.0.1. ``delivered`` counts how often each messageId came; ``path`` gets a line for each."""

    def __init__(self, path: Path, *, seed: int = 0, faults: Faults | None = None, port: int = 0) -> None:
        self._file = path.open("a", buffering=1)
        self._rng = random.Random(seed)
        self._faults = faults or Faults()
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.delivered: Counter[str] = Counter()
        self.requests = 0
        self.faults_made: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}/hook"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=512)
        self._port = self._server.sockets[0].getsockname()[1]

    def misbehave(self, faults: Faults) -> None:
        """How it behaves from here on."""
        self._faults = faults

    async def close(self) -> None:
        """Stop listening, end connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
        self._file.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            with contextlib.suppress(Exception):
                writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = head.index(b"\r\ncontent-length:") + 17
        body = await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        self.requests += 1
        fate = self._rng.random()
        faults = self._faults
        if fate < faults.error:
            self.faults_made["error"] += 1
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops")
            await writer.drain()
            return True
        if fate < faults.error + faults.cut:
            self.faults_made["cut"] += 1
            return False
        if fate < faults.error + faults.cut + faults.slow:
            self.faults_made["slow"] += 1
            await asyncio.sleep(faults.slow_seconds)
            if reader.at_eof():
                return False
        self._take(json.loads(body))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        return True

    def _take(self, body: Any) -> None:
        for event in body if isinstance(body, list) else [body]:
            message_id = str(event.get("messageId"))
            self.delivered[message_id] += 1
            self._file.write(message_id + "\n")
