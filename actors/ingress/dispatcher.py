"""From the journal to the identity actors: packs, one in flight per actor, until each event is confirmed.

While a call is in flight, and for some milliseconds after it began, what arrives gathers; the next call takes it all. So the
first event of an idle identity leaves at once, and under load a call, which costs both sides about a millisecond
whatever it carries, carries many. A call that fails is made again, with the same events, for as long as it takes:
the actor deduplicates. Events never leave the journal before the actor has them in its own file.

Bounds: calls in flight (``max_calls``), and first calls, behind which a process may have to start (``max_starting``: however many
start, those that run are not kept waiting); bytes a call. What waits is only a run (file, from, to) a request, or one for many
where requests of the same identity lie side by side; the journal's own byte bound limits their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from actors.ingress.journal import Run
from segment_do.errors import SegmentDoError, StorageFailed
from segment_do.events.record import REJECTED, Record, decode_pack, encode_pack

__all__ = ["Apply", "Batch", "Dispatcher", "decode_batches", "encode_batches"]

log = structlog.get_logger(__name__)

Batch = tuple[str, int, bytes]
"""(identity, events, pack)."""
Apply = Callable[[str, list[Batch]], Awaitable[None]]
"""Has the named actor apply batches; returns when they are in its file."""

CALL_BYTES: Final = 2**20
"""Enough for one call; where so much waits nothing more is gathered. Packs of this size travel inside the call."""
_PACE_SECONDS: Final = 0.05
_PACE_SECONDS_A_LANE: Final = 0.001
"""Otherwise a call to one actor begins so long after its last: 20 calls a second for one, 1,000 for all together."""
_MOST_RUNNING: Final = 10_000
_ATTEMPTS_BEFORE_ISOLATION: Final = 3
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0

_batches = msgspec.msgpack.Decoder(list[Batch])


def encode_batches(batches: list[Batch]) -> bytes:
    """Batches as one bytes argument: Ray moves bytes without looking at them."""
    return msgspec.msgpack.encode(batches)


def decode_batches(data: bytes) -> list[Batch]:
    """Inverse of :func:`encode_batches`."""
    return _batches.decode(data)


class _Lane:
    """What waits for one actor, oldest first."""

    __slots__ = ("name", "runs", "waiting_bytes", "working")

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: deque[tuple[Run, Callable[[Run], None]]] = deque()
        self.waiting_bytes = 0
        self.working = False


class Dispatcher:
    """Feeds runs to the actors that ``name_for`` gives for their identities; ``split`` gives the parts of a batch of an identity that is
    laid out over several graphs, each with its graph's name.
    """

    def __init__(
        self,
        apply: Apply,
        name_for: Callable[[str], str],
        *,
        split: Callable[[Batch], list[Batch]] | None = None,
        max_calls: int = 64,
        max_starting: int = 16,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._apply = apply
        self._name_for = name_for
        self._split = split
        self._calls = asyncio.Semaphore(max_calls)
        self._starting = asyncio.Semaphore(max_starting)
        self._running: set[str] = set()
        self._wait = wait
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.applied_events = 0
        self.failed_calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting_bytes(self) -> int:
        """Journal bytes not yet confirmed by an actor."""
        return sum(lane.waiting_bytes for lane in self._lanes.values())

    def offer(self, run: Run, confirm: Callable[[Run], None]) -> None:
        """Take a run; ``confirm`` is called once, when its actor has it."""
        name = self._name_for(run.identity)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name)
        lane.waiting_bytes += run.size
        runs = lane.runs
        if not (runs and runs[-1][0].absorb(run)):  # of one journal, so confirmed in one place
            runs.append((run, confirm))
        if not lane.working:
            lane.working = True
            self._idle.clear()
            task = asyncio.get_running_loop().create_task(self._work(lane), name=f"dispatch to {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drained(self, timeout_seconds: float) -> bool:
        """Wait until everything offered is confirmed; False when time runs out (the journal keeps the rest)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        return not self._lanes

    async def close(self) -> None:
        """Stop. Calls in flight are abandoned; their events are still in the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        while lane.runs:
            next_call = loop.time() + _PACE_SECONDS + _PACE_SECONDS_A_LANE * len(self._lanes)
            taken = self._take(lane)
            try:
                batches = _read([run for run, _ in taken])
            except (OSError, StorageFailed):
                log.exception("journal unreadable", actor=lane.name)
                lane.runs.extendleft(reversed(taken))
                await self._wait(_LONGEST_WAIT_SECONDS)
                continue
            addressed = self._addressed(lane.name, batches)
            await asyncio.gather(*(self._deliver(name, parts) for name, parts in addressed.items()))
            for run, confirm in taken:
                lane.waiting_bytes -= run.size
                self.applied_events += run.events
                confirm(run)
            if lane.waiting_bytes < CALL_BYTES and (early := next_call - loop.time()) > 0:
                await self._wait(early)
        lane.working = False
        del self._lanes[lane.name]
        if not self._lanes:
            self._idle.set()

    def _addressed(self, name: str, batches: list[Batch]) -> dict[str, list[Batch]]:
        if self._split is None:
            return {name: batches}
        addressed: dict[str, list[Batch]] = {}
        for batch in batches:
            for part in self._split(batch):
                addressed.setdefault(self._name_for(part[0]), []).append(part)
        return addressed

    def _take(self, lane: _Lane) -> list[tuple[Run, Callable[[Run], None]]]:
        budget = CALL_BYTES
        taken: list[tuple[Run, Callable[[Run], None]]] = []
        while lane.runs:
            run = lane.runs[0][0]
            if taken and run.size > budget:
                break
            budget -= run.size
            taken.append(lane.runs.popleft())
        return taken

    async def _deliver(self, name: str, batches: list[Batch]) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        faults = 0
        while True:
            try:
                async with self._calls if name in self._running else self._starting:
                    await self._apply(name, batches)
            except SegmentDoError as error:
                self._running.discard(name)
                if not error.retryable:
                    faults += 1
                reason: Exception = error
            except Exception as error:  # noqa: BLE001  # whatever broke, these events must not be lost
                faults += 1
                reason = error
            else:
                if len(self._running) >= _MOST_RUNNING:  # starts over rather than remember every one that ever ran
                    self._running.clear()
                self._running.add(name)
                return
            self.failed_calls += 1
            log.warning("identity did not apply", actor=name, error=str(reason)[:500], faults=faults)
            if faults >= _ATTEMPTS_BEFORE_ISOLATION:
                halves = _halve(batches)
                if halves:
                    for half in halves:
                        await self._deliver(name, half)
                    return
                batches = [_poisoned(batches[0], reason)]
            await self._wait(wait_seconds * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
            wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def _read(runs: list[Run]) -> list[Batch]:
    """The events of runs, neighbours of one identity in one batch, in order."""
    batches: list[Batch] = []
    for identity, group in itertools.groupby(runs, lambda run: run.identity):
        of_one = list(group)
        packs = [pack for run in of_one for pack in run.packs()]
        batches.append((identity, sum(run.events for run in of_one), b"".join(packs)))
    return batches


def _halve(batches: list[Batch]) -> list[list[Batch]] | None:
    """Batches in two parts, to find the event that an actor cannot take; None for a single event."""
    if len(batches) > 1:
        middle = len(batches) // 2
        return [batches[:middle], batches[middle:]]
    identity, count, pack = batches[0]
    if count == 1:
        return None
    records = decode_pack(pack, count)
    middle = count // 2
    return [[(identity, len(part), encode_pack(part))] for part in (records[:middle], records[middle:])]


def _poisoned(batch: Batch, reason: Exception) -> Batch:
    """The one event that its actor cannot take, as an event set aside, so that those behind it go on."""
    identity, _count, pack = batch
    record = decode_pack(pack, 1)[0]
    told = {
        "code": "not_applicable",
        "message": f"The identity could not apply this event: {type(reason).__name__}.",
        "index": 0,
        "type": record.type,
        "messageId": record.message_id,
        "payload": record.payload[:32_768].decode("utf-8", "replace"),
    }
    aside = Record(
        f"rejected:{record.message_id}"[:120], REJECTED, record.source_id, None, None, "not_applicable",
        record.received_at, record.received_at, None, None, None, msgspec.json.encode(told),
    )  # fmt: skip
    return identity, 1, encode_pack([aside])
