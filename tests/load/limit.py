"""The limit that requests are held against: what the HTTP server alone can do on this machine.

``python -m tests.load.limit PORT constant`` is bare uvicorn (httptools, uvloop) that reads a body and answers a constant.
``… batch FOLDER`` also parses the batch (msgspec, envelope only) and answers when its bytes are on disk, one fdatasync for
all requests that waited. It has no keys, no checks, no framing, no pipeline behind it: whatever stores first cannot be faster.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

__all__ = ["main"]

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_BODY = b'{"success": true}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}
_END = {"type": "http.response.body", "body": _BODY}


class _Event(msgspec.Struct, gc=False, rename="camel"):
    type: str
    message_id: str
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    timestamp: str | None = None
    properties: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()


class _Batch(msgspec.Struct, gc=False):
    batch: list[_Event]


_decoder = msgspec.json.Decoder(_Batch)


async def _read(receive: _Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def constant(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Read, answer."""
    await _read(receive)
    await send(_START)
    await send(_END)


class Synced:
    """Read, parse, write, sync together with whoever waits, answer."""

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / "limit.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._syncing = False

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        """One request."""
        body = await _read(receive)
        _decoder.decode(body)
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        self._waiting.append((body, stored))
        if not self._syncing:
            self._syncing = True
            self._task = loop.create_task(self._sync())
        await stored
        await send(_START)
        await send(_END)

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            await loop.run_in_executor(None, self._write, b"".join(body for body, _stored in group))
            for _body, stored in group:
                if not stored.done():
                    stored.set_result(None)
        self._syncing = False

    def _write(self, data: bytes) -> None:
        os.write(self._handle, data)
        os.fdatasync(self._handle)


def main(port: int, mode: str, folder: Path) -> None:
    """Serve until killed."""
    uvicorn.run(
        constant if mode == "constant" else Synced(folder),
        host="127.0.0.1",
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        backlog=2048,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else Path())
