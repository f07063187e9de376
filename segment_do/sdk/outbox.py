"""Events between the calls and the sender: one bounded queue, cut into batches in the order of the calls.

Promised: events leave in the order in which they came, one batch at a time; an event counts towards the bounds until it
is settled; every receipt that was taken is settled exactly once. All state is behind one lock that is never held across
I/O or foreign code.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from segment_do.errors import Busy, SegmentDoError
from segment_do.sdk.options import Options
from segment_do.sdk.receipt import Closing, Completion, Outcome, Receipt, settle, settle_silently

__all__ = ["BATCH_BYTES", "ENVELOPE_BYTES", "ClientClosed", "Entry", "NotDelivered", "Outbox"]

BATCH_BYTES: Final = 475_000
"""A request's body stays below this, before compression; the contract's limit is 500 KB."""

ENVELOPE_BYTES: Final = 64
"""Room for what surrounds the events: ``{"batch":[…],"sentAt":"…"}``."""

_HURRIED_BACKOFF_SECONDS: Final = 0.5
"""Longest backoff once the client is closing: the little time left is for attempts."""


class ClientClosed(SegmentDoError):
    """The client was closed; it takes no more events."""

    code = "client_closed"


class NotDelivered(SegmentDoError):
    """The sender stopped before the platform acknowledged the event: it is stored once, or not at all."""

    code = "not_delivered"


class Entry(NamedTuple):
    """One event under way."""

    data: bytes
    receipt: Receipt


class Outbox:
    """Calls put, one sender takes. ``put``, ``flush``, ``close`` and ``abandon`` may be called from any thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._clear()

    def _clear(self) -> None:
        # Reentrant: a signal handler or a finalizer may track while its own thread is in here. Counters are therefore
        # changed in one step, with nothing called between their reading and their writing.
        self._lock = threading.RLock()
        self._filled = threading.Condition(self._lock)  # the sender waits here
        self._room = threading.Condition(self._lock)  # blocked calls wait here
        self._queue: deque[Entry] = deque()
        self._under_way: list[Entry] = []
        self._events = 0
        self._bytes = 0
        self._queued_bytes = 0
        self._accepted = 0
        self._settled = 0
        self._marks: deque[tuple[int, Completion]] = deque()
        self._oldest_at = 0.0
        self._urgent = False
        self._closed = False
        self._deadline: float | None = None
        self._attended = False
        self.dropped = 0
        """Events not taken because the queue was at its bound (``on_full="drop"``)."""

    @property
    def unsettled(self) -> int:
        """Events taken and not yet settled."""
        return self._events

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def attended(self) -> bool:
        """Whether a sender is at work on this queue."""
        return self._attended

    def put(self, entries: Sequence[Entry]) -> bool:
        """Take events, all of them or none. True when no sender is at work: the caller has to start one.

        Raises:
            ClientClosed: after ``close``.
            Busy: there is no room and ``on_full`` is ``raise``, or there never will be.
        """
        count = len(entries)
        size = 0
        for entry in entries:
            size += len(entry.data)
        refused: Busy | None = None
        with self._lock:
            if self._closed:
                raise ClientClosed("This client was closed; it takes no more events.")
            if not self._fits(count, size):
                refused = self._make_room(count, size)
            if refused is None:
                if not self._queue:
                    self._oldest_at = self._options.timing.monotonic()
                    self._filled.notify()
                self._queue.extend(entries)
                self._queued_bytes += size
                self._events += count
                self._bytes += size
                self._accepted += count
                if self._full_batch():
                    self._filled.notify()
                start = not self._attended
                self._attended = True
                return start
            self.dropped += count
        settle((entry.receipt, refused) for entry in entries)
        return False

    def hurry(self) -> None:
        """Somebody waits for what is queued: send it without lingering for company."""
        with self._lock:
            if self._queue and not self._urgent:
                self._urgent = True
                self._filled.notify()

    def flush(self) -> Completion:
        """Settled when everything taken so far is settled, well or not."""
        mark = Completion()
        with self._lock:
            if self._settled < self._accepted:
                self._marks.append((self._accepted, mark))
                self._urgent = bool(self._queue)
                self._filled.notify()
                return mark
        settle([(mark, None)])
        return mark

    def close(self, timeout_seconds: float, give_up: Callable[[], object]) -> Closing:
        """Take no more; settled when everything taken is settled. ``give_up`` is called when that takes too long, and
        has to :meth:`abandon` the rest.
        """
        until = self._options.timing.monotonic() + timeout_seconds
        mark = Closing(timeout_seconds, give_up)
        with self._lock:
            self._closed = True
            self._deadline = until if self._deadline is None else min(self._deadline, until)
            self._filled.notify()
            self._room.notify_all()
            if self._settled < self._accepted:
                self._marks.append((self._accepted, mark))
                return mark
        settle([(mark, None)])
        return mark

    def take(self, idle_seconds: float) -> list[Entry] | None:
        """The next batch, as soon as it is due. None: nothing came for so long, or closed; the sender is to leave."""
        timing = self._options.timing
        with self._lock:
            while True:
                if not self._queue:
                    if self._closed or (not self._filled.wait(idle_seconds) and not self._queue):
                        self._attended = False
                        return None
                    continue
                left = self._oldest_at + self._options.linger_seconds - timing.monotonic()
                if self._urgent or self._closed or left <= 0 or self._full_batch():
                    self._under_way = self._cut()
                    return self._under_way
                timing.wait(self._filled, left)

    def holds(self, batch: list[Entry]) -> bool:
        """Whether a batch that was taken is still to be settled: False once it was abandoned."""
        return batch is self._under_way

    def settle(self, batch: list[Entry], outcomes: Sequence[Outcome]) -> None:
        """What became of a batch that was taken. Without effect when it was abandoned meanwhile."""
        with self._lock:
            if batch is not self._under_way:
                return
            self._under_way = []
            self._release(batch)
            due = self._due_marks()
        settle((entry.receipt, outcome) for entry, outcome in zip(batch, outcomes, strict=True))
        settle((mark, None) for mark in due)

    def abandon(self, error: SegmentDoError) -> list[Entry]:
        """Fail everything not settled yet, and say what that was."""
        with self._lock:
            left = [*self._under_way, *self._queue]
            self._under_way = []
            self._queue.clear()
            self._queued_bytes = 0
            self._release(left)
            due = self._due_marks()
            self._filled.notify()
        settle((entry.receipt, error) for entry in left)
        settle((mark, None) for mark in due)
        return left

    def pause(self, seconds: float, *, demanded: bool) -> bool:
        """Wait before another attempt. False: there is no time for one, the client is closing.

        A wait that the server demanded is kept to; a backoff is cut short once the client is closing.
        """
        timing = self._options.timing
        until = timing.monotonic() + seconds
        cut = False
        with self._lock:
            while True:
                now = timing.monotonic()
                if self._deadline is not None:
                    if not demanded and not cut:
                        until, cut = min(until, now + _HURRIED_BACKOFF_SECONDS), True
                    if now >= self._deadline or until >= self._deadline:
                        return False
                if not self._under_way:  # abandoned meanwhile
                    return False
                if now >= until:
                    return True
                timing.wait(self._filled, until - now)

    def time_left(self) -> float | None:
        """Seconds until the close's limit; None when not closing."""
        deadline = self._deadline
        return None if deadline is None else deadline - self._options.timing.monotonic()

    def unattended(self) -> None:
        """The sender that ``put`` asked for could not be started."""
        with self._lock:
            self._attended = False

    def claim(self) -> bool:
        """Become the sender, if there is work and nobody at it."""
        with self._lock:
            if self._attended or not self._events:
                return False
            self._attended = True
            return True

    def start_afresh(self) -> None:
        """In a forked child: an empty queue and new locks. What was queued is the parent's to deliver."""
        left = [*self._under_way, *self._queue]
        marks = [mark for _, mark in self._marks]
        closed = self._closed
        self._clear()
        self._closed = closed
        theirs = NotDelivered("The process was forked; the parent delivers this event.")
        settle_silently((entry.receipt, theirs) for entry in left)
        settle_silently((mark, None) for mark in marks)

    def _fits(self, events: int, size: int) -> bool:
        options = self._options
        return self._events + events <= options.queue_events and self._bytes + size <= options.queue_bytes

    def _make_room(self, events: int, size: int) -> Busy | None:
        options = self._options
        refused = Busy(
            f"The queue is full: {self._events:,} events ({self._bytes:,} bytes) wait for the platform.",
            hint="Send more slowly, raise queue_events or queue_bytes, or choose on_full.",
            code="queue_full",
        )
        if options.on_full == "drop":
            return refused
        if options.on_full == "raise" or events > options.queue_events or size > options.queue_bytes:
            raise refused
        while not self._fits(events, size):
            self._room.wait()
            if self._closed:
                raise ClientClosed("This client was closed while the call waited for room.")
        return None

    def _full_batch(self) -> bool:
        return (
            len(self._queue) >= self._options.batch_events
            or self._queued_bytes + len(self._queue) + ENVELOPE_BYTES >= BATCH_BYTES
        )

    def _cut(self) -> list[Entry]:
        batch: list[Entry] = []
        size = ENVELOPE_BYTES
        while self._queue and len(batch) < self._options.batch_events:
            length = len(self._queue[0].data) + 1
            if batch and size + length >= BATCH_BYTES:
                break
            size += length
            batch.append(self._queue.popleft())
            self._queued_bytes -= length - 1
        if not self._queue:
            self._urgent = False
        return batch

    def _release(self, entries: list[Entry]) -> None:
        count, size = len(entries), sum(len(entry.data) for entry in entries)
        self._events -= count
        self._bytes -= size
        self._settled += count
        self._room.notify_all()

    def _due_marks(self) -> list[Completion]:
        due = []
        while self._marks and self._marks[0][0] <= self._settled:
            due.append(self._marks.popleft()[1])
        return due
