"""Has an awake identity's new computations count the events of before, part by part from the warehouse.

How far it is stands in the graph's file with what was counted, so whoever wakes the identity next goes on there; nothing else has to be
remembered. That is why it lives with the activation and not with the warehouse, which would need a book of its own of who wants what.

Events that the graph applied before a definition are in the warehouse at the latest when its outbox of that moment is in the log and
the warehouse has come so far: it waits for both. Where the warehouse is away or busy it waits and asks again; nothing is skipped.

Bound: one computation at a time, one part of it in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import structlog

from segment_do.computed import DAY_MICROSECONDS, PastPart, PastWanted
from segment_do.errors import NotFound, QueryRefused, QueryTimedOut, Unavailable
from segment_do.identity import Graph
from segment_do.identity.computation import Computation
from segment_do.identity.computed import EARLY_MICROSECONDS
from segment_do.units import identity_of

__all__ = ["Filling", "Past"]

log = structlog.get_logger(__name__)
T = TypeVar("T")

_SPAN: Final = 100_000
_MOST_SPAN: Final = 4_000_000
"""Offsets that one question to the warehouse covers: more where the identity has few of the events in them."""
_ROWS: Final = 2_000
"""Events of one part: about 2 MB of usual ones, 64 MB of the largest there are. While they are counted, others wait."""
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 5.0


class Past(Protocol):
    """Where the events of before are."""

    async def end(self) -> int:
        """Position behind the last event in the log."""

    async def events(self, wanted: PastWanted) -> PastPart:
        """A part of them.

        Raises:
            Unavailable: not now.
            QueryRefused, QueryTimedOut: it was too much at once.
        """


class Filling:
    """One event loop uses it. ``on_thread`` gives the graph to a function; ``handed_over`` returns when an outbox entry is in the log."""

    def __init__(
        self,
        identity: str,
        graph: Graph,
        past: Past,
        on_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        handed_over: Callable[[int], Awaitable[None]],
        clock: Callable[[], int],
    ) -> None:
        self._identity = identity_of(identity)  # under which the warehouse has the events of all of its shards
        self._graph = graph
        self._past = past
        self._on_thread = on_thread
        self._handed_over = handed_over
        self._clock = clock

    async def run(self) -> None:
        """Returns when nothing is left to be filled.

        Raises:
            StorageFailed, CorruptData, OwnershipLost: of the graph. The next activation goes on.
        """
        while True:
            filling = [each for each in await self._on_thread(self._graph.computations.all) if each.filling]
            if not filling:
                return
            try:
                await self._fill(filling[0])
            except NotFound:
                log.info("a computation was taken away while it was filled", identity=self._identity)

    async def _fill(self, computation: Computation) -> None:
        target, begin = computation.target, computation.filled + 1
        if target is None:
            await self._handed_over(await self._on_thread(lambda: self._graph.last_seq))
            target = await self._patiently(self._past.end)
            await self._on_thread(partial(self._graph.computations.aim, computation.computation_id, target))
        span, rows = _SPAN, _ROWS
        while begin < target:
            end = min(begin + span, target)
            part = await self._part(computation, begin, end, rows)
            if part is None or part.position < begin:  # too much at once
                span, rows = max(span // 4, 1), max(rows // 4, 1)
                continue
            await self._count(computation, part, target)
            if part.position + 1 < end:
                span = part.position + 1 - begin  # about so many offsets hold as many events as one part may have
            elif part.count < rows // 4:
                span = min(span * 4, _MOST_SPAN)
            begin = part.position + 1
            rows = min(rows * 2, _ROWS)
        if target == 0:
            await self._count(computation, PastPart(b"", 0, 0), target)

    async def _part(self, computation: Computation, begin: int, end: int, rows: int) -> PastPart | None:
        wanted = PastWanted.of(
            self._identity,
            computation.definition,
            begin=begin,
            end=end,
            received_before=computation.since + EARLY_MICROSECONDS,
            today=self._clock() // DAY_MICROSECONDS,
            limit=rows,
        )
        try:
            return await self._patiently(partial(self._past.events, wanted))
        except (QueryRefused, QueryTimedOut) as error:
            log.warning("a part of the past is asked for in smaller ones", identity=self._identity, error=error.message)
            if end - begin == 1:
                await asyncio.sleep(_LONGEST_WAIT_SECONDS)
            return None

    async def _count(self, computation: Computation, part: PastPart, target: int) -> None:
        packs = [(part.pack, part.count)] if part.count else []
        last = part.position + 1 >= target
        counting = partial(
            self._graph.computations.backfill, computation.computation_id, packs, position=part.position, last=last
        )
        await self._on_thread(counting)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await ask()
            except (QueryRefused, QueryTimedOut):
                raise
            except Exception as error:  # noqa: BLE001  # whatever broke, what was asked for is still wanted
                if not isinstance(error, Unavailable):
                    log.warning("the past could not be read", identity=self._identity, error=str(error)[:500])
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
