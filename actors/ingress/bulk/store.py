"""The journal as a finished sync sees it: it has time, so events go first, and it never gives up.

A sync is promised already. Where the journal or the disk refuses, this asks again until it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from actors.ingress.journal import Journal
from segment_do.errors import StorageFailed, Unavailable

__all__ = ["JournalStore"]

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 0.05


class JournalStore:
    """Stores packs while no more than ``ahead_bytes`` of the journal wait for their identities."""

    def __init__(
        self, journal: Journal, ahead_bytes: int, *, wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._journal = journal
        self._ahead_bytes = ahead_bytes
        self._wait = wait

    async def __call__(self, identity: str, count: int, pack: bytes) -> None:
        """Returns when the pack is durable."""
        while True:
            while self._journal.unapplied_bytes > self._ahead_bytes:
                await self._wait(_PAUSE_SECONDS)
            try:
                await self._append(identity, count, pack)
            except Unavailable as error:
                log.warning("the journal does not take objects of a sync; they wait", reason=error.message)
                await self._wait(error.retry_after)
            else:
                return

    async def _append(self, identity: str, count: int, pack: bytes) -> None:
        outcome: asyncio.Future[StorageFailed | None] = asyncio.get_running_loop().create_future()

        def done(failed: StorageFailed | None) -> None:
            if not outcome.done():  # whoever waited may have been cancelled
                outcome.set_result(failed)

        self._journal.append(identity, count, pack, done)
        if failed := await outcome:
            raise failed
