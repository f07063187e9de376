"""The queue: the log, the consumers' cursors, and one delivery for each destination.

Everything that reads the log is a consumer with a cursor: destinations (kept in the ledger), the warehouse (which tells where
it is after each commit) and live readers (who remember for themselves). The log keeps what any of them needs, and a day
more for replays; a destination is told when it asks for what is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from actors.queue.delivery import Delivery
from actors.queue.frame import Frame
from actors.queue.ledger import Ledger
from actors.queue.log import Entry, Log
from destinations import registry
from destinations.base import DestinationConfig
from destinations.http import Http
from segment_do.errors import NotFound, SegmentDoError
from segment_do.events.timestamps import iso
from segment_do.settings import Settings

__all__ = ["Hub"]

log = structlog.get_logger(__name__)

_WAREHOUSE = "warehouse"
_TRIM_SECONDS = 10.0
_READ_WAIT_SECONDS = 3600.0


class _LogReader:
    """The log as a delivery reads it."""

    def __init__(self, queue_log: Log) -> None:
        self._log = queue_log

    @property
    def end(self) -> int:
        return self._log.end

    @property
    def floor(self) -> int:
        return self._log.floor

    async def read(self, offset: int, max_bytes: int) -> list[Frame]:
        return await self._log.read(offset, max_bytes, _READ_WAIT_SECONDS)


class _Running:
    """One destination being delivered to."""

    def __init__(self, config: DestinationConfig, delivery: Delivery, http: Http, task: asyncio.Task[None]) -> None:
        self.config = config
        self.delivery = delivery
        self.http = http
        self.task = task

    async def stop(self) -> None:
        await self.delivery.stop()
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.http.close()


class Hub:
    """Made by :meth:`open`; one event loop uses it."""

    def __init__(self, settings: Settings, queue_log: Log, ledger: Ledger, cursors: dict[str, int]) -> None:
        self._settings = settings
        self._log = queue_log
        self._ledger = ledger
        self._reader = _LogReader(queue_log)
        self._running: dict[str, _Running] = {}
        self._changing = asyncio.Lock()
        # What the warehouse has; nothing until it says so, so that nothing is dropped too early.
        self._warehouse_cursor = cursors.get(_WAREHOUSE, 0)
        self._trimming = asyncio.create_task(self._trim())

    @classmethod
    async def open(cls, settings: Settings) -> Hub:
        """Open log and ledger.

        Raises:
            OwnershipLost: another process has them.
            StorageFailed, CorruptData: they cannot be used.
        """
        paths = settings.paths
        paths.queue.mkdir(parents=True, exist_ok=True, mode=0o700)
        ledger = await Ledger.open(paths.queue / "deliveries.db", wait_seconds=30.0)
        return cls(settings, Log(paths.log, settings.queue), ledger, await ledger.cursors())

    @property
    def end(self) -> int:
        """Offset after the last event of the log."""
        return self._log.end

    async def append(self, entries: list[Entry]) -> None:
        """Store outbox entries; see :meth:`Log.append`."""
        await self._log.append(entries)

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> list[Frame]:
        """Read the log; see :meth:`Log.read`."""
        return await self._log.read(offset, max_bytes, wait_seconds)

    async def advance(self, consumer: str, offset: int) -> None:
        """A consumer that keeps its own place has everything below ``offset`` safe."""
        if consumer == _WAREHOUSE:
            self._warehouse_cursor = max(self._warehouse_cursor, offset)
        await self._ledger.move_cursor(consumer, offset)

    async def configure(self, configs: list[DestinationConfig]) -> None:
        """Deliver to exactly these: new ones begin at the log's end, gone ones are forgotten, changed ones restarted."""
        async with self._changing:
            wanted = {config.id: config for config in configs if config.enabled}
            for destination_id, running in list(self._running.items()):
                if wanted.get(destination_id) != running.config:
                    del self._running[destination_id]
                    await running.stop()
                    if destination_id not in {config.id for config in configs}:
                        await self._ledger.forget(destination_id)
            for config in wanted.values():
                if config.id not in self._running:
                    await self._start(config)

    def deliveries(self) -> dict[str, Any]:
        """What each delivery is doing, by destination."""
        return {destination_id: running.delivery.status() for destination_id, running in self._running.items()}

    async def delivered(self, offset: int, source_id: str, message_id: str) -> dict[str, Any]:
        """For each destination that this event is for: True, False (not yet), ``retrying`` or ``dead``."""
        aside = await self._ledger.find(message_id)
        told: dict[str, Any] = {}
        for destination_id, running in self._running.items():
            if running.config.source_id in (None, source_id):
                told[destination_id] = aside.get(destination_id) or offset < running.delivery.status()["cursor"]
        return told

    async def test(self, destination_id: str) -> dict[str, Any]:
        """Send a sample event to a destination."""
        return await self._found(destination_id).delivery.deliver_test()

    async def dead_letters(self, destination_id: str, limit: int) -> list[dict[str, Any]]:
        """Events given up, newest first, with what was sent, what came back and why."""
        self._found(destination_id)
        return [
            {
                "offset": letter.offset,
                "messageId": letter.message_id,
                "at": iso(letter.at),
                "attempts": letter.attempts,
                "status": letter.status,
                "response": letter.response,
                "reason": letter.reason,
                "event": letter.event.decode("utf-8", "replace"),
            }
            for letter in await self._ledger.dead(destination_id, limit)
        ]

    async def replay(self, destination_id: str, dead: bool, from_offset: int | None) -> int:
        """Deliver again; how many events that is."""
        delivery = self._found(destination_id).delivery
        if dead:
            return await delivery.replay_dead()
        return await delivery.replay_from(from_offset or 0)

    def status(self) -> dict[str, Any]:
        """For /api/status."""
        return {
            "end": self._log.end,
            "floor": self._log.floor,
            "bytes": self._log.size_bytes,
            "warehouseCursor": self._warehouse_cursor,
            "destinations": self.deliveries(),
        }

    async def close(self) -> None:
        """Stop deliveries (what is not stored is sent again), then the log."""
        self._trimming.cancel()
        for running in self._running.values():
            await running.stop()
        await self._log.close()
        await self._ledger.close()

    async def _start(self, config: DestinationConfig) -> None:
        http = Http(self._settings.delivery)
        try:
            sender = registry.make_sender(config, http)
        except SegmentDoError:
            log.exception("a destination cannot be set up", destination=config.id, type=config.type)
            await http.close()
            return
        names = [registry.find(config.type).name]
        delivery = Delivery(config, sender, self._reader, self._ledger, self._settings.delivery, names=names)
        await delivery.load()  # what is logged from now on is for it
        task = asyncio.create_task(self._keep_running(config.id, delivery.run), name=f"deliver to {config.id}")
        self._running[config.id] = _Running(config, delivery, http, task)

    async def _keep_running(self, destination_id: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:
                # One destination's trouble stays its own; it goes on from its stored cursor.
                log.exception("a delivery stopped and is started again", destination=destination_id)
                await asyncio.sleep(1.0)
            else:
                return

    def _found(self, destination_id: str) -> _Running:
        running = self._running.get(destination_id)
        if running is None:
            raise NotFound(f"There is no destination {destination_id!r}.")
        return running

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            try:
                cursors = await self._ledger.cursors()
                cursors[_WAREHOUSE] = self._warehouse_cursor
                removed = self._log.trim(min(cursors.values()), self._warehouse_cursor)
            except Exception:
                log.exception("the log was not trimmed; it will be tried again")
                continue
            if removed:
                log.info("log trimmed", segments=removed, floor=self._log.floor)
