"""The thread behind a client: it takes batches from the outbox and delivers them, one at a time.

It starts with the first event and leaves when nothing came for a while, so a thousand quiet agents cost no threads. It is
a daemon: a program's end is held up by :mod:`segment_do.sdk.leaving` alone, and for a bounded time. After ``os.fork`` the child
has an empty queue and starts a thread of its own with its first event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from segment_do.errors import SegmentDoError
from segment_do.sdk import leaving
from segment_do.sdk.delivery import Delivery
from segment_do.sdk.options import Options
from segment_do.sdk.outbox import Entry, NotDelivered, Outbox
from segment_do.sdk.receipt import Closing, Completion, Outcome
from segment_do.sdk.source import Source
from segment_do.sdk.transport import HttpTransport

__all__ = ["Sender"]

_IDLE_SECONDS: Final = 5.0
"""A thread without work leaves after so long, and its connections with it."""

_TELL_DROPPED_SECONDS: Final = 10.0
"""Dropped events are told at most so often."""

logger = logging.getLogger("segment_do")


class Sender:
    """One client's queue and the thread that empties it."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._outbox = Outbox(options)
        self._told_dropped = 0
        self._told_dropped_at = float("-inf")
        self.hurry = self._outbox.hurry
        leaving.watch(self)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._outbox.closed

    @property
    def unsettled(self) -> int:
        """Events taken and not yet settled."""
        return self._outbox.unsettled

    @property
    def exit_timeout_seconds(self) -> float:
        """Longest the program's end waits for this client."""
        return self._options.exit_timeout_seconds

    def send(self, entries: Sequence[Entry]) -> None:
        """Queue events, all or none; see :meth:`Outbox.put` for what it raises."""
        if self._outbox.put(entries):
            self._start()
        if self._outbox.dropped != self._told_dropped:
            self._tell_dropped()

    def flush(self) -> Completion:
        """Settled when everything queued so far is acknowledged or failed."""
        mark = self._outbox.flush()
        if not mark.done and self._outbox.claim():
            self._start()
        return mark

    def close(self, timeout_seconds: float) -> Closing:
        """Take no more events; deliver what is queued, for at most so long."""
        return self._outbox.close(timeout_seconds, self._give_up)

    def finish_here(self) -> None:
        """Deliver what is queued on this thread if no other is at it: at exit none can be started any more."""
        if self._outbox.claim():
            self._run()

    def start_afresh(self) -> None:
        """In a forked child: nothing queued, no thread."""
        self._outbox.start_afresh()
        self._told_dropped = 0

    def __str__(self) -> str:
        return str(self._source)

    def _start(self) -> None:
        leaving.expect()
        try:
            threading.Thread(target=self._run, name="segment_do-sender", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down, or the system has no thread left
            leaving.hold(self)
            self._outbox.unattended()

    def _run(self) -> None:
        # Connections are made and used on this thread alone: none crosses a thread, or a fork.
        transport = HttpTransport()
        outbox = self._outbox
        delivery = Delivery(self._source, transport, self._options, outbox.pause, outbox.time_left)
        try:
            while (batch := outbox.take(_IDLE_SECONDS)) is not None:
                outcomes = self._delivered(delivery, batch)
                if outbox.holds(batch):
                    self._tell_failures(batch, outcomes)
                    outbox.settle(batch, outcomes)
                left = outbox.time_left()
                if left is not None and left <= 0:
                    self._give_up()
        finally:
            transport.close()

    def _delivered(self, delivery: Delivery, batch: list[Entry]) -> list[Outcome]:
        try:
            return delivery.deliver(batch)
        except Exception as error:
            # The thread must outlive a bug: receipts would wait for ever.
            logger.exception("A batch could not be sent.")
            return [NotDelivered(f"The sender failed: {type(error).__name__}.")] * len(batch)

    def _give_up(self) -> None:
        error = NotDelivered("The client was closed before the platform acknowledged the event.")
        left = self._outbox.abandon(error)
        if left:
            self._tell(error, [entry.receipt.message_id for entry in left])

    def _tell_failures(self, batch: list[Entry], outcomes: list[Outcome]) -> None:
        failed: dict[int, tuple[SegmentDoError, list[str]]] = {}
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None:
                failed.setdefault(id(outcome), (outcome, []))[1].append(entry.receipt.message_id)
        for error, message_ids in failed.values():
            self._tell(error, message_ids)

    def _tell(self, error: SegmentDoError, message_ids: list[str]) -> None:
        logger.warning("%d events were not delivered to %s: %s", len(message_ids), self._source, error)
        if self._options.on_error is not None:
            try:
                self._options.on_error(error, message_ids)
            except Exception:
                logger.exception("on_error raised.")

    def _tell_dropped(self) -> None:
        now = self._options.timing.monotonic()
        if now - self._told_dropped_at >= _TELL_DROPPED_SECONDS:
            self._told_dropped, self._told_dropped_at = self._outbox.dropped, now
            logger.warning("The queue to %s is full; %d events were dropped so far.", self._source, self._told_dropped)
