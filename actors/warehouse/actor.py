"""Ray shell of the warehouse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import ray

from actors.calls import Actors
from actors.logs import configure_logs
from actors.naming import NAMESPACE, QUEUE, WAREHOUSE
from actors.process import freeze_imports, give_way
from actors.queue.actor import make_queue
from segment_do.computed import PastWanted
from segment_do.profile_api import EventsWanted
from segment_do.settings import Settings

if TYPE_CHECKING:
    from actors.queue.frame import Frame

__all__ = ["WarehouseActor", "make_warehouse"]


class _Queue:
    """The log, through the queue actor."""

    def __init__(self, settings: Settings) -> None:
        self._actors = Actors(lambda _name: make_queue(settings))

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> Sequence[Frame]:
        frames: Sequence[Frame] = await self._actors.call(QUEUE, "read", offset, max_bytes, wait_seconds)
        return frames

    async def end(self) -> int:
        return int(await self._actors.call(QUEUE, "end"))

    async def advance(self, offset: int) -> None:
        await self._actors.call(QUEUE, "advance", WAREHOUSE, offset)


@ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=100)
class WarehouseActor:
    """Named ``warehouse``: the one writer of the tables, and where queries are run from."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        from actors.lean import allow_arrow

        allow_arrow()
        from actors.warehouse.consumer import Consumer  # here: who only calls this actor does not load Arrow and DuckDB
        from warehouse import WarehouseStore

        configure_logs(settings, WAREHOUSE)
        give_way()
        store = await WarehouseStore.open(settings.paths.warehouse, settings.warehouse)
        self._consumer = Consumer(store, _Queue(settings), settings.warehouse)
        self._running = asyncio.create_task(self._consumer.run())
        freeze_imports()

    async def sql(self, sql: str) -> dict[str, Any]:
        """Run one query."""
        return await self._consumer.sql(sql)

    async def profile_events(self, wanted: bytes) -> list[list[Any]]:
        """A page of a profile's events, see ``warehouse.profile_events``."""
        return await self._consumer.profile_events(msgspec.msgpack.decode(wanted, type=EventsWanted))

    async def past_events(self, wanted: bytes) -> bytes:
        """Events of before a definition, see ``segment_do.computed.past``; question and answer as msgpack."""
        part = await self._consumer.past_events(msgspec.msgpack.decode(wanted, type=PastWanted))
        return msgspec.msgpack.encode(part)

    async def rejected(self, limit: int) -> list[dict[str, Any]]:
        """Events set aside."""
        return await self._consumer.rejected(limit)

    async def status(self) -> dict[str, Any]:
        """Sizes and offsets."""
        return self._consumer.status()


def make_warehouse(settings: Settings) -> Any:
    """The warehouse actor, started where there is none."""
    return WarehouseActor.options(  # type: ignore[attr-defined]
        name=WAREHOUSE, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(settings)
