"""A replica's copy of the write keys: it goes on following whatever an answer was."""

from __future__ import annotations

import asyncio

from actors.control.model import Source
from actors.ingress.keys import Keys, KeySet
from segment_do.errors import NotReady
from tests.waiting import until


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
    assert waits == [0.5, 0.5, 0.1]
    following.cancel()


async def test_many_changes_in_a_row_are_told_of_together() -> None:
    """Each answer holds all sources: after one the follower rests, and whoever brings a key meanwhile is answered by asking."""
    store = [Source("src_0", "n", "tom", "key-0", "")]
    asked: list[int] = []
    rested = asyncio.Event()

    async def fetch(since: int) -> KeySet:
        asked.append(since)
        if since >= len(store):
            await asyncio.Event().wait()
        return KeySet(len(store), list(store))

    async def wait(_seconds: float) -> None:
        await rested.wait()

    keys = Keys(fetch, refresh_seconds=0.0, wait=wait)
    following = asyncio.create_task(keys.follow())
    async with asyncio.timeout(5.0):
        await until(lambda: keys.loaded)
        for number in range(1, 100):
            store.append(Source(f"src_{number}", "n", "tom", f"key-{number}", ""))
            await asyncio.sleep(0)
        assert asked == [-1]
        assert await keys.resolve("key-99") == store[99]
        rested.set()
        await until(lambda: len(asked) >= 3)
    assert asked == [-1, -1, 100]
    following.cancel()
