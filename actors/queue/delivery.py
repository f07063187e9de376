"""One destination's engine: reads the log, sends, sets aside what fails, moves the cursor. Plain asyncio, no Ray.

Promised: every event of the log that the destination is for is attempted at least once; none is lost by a crash,
a stop or a cancellation at any point, and each ends as delivered or as a dead letter. What had been sent when the
process died, and whose outcome was not stored yet, is sent again with the same message id. Attempts start in the
log's order; up to ``concurrency`` are under way at once and may overtake each other, and an event that is tried again
comes after events that were behind it. With ``concurrency`` 1, first attempts keep the log's order.

In order: read a chunk → start attempts while circuit, window and room for retries allow → each outcome waits in the
window until all before it are there → one transaction stores them and the cursor. A second loop takes what is due
for another attempt. A destination has its own connections, tasks and pauses: none waits for another.

Bounds: ``concurrency`` requests; about 1 MB of the log in memory; ``WINDOW_EVENTS`` events (or two rounds of
requests) between the cursor and the furthest attempt; ``max_retrying`` events set aside, then the cursor waits.
"""

from __future__ import annotations

import asyncio
import random as chance
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from actors.queue.attempt import Attempts
from actors.queue.circuit import Circuit, Ticket
from actors.queue.clock import Clock, SystemClock
from actors.queue.frame import Frame, Reader
from actors.queue.ledger import Counts, DeadLetter, Ledger, Retry
from actors.queue.settle import Attempted, Settled, unreadable
from actors.queue.window import Part, Passed, Window
from destinations.base import DestinationConfig, Sender
from destinations.integrations import is_for
from destinations.retry import backoff_seconds
from segment_do.errors import CorruptData, InvalidRequest, NotReady, StorageFailed
from segment_do.events.record import NOT_EVENTS, Record, decode_pack
from segment_do.events.whole import whole_event
from segment_do.settings import DeliverySettings

__all__ = ["Delivery"]

CHUNK_BYTES = 1 << 20
WINDOW_EVENTS = 1024
COMMIT_EVENTS = 64
"""Outcomes stored together while attempts are under way; when none is, what there is is stored at once."""
COMMIT_OFFSETS = 4096
"""Offsets of other sources' events that may be passed without a transaction of their own."""
RETRIES_A_ROUND = 256
IDLE_SECONDS = 0.1
"""Wait after a reader came back with nothing."""

log = structlog.get_logger(__name__)


class _Item(NamedTuple):
    """An event of the log that this destination is for."""

    offset: int
    record: Record
    identity: str


class Delivery:
    """One destination. One ``run`` at a time; whoever made the sender's connections closes them."""

    _cursor: int
    """As stored."""
    _position: int
    """Next offset to read."""
    _counts: Counts

    def __init__(
        self,
        destination: DestinationConfig,
        sender: Sender,
        reader: Reader,
        ledger: Ledger,
        settings: DeliverySettings,
        *,
        names: Collection[str] = (),
        clock: Clock | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self._id = destination.id
        self._names = (destination.name, *names)  # by which an event's integrations object may speak of it
        self._source_id = destination.source_id
        self._batch_size = sender.batch_size
        self._reader = reader
        self._ledger = ledger
        self._settings = settings
        self._clock = clock or SystemClock()
        self._random = random
        self._circuit = Circuit(settings, random)
        self._attempts = Attempts(destination.id, sender, settings, self._circuit, self._clock, random)
        self._window_events = max(WINDOW_EVENTS, 2 * settings.concurrency * sender.batch_size)
        self._running = False
        self._stop_asked = asyncio.Event()
        self._stopped = asyncio.Event()
        self._wake_fresh = asyncio.Event()
        self._wake_retry = asyncio.Event()
        self._rewinds: list[tuple[int, asyncio.Future[int]]] = []
        self._begin(0, Counts())

    # Life

    async def load(self) -> None:
        """Read cursor and counters, so that :meth:`status` of a delivery that does not run is right.

        A destination that has no cursor gets one here: the log's end. What is written later is for it.
        """
        if not self._running:
            await self._load()

    async def run(self) -> None:
        """Deliver until :meth:`stop`. May be cancelled at any point.

        Raises:
            CorruptData: a frame of the log cannot be read.
            OwnershipLost: another process has the ledger.
            StorageFailed: stopped while the ledger could not be written.
        """
        assert not self._running, "one run at a time"
        self._running = True
        self._stop_asked.clear()
        self._stopped.clear()
        try:
            await self._load()
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._deliver_fresh())
                loops.create_task(self._deliver_retries())
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._running = False
            self._stopped.set()
            for _, answer in self._rewinds:
                if not answer.done():
                    answer.set_exception(NotReady("The destination was stopped before the replay began."))
            self._rewinds.clear()

    async def stop(self) -> None:
        """Start nothing more, wait for attempts under way (at most their timeout), store their outcomes."""
        if self._running:
            self._stop_asked.set()
            self._wake()
            await self._stopped.wait()

    def status(self) -> dict[str, Any]:
        """``cursor`` (stored), ``lag`` (offsets in the log whose fate is not stored), ``delivered``, ``retrying``, ``dead``,
        ``dropped``, ``skipped``, ``state`` (stopped, delivering or paused), ``lastFailure`` (a reason, or "")."""
        paused = self._circuit.tripped or self._circuit.wait_seconds("fresh", self._clock.monotonic()) != 0.0
        next_fresh = self._pending[0].offset if self._pending else self._position
        return {
            "cursor": self._cursor,
            "lag": max(0, self._reader.end - self._window.first_event(next_fresh)),
            **msgspec.structs.asdict(self._counts),
            "state": "stopped" if not self._running else "paused" if paused else "delivering",
            "lastFailure": self._attempts.last_failure,
        }

    # Asked for by people

    async def deliver_test(self) -> dict[str, Any]:
        """Send one sample event now: ``{"ok", "status", "detail"}``. Nothing is stored, whatever comes of it."""
        return await self._attempts.test()

    async def replay_dead(self) -> int:
        """Make dead letters due at once; how many. At most what ``max_retrying`` leaves room for: ask again for more."""
        most = self._settings.max_retrying - self._window.events
        replayed, self._counts = await self._ledger.replay_dead(self._id, self._clock.now(), most)
        self._wake()
        return replayed

    async def replay_from(self, offset: int) -> int:
        """Move the cursor back to ``offset``, or to what the log still has: all from there is delivered again.

        Retries and dead letters that the cursor passes again are replaced by the new outcome. Works on a delivery
        that does not run, too. Returns how many offsets the cursor went back.

        Raises:
            InvalidRequest: ``offset`` is not behind the cursor. Moving ahead would lose events.
            NotReady: the delivery was stopped meanwhile.
        """
        if not self._running:
            await self.load()
            return await self._move_back(offset, self._cursor)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._rewinds.append((offset, answer))
        self._wake()
        return await answer

    # From the log

    async def _deliver_fresh(self) -> None:
        reading: asyncio.Task[list[Frame]] | None = None
        try:
            async with asyncio.TaskGroup() as attempts:
                while not self._stop_asked.is_set():
                    self._wake_fresh.clear()
                    if self._rewinds:
                        if reading is not None:
                            await _cancel(reading)
                            reading = None
                        await self._rewind()
                    elif (seconds := self._hindrance()) != 0.0:
                        await self._clock.wait(self._wake_fresh, seconds)
                    elif self._pending:
                        await self._slots.acquire()
                        self._start_attempt(attempts)
                    elif self._position < self._reader.floor:
                        await self._skip_to(self._reader.floor)
                    else:
                        if reading is None:
                            reading = asyncio.create_task(self._reader.read(self._position, CHUNK_BYTES))
                        if await self._done_or_woken(reading):
                            frames, reading = reading.result(), None
                            await self._take_in(frames)
        finally:
            if reading is not None:
                await _cancel(reading)
        await self._store(everything=True)

    def _hindrance(self) -> float | None:
        """0 when an attempt may start; else seconds to wait, None = until woken."""
        if self._window.events >= self._window_events or self._room() <= 0:
            return None
        return self._circuit.wait_seconds("fresh", self._clock.monotonic())

    def _room(self) -> int:
        # All that is in the window may yet fail; counted in, max_retrying holds whatever comes of it.
        return self._settings.max_retrying - self._counts.retrying - self._window.events

    async def _take_in(self, frames: Sequence[Frame]) -> None:
        """Pick this destination's events out of a chunk."""
        if not frames:
            await self._clock.wait(self._wake_fresh, IDLE_SECONDS)
            return
        if frames[0].first_offset > self._position:
            await self._skip_to(frames[0].first_offset)
            return  # read again: what is under way may have had to be waited for
        for frame in frames:
            for offset, record in enumerate(_records(frame), frame.first_offset):
                if offset >= self._position and self._is_for_us(record):
                    self._pending.append(_Item(offset, record, frame.identity))
        start, self._position = self._position, frames[-1].first_offset + frames[-1].count
        first = self._pending[0].offset if self._pending else self._position
        if first > start:
            self._window.start(start, first, 0)
            await self._store()

    def _is_for_us(self, record: Record) -> bool:
        return (
            record.type not in NOT_EVENTS
            and (self._source_id is None or record.source_id == self._source_id)
            and is_for(record.payload, self._names)
        )

    def _start_attempt(self, attempts: asyncio.TaskGroup) -> None:
        """Start the next attempt in the slot just acquired, unless things have changed since."""
        ticket = None
        if not self._stop_asked.is_set() and not self._rewinds and self._hindrance() == 0.0:
            ticket = self._circuit.admit("fresh", self._clock.monotonic())
        if ticket is None:
            self._slots.release()
            return
        most = 1 if ticket.probe else min(self._batch_size, self._room())
        items: list[_Item] = []
        size_bytes = 0
        while self._pending and len(items) < most and size_bytes < CHUNK_BYTES:
            items.append(self._pending.popleft())
            size_bytes += len(items[-1].record.payload)
        end = self._pending[0].offset if self._pending else self._position
        part = self._window.start(items[0].offset, end, len(items))
        self._in_flight += 1
        attempts.create_task(self._attempt_fresh(items, part, ticket))

    async def _attempt_fresh(self, items: Sequence[_Item], part: Part, ticket: Ticket) -> None:
        try:
            events, broken = _written(items, self._clock.now())
            settled = await self._attempts.make(events, ticket)
            self._window.finish(part, len(settled.delivered), settled.retries, [*settled.dead, *broken])
        finally:
            self._in_flight -= 1
            self._give_back(ticket)
        await self._store()

    # Another attempt

    async def _deliver_retries(self) -> None:
        while not self._stop_asked.is_set():
            self._wake_retry.clear()
            seconds = self._circuit.wait_seconds("retry", self._clock.monotonic())
            if seconds == 0.0:
                now = self._clock.now()
                due = await self._ledger.due(self._id, now, RETRIES_A_ROUND) if self._counts.retrying else []
                if due:
                    await self._retry_round(due)
                    continue
                next_at = await self._ledger.next_due(self._id) if self._counts.retrying else None
                now = self._clock.now()  # the ledger took its time
                if next_at is not None and next_at <= now:
                    continue
                seconds = None if next_at is None else (next_at - now) / 1_000_000
            await self._clock.wait(self._wake_retry, seconds)

    async def _retry_round(self, due: Sequence[Retry]) -> None:
        """One attempt at each, as far as the circuit lets; what was not tried stays due."""
        done: list[Settled] = []
        async with asyncio.TaskGroup() as attempts:
            for first in range(0, len(due), self._batch_size):
                await self._slots.acquire()
                ticket = None
                if not self._stop_asked.is_set():
                    ticket = self._circuit.admit("retry", self._clock.monotonic())
                if ticket is None:
                    self._slots.release()
                    break
                rows = due[first : first + (1 if ticket.probe else self._batch_size)]
                attempts.create_task(self._attempt_retry(rows, ticket, done))
        if done:
            await self._until_stored(lambda: self._store_retried(done))

    async def _attempt_retry(self, rows: Sequence[Retry], ticket: Ticket, done: list[Settled]) -> None:
        events = [
            Attempted(row.offset, row.message_id, row.event, row.attempts + 1, row.first_failed_at) for row in rows
        ]
        try:
            done.append(await self._attempts.make(events, ticket))
        finally:
            self._give_back(ticket)

    def _give_back(self, ticket: Ticket) -> None:
        self._circuit.withdraw(ticket)
        self._slots.release()
        self._wake_fresh.set()
        if ticket.probe:
            self._wake_retry.set()

    # To the ledger

    async def _store(self, *, everything: bool = False) -> None:
        """Store what is finished at the window's front, when it is worth a transaction."""
        async with self._storing:
            events, offsets = self._window.ready()
            idle = self._in_flight == 0 and events > 0
            if everything or idle or events >= COMMIT_EVENTS or offsets >= COMMIT_OFFSETS:
                passed = self._window.front()
                if passed is not None:
                    await self._until_stored(lambda: self._store_passed(passed))
                    # Not before: were it gone when storing fails, the next part's would move the cursor over it.
                    self._window.drop(passed)

    async def _store_passed(self, passed: Passed) -> Counts:
        counts = await self._ledger.passed(
            self._id,
            passed.start,
            passed.end,
            delivered=passed.delivered,
            retries=passed.retries,
            dead=passed.dead,
            max_dead_letters=self._settings.max_dead_letters,
        )
        self._cursor = passed.end
        if passed.retries:
            self._wake_retry.set()
        return counts

    async def _store_retried(self, done: Sequence[Settled]) -> Counts:
        return await self._ledger.retried(
            self._id,
            delivered=[offset for settled in done for offset in settled.delivered],
            again=[row for settled in done for row in settled.retries],
            dead=[row for settled in done for row in settled.dead],
            max_dead_letters=self._settings.max_dead_letters,
        )

    async def _until_stored(self, store: Callable[[], Coroutine[Any, Any, Counts]]) -> None:
        """Until the disk takes it: the events are out; giving up would only send them all again.

        Meanwhile the window fills, and then nothing is sent. A stop gives up: what is not stored is sent again.
        """
        failures = 0
        while True:
            try:
                self._counts = await store()
                break
            except StorageFailed as error:
                failures += 1
                log.warning("outcomes of deliveries cannot be stored", destination=self._id, error=str(error))
                if self._stop_asked.is_set():
                    raise
                await self._clock.wait(self._stop_asked, backoff_seconds(failures, self._settings, self._random))
        self._wake_fresh.set()

    # Moving the cursor otherwise

    async def _skip_to(self, offset: int) -> None:
        """The log has forgotten what comes next: go on where it begins, and count what can no longer be delivered."""
        if not await self._settled():
            return
        start = self._position
        log.warning("the log forgot events before they were delivered", destination=self._id, events=offset - start)
        await self._until_stored(lambda: self._ledger.skipped(self._id, start, offset))
        self._cursor = self._position = offset

    async def _rewind(self) -> None:
        """Carry out the replays asked for."""
        if not await self._settled():
            return
        self._pending.clear()
        rewinds, self._rewinds = self._rewinds, []
        before = self._cursor
        try:
            for offset, answer in rewinds:
                try:
                    moved = await self._move_back(offset, before)
                except (InvalidRequest, StorageFailed) as error:
                    if not answer.done():
                        answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(moved)
        finally:
            self._position = self._cursor

    async def _settled(self) -> bool:
        """Whether nothing is under way and all is stored, so that the cursor may jump; waits a step when not."""
        if self._in_flight:
            await self._clock.wait(self._wake_fresh, None)
            return False
        await self._store(everything=True)
        return True

    async def _move_back(self, offset: int, cursor: int) -> int:
        if not 0 <= offset <= cursor:
            raise InvalidRequest(
                f"There is nothing to replay from offset {offset}: the destination is at {cursor}.",
                hint="Give an offset that lies behind the destination's cursor.",
            )
        target = min(max(offset, self._reader.floor), cursor)
        if target < self._cursor:  # of several replays asked for at once the furthest back counts
            await self._ledger.move_cursor(self._id, target)
            self._cursor = self._position = target
        return cursor - target

    # State

    async def _load(self) -> None:
        cursor = await self._ledger.ensure_cursor(self._id, self._reader.end)
        # Behind the end of a log that lost its tail, a cursor would step over new events.
        self._begin(min(cursor, self._reader.end), await self._ledger.counts(self._id))

    def _begin(self, cursor: int, counts: Counts) -> None:
        self._cursor = cursor
        self._position = cursor
        self._counts = counts
        self._pending: deque[_Item] = deque()
        self._window = Window()
        self._in_flight = 0
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        self._storing = asyncio.Lock()

    async def _done_or_woken(self, reading: asyncio.Task[Any]) -> bool:
        woken = asyncio.ensure_future(self._wake_fresh.wait())
        try:
            await asyncio.wait((reading, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        return reading.done()

    def _wake(self) -> None:
        self._wake_fresh.set()
        self._wake_retry.set()


def _records(frame: Frame) -> list[Record]:
    try:
        return decode_pack(frame.pack, frame.count)
    except msgspec.DecodeError as error:
        raise CorruptData(f"The log's frame at offset {frame.first_offset} cannot be read.") from error


def _written(items: Sequence[_Item], now: int) -> tuple[list[Attempted], list[DeadLetter]]:
    """Each event whole; those that cannot be put together as dead letters."""
    events: list[Attempted] = []
    broken: list[DeadLetter] = []
    for offset, record, identity in items:
        try:
            events.append(Attempted(offset, record.message_id, whole_event(record, identity)))
        except (msgspec.DecodeError, OverflowError):
            broken.append(unreadable(offset, record.message_id, record.payload, now))
    return events, broken


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group is about: one task's error, for which the others were cancelled."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
