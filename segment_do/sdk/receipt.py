"""What a call gives back: a promise of the server's answer that may be awaited, waited for, or dropped.

A receipt is settled once, by whichever thread has the news, and wakes whoever waits: event loops (any number, each woken
once for all of its receipts in a batch) and threads. It needs no event loop to exist, is no coroutine, and so warns of
nothing when it is dropped. There are no locks in it (appends and pops of a list are atomic), so a fork cannot leave one
held; a waiter that was cancelled is skipped.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, overload

from segment_do.errors import SegmentDoError

if TYPE_CHECKING:
    import asyncio

__all__ = ["DELIVERED", "BatchReceipt", "Closing", "Completion", "Outcome", "Receipt", "settle"]

Outcome = SegmentDoError | None
"""How it ended: None = acknowledged by the server, else why not."""

DELIVERED: Final[Outcome] = None

_WAITING: Final = object()


class Completion:
    """Something that will be finished: awaitable from any event loop, :meth:`wait` from any thread."""

    __slots__ = ("_hurry", "_outcome", "_waiters")

    def __init__(self, hurry: Callable[[], None] | None = None) -> None:
        self._hurry = hurry
        self._outcome: Any = _WAITING
        self._waiters: list[Any] = []

    @property
    def done(self) -> bool:
        """Whether it is settled, well or not."""
        return self._outcome is not _WAITING

    @property
    def error(self) -> SegmentDoError | None:
        """Why it failed; None while it is waiting and when all went well."""
        return None if self._outcome is _WAITING else self._outcome

    def wait(self, timeout: float | None = None) -> None:
        """Block this thread until settled; ``timeout`` in seconds. On an event loop, ``await`` it instead.

        Raises:
            TimeoutError: not settled in time. It stays under way and can be waited for again.
            SegmentDoError: it failed; see :attr:`error`.
        """
        if not self._block(timeout):
            raise TimeoutError(f"Not settled within {timeout} seconds.")
        self._raise()

    def __await__(self) -> Generator[Any, None, None]:
        if self._outcome is _WAITING:
            yield from self._arrival().__await__()
        self._raise()

    def _block(self, timeout: float | None) -> bool:
        if self._outcome is _WAITING:
            bell = threading.Event()
            self._waiters.append(bell)
            # Settled between the look and the append: nobody will ring, and nobody needs to.
            if self._outcome is _WAITING:
                if self._hurry is not None:
                    self._hurry()
                bell.wait(timeout)
            self._leave(bell)
        return self._outcome is not _WAITING

    async def _arrival(self) -> None:
        import asyncio  # whoever awaits has it already; whoever does not need not pay for it

        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        self._waiters.append(waiter)
        try:
            if self._outcome is _WAITING:
                if self._hurry is not None:
                    self._hurry()
                await waiter[1]
        finally:
            self._leave(waiter)

    def _leave(self, waiter: object) -> None:
        with suppress(ValueError):
            self._waiters.remove(waiter)

    def _raise(self) -> None:
        if self._outcome is not None:
            # A copy for each: one error fails a whole batch, and a traceback belongs to one raise.
            raise copy.copy(self._outcome)

    def _finish(self, outcome: Outcome) -> list[Any]:
        """Settle without waking anybody; who is to be woken. The first outcome stays."""
        if self._outcome is _WAITING:
            self._outcome = outcome
            self._hurry = None
        woken = []
        while self._waiters:
            with suppress(IndexError):  # another thread took the last one
                woken.append(self._waiters.pop())
        return woken


class Receipt(Completion):
    """One event's receipt: settled when the server has acknowledged the event, or when it is certain that it will not.

    ``await receipt`` or ``receipt.wait()`` raises what went wrong; dropping it is fine, and costs nothing.
    """

    __slots__ = ("message_id",)

    def __init__(self, message_id: str, hurry: Callable[[], None] | None = None) -> None:
        super().__init__(hurry)
        self.message_id = message_id

    def __repr__(self) -> str:
        return f"<Receipt {self.message_id} {_state(self)}>"


class BatchReceipt(Sequence[Receipt]):
    """The receipts of one ``batch`` call, in its order. Awaiting it waits for all, then raises the first failure."""

    __slots__ = ("_receipts",)

    def __init__(self, receipts: Iterable[Receipt]) -> None:
        self._receipts = tuple(receipts)

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Receipt, ...]: ...
    def __getitem__(self, index: int | slice) -> Receipt | tuple[Receipt, ...]:
        return self._receipts[index]

    def __len__(self) -> int:
        return len(self._receipts)

    @property
    def done(self) -> bool:
        """Whether every event is settled."""
        return all(receipt.done for receipt in self._receipts)

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The events' ids, in order."""
        return tuple(receipt.message_id for receipt in self._receipts)

    def wait(self, timeout: float | None = None) -> None:
        """Block until all are settled; ``timeout`` in seconds, for all together.

        Raises:
            TimeoutError: not all are settled in time.
            SegmentDoError: the first failure, in the batch's order.
        """
        until = None if timeout is None else time.monotonic() + timeout
        for receipt in self._receipts:
            if not receipt._block(None if until is None else max(0.0, until - time.monotonic())):
                raise TimeoutError(f"Not all settled within {timeout} seconds.")
        for receipt in self._receipts:
            receipt._raise()

    def __await__(self) -> Generator[Any, None, None]:
        for receipt in self._receipts:
            if not receipt.done:
                yield from receipt._arrival().__await__()
        for receipt in self._receipts:
            receipt._raise()

    def __repr__(self) -> str:
        done = sum(receipt.done for receipt in self._receipts)
        return f"<BatchReceipt {done}/{len(self._receipts)} settled>"


class Closing(Completion):
    """The end of a client. It is never waited for longer than the close's own limit: then ``give_up`` settles it."""

    __slots__ = ("_give_up", "_until")

    def __init__(self, timeout_seconds: float, give_up: Callable[[], object]) -> None:
        super().__init__()
        self._until = time.monotonic() + timeout_seconds
        self._give_up = give_up

    def _block(self, timeout: float | None) -> bool:
        left = max(0.0, self._until - time.monotonic())
        if timeout is not None and timeout < left:
            return super()._block(timeout)
        if not super()._block(left):
            self._give_up()
        return super()._block(0)

    async def _arrival(self) -> None:
        import asyncio

        left = max(0.0, self._until - time.monotonic())
        alarm = asyncio.get_running_loop().call_later(left, self._give_up)
        try:
            await super()._arrival()
        finally:
            alarm.cancel()


def settle(outcomes: Iterable[tuple[Completion, Outcome]]) -> None:
    """Settle all of them and wake who waits: every event loop once, however many of its tasks are concerned."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for completion, outcome in outcomes:
        for waiter in completion._finish(outcome):
            if isinstance(waiter, threading.Event):
                waiter.set()
            else:
                loops.setdefault(waiter[0], []).append(waiter[1])
    for loop, futures in loops.items():
        with suppress(RuntimeError):  # the loop was closed: nobody is there to be told
            loop.call_soon_threadsafe(_release, futures)


def settle_silently(outcomes: Iterator[tuple[Completion, Outcome]]) -> None:
    """Settle in a forked child: the loops and threads that waited live in the parent and must not be touched."""
    for completion, outcome in outcomes:
        completion._finish(outcome)


def _release(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # a cancelled waiter must not cost the others their news
            future.set_result(None)


def _state(completion: Completion) -> str:
    if not completion.done:
        return "waiting"
    return "delivered" if completion.error is None else f"failed: {completion.error.code}"
