"""The warehouse as a consumer of the log: reads it in order, commits in batches, answers SQL that sees all of it.

It takes what is new as soon as it is in the log, so that SQL sees an event long before its commit. What it reports as
committed is synced to disk: only then may the log forget it. Bound: ``_TAIL_COMMITS`` commits' worth of events in
memory; beyond that it stops reading until a commit is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import structlog

from actors.queue.frame import Frame
from segment_do.computed import PastPart, PastWanted
from segment_do.errors import SegmentDoError
from segment_do.profile_api import EventsWanted
from segment_do.settings import WarehouseSettings
from warehouse import WarehouseStore
from warehouse.profile_events import profile_events_sql

__all__ = ["Consumer", "LogClient"]

log = structlog.get_logger(__name__)

_READ_BYTES: Final = 2 * 2**20
_SMALL_READ_BYTES: Final = 128 * 1024
_PACE_SECONDS: Final = 0.04  # between small reads: a call costs a millisecond whatever it carries
_TAIL_COMMITS: Final = 2
_CATCH_UP_SECONDS: Final = 2.0
_MAINTAIN_SECONDS: Final = 30.0


class LogClient(Protocol):
    """What the consumer needs of the queue."""

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> Sequence[Frame]:
        """Frames from ``offset`` on; waits for the first."""

    async def end(self) -> int:
        """Offset after the last event."""

    async def advance(self, offset: int) -> None:
        """Everything below ``offset`` is in the warehouse, on disk."""


class Consumer:
    """Drives a :class:`~warehouse.WarehouseStore`. One event loop uses it."""

    def __init__(
        self,
        store: WarehouseStore,
        queue: LogClient,
        settings: WarehouseSettings,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._queue = queue
        self._settings = settings
        self._clock = clock
        self._wait = wait
        self._taken = asyncio.Condition()
        self._maintained_at = clock()
        self.commits = 0
        self.failures = 0

    async def run(self) -> None:
        """Read and commit until cancelled. Failures are logged and tried again; nothing is skipped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._commit())

    async def sql(self, sql: str) -> dict[str, Any]:
        """Run a query that sees every event that is in the log now.

        Raises:
            QueryRefused, QueryTimedOut: see the engine.
        """
        await self._catch_up()
        return await self._store.sql(sql)

    async def profile_events(self, wanted: EventsWanted) -> list[list[Any]]:
        """A page of a profile's events, one more than is shown.

        Raises:
            QueryRefused, QueryTimedOut: see the engine.
        """
        rows: list[list[Any]] = (await self.sql(profile_events_sql(wanted)))["rows"]
        return rows

    async def past_events(self, wanted: PastWanted) -> PastPart:
        """Events of a part of the log, for a definition that is to count them.

        Raises:
            NotReady, QueryRefused, QueryTimedOut, Busy: see the store.
        """
        return await self._store.past_events(wanted)

    async def rejected(self, limit: int) -> list[dict[str, Any]]:
        """Events set aside, newest first."""
        await self._catch_up()
        return await self._store.rejected(limit)

    def status(self) -> dict[str, Any]:
        """For /api/status."""
        return {**self._store.status(), "commits": self.commits, "failures": self.failures}

    async def _catch_up(self) -> None:
        """Wait until what is in the log now is taken; after two seconds answer with what there is."""
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                end = await self._queue.end()
                async with self._taken:
                    await self._taken.wait_for(lambda: self._store.received >= end)
        except (TimeoutError, SegmentDoError) as error:
            log.warning("answering without the newest events", error=str(error))

    async def _read(self) -> None:
        while True:
            if self._store.pending_bytes > _TAIL_COMMITS * self._settings.commit_bytes:
                await self._wait(0.02)
                continue
            try:
                frames = await self._queue.read(self._store.received, _READ_BYTES, 5.0)
                if frames:
                    self._store.take(frames)
                    async with self._taken:
                        self._taken.notify_all()
                    if sum(len(frame.pack) for frame in frames) < _SMALL_READ_BYTES:
                        await self._wait(_PACE_SECONDS)
            except SegmentDoError as error:
                self.failures += 1
                log.warning("the log could not be read", error=str(error))
                await self._wait(0.2)
            except Exception:
                # Nothing is skipped: the same part is read again, and the log says why it stands still.
                self.failures += 1
                log.exception("a part of the log could not be taken; it will be tried again")
                await self._wait(1.0)

    async def _commit(self) -> None:
        while True:
            await self._wait(0.05)
            try:
                if self._due():
                    committed = await self._store.commit()
                    self.commits += 1
                    await self._queue.advance(committed)
                elif self._clock() - self._maintained_at > _MAINTAIN_SECONDS:
                    self._maintained_at = self._clock()
                    await self._store.maintain()
            except Exception:
                # Whatever failed (disk full, catalog locked), the events are still in the log.
                self.failures += 1
                log.exception("commit failed; it will be tried again")
                await self._wait(1.0)

    def _due(self) -> bool:
        if not self._store.pending_events:
            return False
        return (
            self._store.pending_bytes >= self._settings.commit_bytes
            or self._store.oldest_pending_age() >= self._settings.commit_seconds
        )
