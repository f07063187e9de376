"""Ray shell of the queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import ray
import structlog

from actors.calls import Actors
from actors.control.actor import make_control
from actors.logs import configure_logs
from actors.naming import CONTROL, NAMESPACE, QUEUE
from actors.process import freeze_imports, give_way
from destinations.base import DestinationConfig
from segment_do.errors import Unavailable
from segment_do.settings import Settings

if TYPE_CHECKING:
    from actors.queue.frame import Frame
    from actors.queue.log import Entry

__all__ = ["QueueActor", "make_queue"]

log = structlog.get_logger(__name__)


@ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=2000)
class QueueActor:
    """Named ``queue``: the log and what is delivered from it."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        from actors.queue.hub import Hub  # here: who only calls this actor does not load what it needs

        configure_logs(settings, QUEUE)
        give_way()
        self._control = Actors(lambda _name: make_control(settings))
        self._hub = await Hub.open(settings)
        self._version = -1
        self._following = asyncio.create_task(self._follow())
        freeze_imports()

    async def append(self, entries: list[Entry]) -> None:
        """Store outbox entries of an identity."""
        await self._hub.append(entries)

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> list[Frame]:
        """Read the log; a long poll at its end."""
        return await self._hub.read(offset, max_bytes, wait_seconds)

    async def end(self) -> int:
        """Offset after the last event."""
        return self._hub.end

    async def advance(self, consumer: str, offset: int) -> None:
        """A consumer has everything below ``offset``."""
        await self._hub.advance(consumer, offset)

    async def reload_destinations(self) -> None:
        """Take the destinations as they are now."""
        await self._reload(-1, 0.0)

    async def deliveries(self) -> dict[str, Any]:
        """State of each delivery."""
        return self._hub.deliveries()

    async def delivered(self, offset: int, source_id: str, message_id: str) -> dict[str, Any]:
        """How far one event has come."""
        return await self._hub.delivered(offset, source_id, message_id)

    async def test_destination(self, destination_id: str) -> dict[str, Any]:
        """Send a sample event."""
        return await self._hub.test(destination_id)

    async def dead_letters(self, destination_id: str, limit: int) -> list[dict[str, Any]]:
        """Events given up."""
        return await self._hub.dead_letters(destination_id, limit)

    async def replay(self, destination_id: str, dead: bool, from_offset: int | None) -> int:
        """Deliver again."""
        return await self._hub.replay(destination_id, dead, from_offset)

    async def status(self) -> dict[str, Any]:
        """Sizes and offsets."""
        return self._hub.status()

    async def _reload(self, since: int, wait_seconds: float) -> None:
        version, data = await self._control.call(CONTROL, "destinations", since, wait_seconds, timeout_seconds=60.0)
        if version != self._version:
            self._version = version
            await self._hub.configure(msgspec.msgpack.decode(data, type=list[DestinationConfig]))

    async def _follow(self) -> None:
        while True:
            try:
                await self._reload(self._version, 20.0)
            except Unavailable:
                await asyncio.sleep(0.5)
            except Exception:
                log.exception("destinations were not followed; those known go on")
                await asyncio.sleep(0.5)


def make_queue(settings: Settings) -> Any:
    """The queue actor, started where there is none."""
    return QueueActor.options(  # type: ignore[attr-defined]
        name=QUEUE, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(settings)
