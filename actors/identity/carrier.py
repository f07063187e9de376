"""What identities of one actor hand over to the queue, many in one call.

A call costs a millisecond whatever it carries. So while one is under way, what others want to hand over gathers, and goes with the
next. Order within an identity is its own affair: it hands over the next when it knows of the last.

Bounds: one call at a time; ``_CALL_BYTES`` a call, or what one identity gave. What waits is what identities gave, each one once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from actors.queue.log import Entry
from segment_do.errors import OwnershipLost

__all__ = ["Carrier"]

_CALL_BYTES: Final = 2**20


class Carrier:
    """``call`` gives entries to the queue; returns when they are in its log. One event loop uses it."""

    def __init__(self, call: Callable[[list[Entry]], Awaitable[None]]) -> None:
        self._call = call
        self._waiting: deque[tuple[list[Entry], asyncio.Future[None]]] = deque()
        self._going: asyncio.Task[None] | None = None

    async def hand_over(self, entries: list[Entry]) -> None:
        """Returns when the entries, of one identity, are in the queue's log.

        Raises:
            OwnershipLost: a newer activation of this identity has handed over already.
            SegmentDoError: the queue could not be reached, or did not take them; they are to be handed over again.
        """
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, taken))
        if self._going is None:
            self._going = asyncio.create_task(self._go())
        await taken

    async def _go(self) -> None:
        try:
            while self._waiting:
                await self._carry(self._next())
        finally:
            self._going = None

    def _next(self) -> list[tuple[list[Entry], asyncio.Future[None]]]:
        group: list[tuple[list[Entry], asyncio.Future[None]]] = []
        size = 0
        while self._waiting:
            size += sum(len(entry.pack) for entry in self._waiting[0][0])
            if group and size > _CALL_BYTES:
                break
            group.append(self._waiting.popleft())
        return group

    async def _carry(self, group: list[tuple[list[Entry], asyncio.Future[None]]]) -> None:
        outcome: Exception | None = None
        try:
            await self._call([entry for entries, _taken in group for entry in entries])
        except OwnershipLost as error:
            if len(group) > 1:  # one of them is stale, the queue does not say which: each by itself
                for each in group:
                    await self._carry([each])
                return
            outcome = error
        except Exception as error:  # noqa: BLE001  # for who waits, to try again
            outcome = error
        for _entries, taken in group:
            if taken.done():
                continue  # its identity went to sleep; the queue knows what it has
            if outcome is None:
                taken.set_result(None)
            else:
                taken.set_exception(outcome)
