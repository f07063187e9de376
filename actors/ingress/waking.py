"""Wakes identities that have something to do although no event comes: those left unfinished, and, each day, those with windows.

Every replica does it; to wake one that is awake costs a call. Bound: ``_AT_ONCE`` calls at a time, and of those with windows so many a
round that not everybody's process is there at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog

from actors.identity.activation import unfinished
from actors.identity.windows import due
from segment_do.errors import SegmentDoError
from segment_do.settings import Settings

__all__ = ["Waking"]

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 4
_ROUND_SECONDS: Final = 60.0
_A_ROUND: Final = {"dedicated": 8, "pool": 200}
"""Identities woken for their windows in one round; a dedicated one is a process that stays for some minutes."""


class Waking:
    """``wake`` makes sure that an identity is awake."""

    def __init__(
        self,
        settings: Settings,
        wake: Callable[[str], Awaitable[Any]],
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root = settings.paths.root / "identities"
        self._round = _A_ROUND[settings.identity.placement]
        self._wake_one = wake
        self._clock = clock
        self._wait = wait

    async def run(self) -> None:
        """Until cancelled: first those left unfinished, then, a round a minute, those whose windows have not moved on today."""
        await self._wake(await asyncio.to_thread(unfinished, self._root))
        while True:
            try:
                await self._wake((await asyncio.to_thread(due, self._root, self._clock()))[: self._round])
            except OSError as error:
                log.warning("whose windows are due cannot be seen", error=str(error))
            await self._wait(_ROUND_SECONDS)

    async def _wake(self, identities: Iterable[str]) -> None:
        waiting = asyncio.Semaphore(_AT_ONCE)

        async def wake(identity: str) -> None:
            async with waiting:
                try:
                    await self._wake_one(identity)
                except SegmentDoError as error:  # whoever holds it goes on with it
                    log.warning("identity does not wake", identity=identity, error=str(error))

        await asyncio.gather(*(wake(identity) for identity in identities))
