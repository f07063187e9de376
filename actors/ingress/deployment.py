"""Ray Serve shell of an ingress replica.

Serve starts, checks, scales and upgrades it. Each replica listens on the public port itself; the same application also answers
behind Serve's own HTTP door, for clusters that want that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, MutableMapping
from typing import TYPE_CHECKING, Any

from ray import serve

from actors.ingress.answers import Send
from actors.ingress.body import Receive
from actors.ingress.dispatcher import Batch, encode_batches
from actors.ingress.listener import EventLoopThread
from actors.logs import configure_logs
from actors.process import freeze_imports
from segment_do.settings import Settings

if TYPE_CHECKING:
    from actors.ingress.replica import Replica

__all__ = ["Ingress"]

_SWITCH_SECONDS = 0.0005


class _BehindServe:
    """The application as Serve mounts it; an object, because Serve would call a function to get one."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # there is nothing to start: the replica's constructor did
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        replica: Ingress = serve.get_replica_context().servable_object
        await replica.answer(scope, receive, send)


@serve.deployment(
    name="Ingress",
    max_ongoing_requests=1000,
    health_check_period_s=1.0,
    health_check_timeout_s=10.0,
    graceful_shutdown_timeout_s=25.0,
    ray_actor_options={"num_cpus": 0},
)
@serve.ingress(_BehindServe())
class Ingress:
    """One replica."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logs(settings, "ingress")
        # The thread that syncs the journal must get its turn between requests, not after five milliseconds of them.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._thread = EventLoopThread("door")
        self._replica = await self._thread.run(self._open(settings))
        freeze_imports()

    async def check_health(self) -> None:
        """Serve replaces the replica when this raises: its loop no longer answers."""
        await asyncio.wait_for(self._thread.run(asyncio.sleep(0)), 5.0)

    async def __del__(self) -> None:
        if hasattr(self, "_replica"):
            await self._thread.run(self._replica.stop())
            self._thread.stop()

    async def answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """A request that came through Serve's door, answered in the replica's own loop."""
        here = asyncio.get_running_loop()
        outgoing: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

        async def receive_there() -> MutableMapping[str, Any]:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(receive), here))

        async def send_there(message: MutableMapping[str, Any]) -> None:
            here.call_soon_threadsafe(outgoing.put_nowait, message)

        answering = asyncio.ensure_future(self._thread.run(self._replica.app(scope, receive_there, send_there)))
        async for message in _until_done(outgoing, answering):
            await send(message)
        await answering

    async def _open(self, settings: Settings) -> Replica:
        from actors.ingress.replica import Replica  # here: the process that deploys does not need it
        from actors.platform import ActorPlatform

        platform = ActorPlatform(settings)

        async def apply(name: str, batches: list[Batch]) -> None:
            await platform.actors.call(name, "apply", encode_batches(batches))

        replica = Replica(settings, platform.key_set, apply, platform.name_for, platform)
        platform.attach(replica)
        await replica.start()
        return replica


async def _awaited(receive: Receive) -> MutableMapping[str, Any]:
    return await receive()


async def _until_done(
    outgoing: asyncio.Queue[MutableMapping[str, Any]], answering: asyncio.Future[None]
) -> AsyncIterator[MutableMapping[str, Any]]:
    while not (answering.done() and outgoing.empty()):
        getting = asyncio.ensure_future(outgoing.get())
        either: set[asyncio.Future[Any]] = {getting, answering}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            yield getting.result()
        else:
            getting.cancel()
