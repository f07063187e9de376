"""The public port, opened by the replica itself.

Every replica listens on the same port (SO_REUSEPORT) with an event loop and a thread of its own, so that the framework's
loop and the door never wait for each other, and no proxy process stands in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import uvicorn
import uvloop

from actors.ingress.door import Door
from actors.ingress.protocol import IDLE_SECONDS, TrackingProtocol, sweep
from segment_do.settings import IngressSettings

__all__ = ["EventLoopThread", "serve"]

T = TypeVar("T")


class EventLoopThread:
    """A uvloop event loop in a daemon thread; coroutines are handed to it from any other."""

    def __init__(self, name: str) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop; the future is for other threads (wrap it to await it)."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop from another loop."""
        return await asyncio.wrap_future(self.submit(work))

    def stop(self) -> None:
        """End the loop; what still runs in it is dropped."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


async def serve(
    app: Any,
    door: Door,
    listening: socket.socket,
    settings: IngressSettings,
    stop: asyncio.Event,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve door and app until ``stop`` is set; then finish the requests in flight (at most 5 seconds)."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=cast(Any, functools.partial(TrackingProtocol, door, settings)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=round(IDLE_SECONDS),
            timeout_graceful_shutdown=5,
        )
    )
    server.config.load()
    server.config.ssl = tls
    server.lifespan = server.config.lifespan_class(server.config)
    sweeping = asyncio.ensure_future(sweep(server.server_state.connections, settings))
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    sweeping.cancel()
