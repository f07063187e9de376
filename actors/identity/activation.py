"""One identity awake: its graph on one thread at a time, its outbox on the way to the queue.

Calls that arrive while a transaction runs share the next one. Nothing leaves before the commit: ``apply`` returns, and the
outbox is handed over, only for what is in the file. Handing over is at least once; the queue knows each ``(epoch, seq)`` it has.

While an identity is awake, and after that until its outbox is empty, a file ``awake`` lies in its folder. Whoever starts anew wakes
those who have one (:func:`unfinished`): events that were taken from the journal are handed on without waiting for the next one.

Bounds: ``max_transaction_bytes`` a transaction; ``outbox_max_bytes`` not yet taken by the queue, then ``Busy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from actors.identity.courier import Courier, Deliver
from actors.identity.filling import Filling, Past
from actors.identity.windows import mark_windows
from actors.queue.log import Entry
from segment_do.errors import Busy, CorruptData, OwnershipLost, SegmentDoError, StorageFailed
from segment_do.home import write_durably
from segment_do.identity import DEFAULT_RULES, Graph, Rules
from segment_do.identity.computation import Declared
from segment_do.identity.questions import CHANGES, answer
from segment_do.identity.shards import Layout
from segment_do.identity.shards.letters import Envelope
from segment_do.settings import IdentitySettings
from segment_do.units import shown_name

__all__ = ["Activation", "HandOver", "unfinished"]

log = structlog.get_logger(__name__)
T = TypeVar("T")


async def nowhere(unit: str, _letters: list[Envelope]) -> None:
    """Where an identity is one graph, it writes no letters."""
    raise AssertionError(f"nobody takes letters to {shown_name(unit)}")


HandOver = Callable[[list[Entry]], Awaitable[None]]
"""Gives outbox entries to the queue; returns when they are in its log."""

_MARK: Final = "awake"
_MAX_TRANSACTION_BYTES: Final = 4 * 2**20
_HAND_OVER_BYTES: Final = 2**20
_SMALL_HAND_OVER_BYTES: Final = 64 * 1024
_PACE_SECONDS: Final = 0.02  # between small hand-overs: a call costs a millisecond whatever it carries
_LONGEST_WAIT_SECONDS: Final = 2.0
_AWAKE_BYTES: Final = 200 * 1024  # an empty graph's connection and caches
_MAINTAIN_SECONDS: Final = 60.0
"""Between calls of :meth:`Activation.maintain` that do something, where the last one left nothing to do and nothing has come since."""
_SWEEP_SECONDS: Final = 0.3
"""One call of :meth:`Activation.maintain` looks at profiles for about so long."""


class _Waiting(NamedTuple):
    """What somebody gave, and waits to be committed."""

    pack: bytes
    events: int
    letters: list[Envelope]
    done: asyncio.Future[None]

    @property
    def size(self) -> int:
        return len(self.pack) + sum(len(letter.body) for letter in self.letters)


class Activation:
    """Made by :meth:`wake`; one event loop uses it."""

    def __init__(
        self,
        folder: Path,
        identity: str,
        graph: Graph,
        settings: IdentitySettings,
        hand_over: HandOver,
        threads: ThreadPoolExecutor,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        rules: Rules,
        deliver: Deliver,
        past: Past | None = None,
        rested: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self.identity = identity
        self._graph = graph
        self._settings = settings
        self._hand_over = hand_over
        self._threads = threads
        self._clock = clock
        self._monotonic = monotonic
        self._rules = rules
        self._rested = rested
        self._maintained_at = self._monotonic()
        self._turn = asyncio.Lock()
        self._waiting: list[_Waiting] = []
        self._applying: asyncio.Task[None] | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._unpumped = False
        self._handed = 0
        self._handed_some = asyncio.Condition()
        self._past = past
        self._filling: asyncio.Task[None] | None = None
        self.settled = False
        """Whether :meth:`maintain` found nothing more to do."""
        self._marked: int | None = -1
        self._courier: Courier | None = None
        if graph.shard is not None:
            self._courier = Courier(identity, graph.shard.post, deliver, self._on_thread, rested)
            self._courier.go_soon()
        self.closed = False
        self.used_at = self._monotonic()
        self.events = 0
        self.duplicates = 0
        if graph.outbox_bytes:
            self._pump_soon()
        self._fill_soon()

    @classmethod
    async def wake(
        cls,
        folder: Path,
        identity: str,
        settings: IdentitySettings,
        hand_over: HandOver,
        threads: ThreadPoolExecutor,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        rules: Rules = DEFAULT_RULES,
        layout: Layout | None = None,
        deliver: Deliver = nowhere,
        past: Past | None = None,
        declared: Sequence[Declared] = (),
        rested: Callable[[], None] = lambda: None,
    ) -> Activation:
        """Open the identity's file, and go on with what its outbox still holds, and with what was being filled from the ``past``.

        ``rules`` hold unless it has its own. ``declared`` are the settings' computed traits and audiences. Where the identity is laid out over
        several graphs, ``layout`` says how, ``identity`` is this graph's name, and ``deliver`` takes letters to the others.
        ``rested`` is called when it may have become :attr:`idle`.

        Raises:
            OwnershipLost: another activation has it.
            StorageFailed, CorruptData: the file cannot be used.
        """

        def open_marked() -> Graph:
            graph = Graph.open(
                folder, identity, dedupe_days=settings.dedupe_days, clock=clock, rules=rules, layout=layout
            )
            try:
                for refused in graph.computations.declare(declared):
                    log.warning("the settings are not followed", identity=shown_name(identity), reason=refused)
                if not (folder / _MARK).exists():
                    write_durably(folder / _MARK, identity.encode("utf-8", "surrogatepass"))
            except OSError as error:
                graph.close()  # or its lock would keep everyone out, ourselves included
                raise StorageFailed(f"The disk refused a mark for identity {identity!r}: {error.strerror}.") from error
            except SegmentDoError:
                graph.close()
                raise
            return graph

        graph = await asyncio.get_running_loop().run_in_executor(threads, open_marked)
        return cls(
            folder, identity, graph, settings, hand_over, threads, clock, monotonic, rules, deliver, past, rested
        )

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is on its way, and no events of before are being counted."""
        at_work = self._applying or self._pumping or self._filling
        quiet = not self._waiting and at_work is None
        return quiet and (self._courier is None or self._courier.idle)

    @property
    def memory_bytes(self) -> int:
        """About what it costs to keep it awake."""
        return _AWAKE_BYTES + self._graph.memory_bytes

    async def apply(self, pack: bytes, count: int) -> None:
        """Apply events; returns when they are committed.

        Raises:
            Busy: the queue does not take the outbox.
            StorageFailed: the disk refused; nothing of it is stored.
            OwnershipLost: another activation owns the file; this one is closed.
        """
        if self.closed:
            raise OwnershipLost(f"This activation of {self.identity!r} is closed.")
        if self._graph.outbox_bytes > self._settings.outbox_max_bytes:
            raise Busy("The identity's outbox is full: the queue does not take it.", retry_after=2)
        if self._graph.letter_bytes > self._settings.outbox_max_bytes:
            raise Busy("The shard's letters wait: other shards do not take them.", retry_after=2)
        await self._take(pack, count, [])

    async def receive(self, letters: list[Envelope]) -> None:
        """Take in letters of other shards; returns when they are committed. Never refused for being full: two full shards would wait
        for each other.

        Raises:
            StorageFailed: the disk refused; nothing of it is stored.
            OwnershipLost: another activation owns the file; this one is closed.
        """
        if self.closed:
            raise OwnershipLost(f"This activation of {shown_name(self.identity)!r} is closed.")
        await self._take(b"", 0, letters)

    async def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        """Ask the graph, as last committed; see :mod:`segment_do.identity.questions`. What changes is handed over like events.

        Raises:
            OwnershipLost: another activation owns the file; this one is closed.
            SegmentDoError: what the question raises.
        """
        if self.closed:
            raise OwnershipLost(f"This activation of {self.identity!r} is closed.")
        self.used_at = self._monotonic()
        asked = self._on_thread(partial(answer, self._graph, question, arguments, self._rules))
        try:
            # Shielded: a caller that goes away must not give the turn to somebody else while the thread still works.
            told = await asyncio.shield(asked)
        except (StorageFailed, OwnershipLost, CorruptData) as error:
            if question in CHANGES:  # as for events: what the file holds is read afresh by the next activation
                self.closed = True
                self._fail(error)
            raise
        if question in CHANGES:
            self.settled = False
            self._pump_soon()
            self._fill_soon()
        return told

    async def maintain(self) -> None:
        """Bounded housekeeping; the owner calls it now and then.

        Raises:
            SegmentDoError: the graph's. Where its file failed, this activation is closed: the next one reads it afresh.
        """
        since = self._monotonic() - self._maintained_at
        if (
            self.settled
            and not self._graph.sweeping
            and self.used_at < self._maintained_at
            and since < _MAINTAIN_SECONDS
        ):
            await asyncio.sleep(0)  # of hundreds in a row, others get their turn between them
            return
        self._maintained_at = self._monotonic()
        now, until = self._clock(), self._monotonic() + _SWEEP_SECONDS
        while self._graph.outbox_bytes <= self._settings.outbox_max_bytes:
            # In short steps, so that events that came meanwhile have their turn between them.
            try:
                self.settled = await self._on_thread(self._graph.maintain)
            except SegmentDoError as error:
                if self._graph.failed:  # and not because the disk is full, which passes
                    self.closed = True
                    self._fail(error)
                raise
            if self.settled or not self._graph.sweeping or self._monotonic() >= until:
                break
        if self._graph.outbox_bytes:
            self._pump_soon()  # what was told of profiles needs no event to go out
        if self.settled:
            await self._mark_windows(self._graph.computations.due_at(now))
        if self._filling is not None:
            self.used_at = self._monotonic()  # others go to sleep before it
        self._fill_soon()

    def status(self) -> dict[str, Any]:
        """For /api/status."""
        return {
            "identity": shown_name(self.identity),
            "events": self.events,
            "duplicates": self.duplicates,
            "outboxBytes": self._graph.outbox_bytes,
            "epoch": self._graph.epoch,
        }

    async def close(self) -> None:
        """Let go of the file. What the outbox holds stays in it for the next activation."""
        self.closed = True
        if self._courier is not None:
            await self._courier.close()
        tasks = [task for task in (self._applying, self._pumping, self._filling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail(OwnershipLost(f"This activation of {self.identity!r} is closing."))
        handed_over = not self._graph.outbox_bytes and not self._graph.letter_bytes
        finished = handed_over and not self._graph.computations.filling
        due_at = self._graph.computations.due_at(self._clock())
        if due_at is not None and (not self.settled or self._graph.sweeping):
            due_at = 0  # it has not looked at everything yet: it is woken at once, and gets there
        await self._mark_windows(due_at)
        await self._on_thread(self._graph.close)
        if finished:
            (self._folder / _MARK).unlink(missing_ok=True)

    async def _take(self, pack: bytes, count: int, letters: list[Envelope]) -> None:
        if count or letters:  # what only wakes is no use
            self.used_at = self._monotonic()
        waiting = _Waiting(pack, count, letters, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._applying is None:
            self._applying = asyncio.create_task(self._apply_waiting())
        await waiting.done

    async def _apply_waiting(self) -> None:
        try:
            while self._waiting:
                size = taken = 0
                for each in self._waiting:
                    taken += 1
                    size += each.size
                    if size >= _MAX_TRANSACTION_BYTES:
                        break
                group, self._waiting = self._waiting[:taken], self._waiting[taken:]
                packs = [(each.pack, each.events) for each in group]
                letters = [letter for each in group for letter in each.letters]
                try:
                    applied = await self._on_thread(partial(self._graph.apply, packs, self._clock(), letters))
                except asyncio.CancelledError:
                    self._waiting = group + self._waiting  # :meth:`close` has stopped this, and tells all who wait
                    raise
                except Exception as error:  # noqa: BLE001  # the callers keep the events and decide
                    for each in group:
                        if not each.done.done():
                            each.done.set_exception(error)
                    if isinstance(error, SegmentDoError):
                        # Lost, or the disk failed: what the file holds is read afresh by the next activation.
                        self.closed = True
                        self._fail(error)
                    continue
                self.events += applied.accepted
                self.duplicates += applied.duplicates
                for each in group:
                    if not each.done.done():
                        each.done.set_result(None)
                self._pump_soon()
        finally:
            self._applying = None
            self._rested()

    def _fail(self, error: SegmentDoError) -> None:
        for each in self._waiting:
            if not each.done.done():
                each.done.set_exception(error)
        self._waiting = []

    def _pump_soon(self) -> None:
        self._unpumped = True
        if self._courier is not None:
            self._courier.go_soon()
        if self._pumping is None and not self.closed:
            self._pumping = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        wait_seconds = _PACE_SECONDS
        try:
            while not self.closed:
                try:
                    size = await self._hand_over_some()
                except OwnershipLost:
                    self.closed = True
                    return
                except Exception as error:  # noqa: BLE001  # whatever broke, the outbox must go on
                    log.warning("the outbox was not handed over", identity=self.identity, error=str(error)[:500])
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
                    continue
                wait_seconds = _PACE_SECONDS
                if size:
                    if size < _SMALL_HAND_OVER_BYTES:
                        await asyncio.sleep(_PACE_SECONDS)
                elif self._unpumped:
                    self._unpumped = False
                else:
                    return
        finally:
            self._pumping = None
            self._rested()

    async def _hand_over_some(self) -> int:
        """Hand over the oldest entries; their bytes, 0 when there are none."""
        if not self._graph.outbox_bytes:
            return 0
        rows = await self._on_thread(partial(self._graph.outbox, _HAND_OVER_BYTES, after=self._handed))
        if not rows:
            return 0
        await self._hand_over(
            [Entry(self.identity, self._graph.born, self._graph.epoch, row.seq, row.count, row.pack) for row in rows]
        )
        self._handed = rows[-1].seq
        await self._on_thread(partial(self._graph.forget, self._handed))
        async with self._handed_some:
            self._handed_some.notify_all()
        return sum(len(row.pack) for row in rows)

    async def _mark_windows(self, due_at: int | None) -> None:
        """Tell whoever wakes identities when this is one to be woken."""
        if due_at == self._marked:
            return
        try:
            await self._on_thread(partial(mark_windows, self._folder, self.identity, due_at))
            self._marked = due_at
        except OSError as error:
            log.warning("the mark of windows was not kept", identity=shown_name(self.identity), error=str(error))

    def _fill_soon(self) -> None:
        if self._past is not None and self._filling is None and not self.closed and self._graph.computations.filling:
            filling = Filling(self.identity, self._graph, self._past, self._on_thread, self._handed_over, self._clock)
            self._filling = asyncio.create_task(self._fill(filling))

    async def _fill(self, filling: Filling) -> None:
        try:
            await filling.run()
        except (StorageFailed, OwnershipLost, CorruptData) as error:  # as for events; the next activation goes on
            log.warning("the past is not counted on", identity=shown_name(self.identity), error=str(error)[:500])
            self.closed = True
            self._fail(error)
        except Exception:
            log.exception("the past is not counted on; it will be tried again", identity=shown_name(self.identity))
        finally:
            self._filling = None
            self.settled = False  # profiles are to be looked at
            self._rested()

    async def _handed_over(self, seq: int) -> None:
        async with self._handed_some:
            await self._handed_some.wait_for(lambda: self._handed >= seq or not self._graph.outbox_bytes)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        async with self._turn:  # one thread at a time has the file
            done = asyncio.get_running_loop().run_in_executor(self._threads, work)
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                await asyncio.wait([done])  # who is cancelled must not give the turn away while the thread still works
                raise


def unfinished(root: Path) -> list[str]:
    """Identities below ``root`` that were awake when their process ended, or that went to sleep with events to hand over."""
    found = []
    for mark in sorted(root.glob(f"*/{_MARK}")):
        with contextlib.suppress(FileNotFoundError):  # went to sleep a moment ago, with nothing left to hand over
            found.append(mark.read_bytes().decode("utf-8", "surrogatepass"))
    return found
