"""Hand-overs of many identities in few calls, and each one's outcome its own."""

from __future__ import annotations

import asyncio

import pytest

from actors.identity.carrier import Carrier
from actors.queue.log import Entry
from segment_do.errors import Busy, OwnershipLost


def entry(identity: str, size: int = 10) -> list[Entry]:
    return [Entry(identity, 1, 1, 1, 1, b"x" * size)]


class Queue:
    """Takes a call when it is let; refuses those of ``stale`` identities as the log does."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.stale: set[str] = set()
        self.busy = False
        self.begun = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()

    async def __call__(self, entries: list[Entry]) -> None:
        self.calls.append([each.identity for each in entries])
        self.begun.set()
        await self.let.wait()
        if self.busy:
            raise Busy("The log is full.")
        if self.stale & {each.identity for each in entries}:
            raise OwnershipLost("A newer activation of this identity has written to the log already.")


async def test_what_gathers_during_a_call_goes_with_the_next() -> None:
    """The first leaves at once; all that comes while it is under way shares one call."""
    queue = Queue()
    queue.let.clear()
    carrier = Carrier(queue)
    handing = [asyncio.create_task(carrier.hand_over(entry(f"i{number}"))) for number in range(100)]
    async with asyncio.timeout(5.0):
        await queue.begun.wait()
    late = [asyncio.create_task(carrier.hand_over(entry(f"late{number}"))) for number in range(100)]
    queue.let.set()  # they begin before the call ends: the loop takes its turns in order
    async with asyncio.timeout(5.0):
        await asyncio.gather(*handing, *late)
    assert [len(call) for call in queue.calls] == [100, 100]


async def test_a_call_has_a_bound() -> None:
    """A megabyte a call; what one identity gives is not divided."""
    queue = Queue()
    carrier = Carrier(queue)
    async with asyncio.timeout(5.0):
        await asyncio.gather(*(carrier.hand_over(entry(f"i{number}", 600_000)) for number in range(3)))
        await carrier.hand_over(entry("large", 3_000_000))
    assert queue.calls == [["i0"], ["i1"], ["i2"], ["large"]]


async def test_one_that_is_stale_costs_the_others_nothing() -> None:
    """The queue refuses the whole call; each then goes by itself, and only the stale one is told so."""
    queue = Queue()
    queue.stale = {"tom"}
    carrier = Carrier(queue)
    handing = [asyncio.create_task(carrier.hand_over(entry(name))) for name in ("ada", "tom", "ralph")]
    async with asyncio.timeout(5.0):
        outcomes = await asyncio.gather(*handing, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), OwnershipLost, type(None)]


async def test_a_queue_that_refuses_is_told_of_to_all_and_asked_again() -> None:
    """Everyone gets the error, to try again; one that gave up meanwhile disturbs nobody."""
    queue = Queue()
    queue.busy = True
    queue.let.clear()
    carrier = Carrier(queue)
    gone, waiting = (asyncio.create_task(carrier.hand_over(entry(name))) for name in ("gone", "waiting"))
    async with asyncio.timeout(5.0):
        await queue.begun.wait()
    gone.cancel()
    queue.let.set()
    async with asyncio.timeout(5.0):
        with pytest.raises(Busy):
            await waiting
        queue.busy = False
        await carrier.hand_over(entry("waiting"))
    assert queue.calls == [["gone", "waiting"], ["waiting"]]
