"""A replica's copy of the write keys: it goes on following whatever an answer was."""

from __future__ import annotations

import asyncio

from actors.control.model import Source
from actors.ingress.keys import Keys, KeySet
from segment_do.errors import NotReady


async def test_following_survives_any_failure() -> None:
    """An actor that is away, and an error that nobody foresaw, cost a wait; the next answer is taken."""
    source = Source("src", "n", "tom", "key", "")
    answers: list[Exception | KeySet] = [NotReady("away"), ZeroDivisionError(), KeySet(1, [source])]
    waits: list[float] = []
    taken = asyncio.Event()

    async def fetch(_since: int) -> KeySet:
        if not answers:
            taken.set()
            await asyncio.Event().wait()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    keys = Keys(fetch, wait=wait)
    following = asyncio.create_task(keys.follow())
    async with asyncio.timeout(5.0):
        await taken.wait()
    assert await keys.resolve("key") == source
    assert len(waits) == 2
    following.cancel()
