"""A shard's letters on their way to the other shards of its identity: one call to each at a time, again until it is confirmed.

Bounds: ``_CALL_BYTES`` a call, ``_AT_ONCE`` calls in flight; the letters themselves are in the shard's file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog

from segment_do.errors import OwnershipLost
from segment_do.identity.shards.letters import Envelope
from segment_do.identity.shards.post import Post
from segment_do.units import identity_of, unit_name

__all__ = ["Courier", "Deliver"]

log = structlog.get_logger(__name__)

Deliver = Callable[[str, list[Envelope]], Awaitable[None]]
"""Gives letters to the graph of this name; returns when it has them in its file."""

_CALL_BYTES: Final = 2**20
_AT_ONCE: Final = 32
_FIRST_WAIT_SECONDS: Final = 0.02
_LONGEST_WAIT_SECONDS: Final = 2.0


class Courier:
    """Of one shard; its event loop uses it. ``on_thread`` runs something while nobody else has the shard's file; ``rested`` is called
    when it may have become :attr:`idle`."""

    def __init__(
        self,
        unit: str,
        post: Post,
        deliver: Deliver,
        on_thread: Callable[[Callable[[], Any]], Any],
        rested: Callable[[], None],
    ) -> None:
        self._unit = unit
        self._post = post
        self._deliver = deliver
        self._on_thread = on_thread
        self._rested = rested
        self._calls = asyncio.Semaphore(_AT_ONCE)
        self._looking: asyncio.Task[None] | None = None
        self._looked = True
        self._going: dict[str, asyncio.Task[None]] = {}
        self.closed = False

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return self._looking is None and not self._going

    def go_soon(self) -> None:
        """There may be new letters."""
        self._looked = False
        if self._looking is None and not self.closed and self._post.size_bytes:
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Stop; what is not confirmed stays in the file."""
        self.closed = True
        tasks = [*self._going.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        try:
            while not self._looked and not self.closed:
                self._looked = True
                try:
                    shards = await self._on_thread(self._post.shards)
                except OwnershipLost:
                    self.closed = True
                    return
                except Exception as error:  # noqa: BLE001  # whatever broke, the letters must go on
                    log.warning("letters could not be looked for", unit=self._unit, error=str(error)[:500])
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
                    self._looked = False
                    continue
                for shard in shards:
                    if shard not in self._going:
                        self._going[shard] = asyncio.create_task(self._go(shard))
        finally:
            self._looking = None
            self._rested()

    async def _go(self, shard: str) -> None:
        unit = unit_name(identity_of(self._unit), shard)
        wait_seconds = _FIRST_WAIT_SECONDS
        try:
            while not self.closed:
                try:
                    letters = await self._on_thread(partial(self._post.read, shard, _CALL_BYTES))
                    if not letters:
                        return
                    async with self._calls:
                        await self._deliver(unit, letters)
                    await self._on_thread(partial(self._post.confirm, shard, letters))
                    wait_seconds = _FIRST_WAIT_SECONDS
                except OwnershipLost:
                    self.closed = True
                except Exception as error:  # noqa: BLE001  # whatever broke, the letters must go on
                    log.warning("letters were not taken", unit=self._unit, to=unit, error=str(error)[:500])
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        finally:
            del self._going[shard]
            self._rested()
