"""Many identities on one machine: that every event arrives, what it costs while they come, and what is left when they sleep.

Two shapes: ``pool`` (a few processes hold all of them, a bounded number awake) and ``dedicated`` (a process each). Every identity is
named by its source, gets its own write key over the control API, and is asked for in SQL at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from actors.identity.activation import unfinished
from tests.load.figures import Figure
from tests.load.generator import batches, burst, singles
from tests.load.machine import memory
from tests.load.measures import Budget, drained, freshness, new_tag, passage, passage_figures, rows
from tests.load.platform import Platform

__all__ = ["ALONE_SECONDS", "IDLE_SECONDS", "alone", "make_sources", "many", "together"]

IDLE_SECONDS: Final = 10.0
"""``identity.idle_seconds`` of a pool: nobody wants to wait five minutes for them to sleep."""
ALONE_SECONDS: Final = 120.0
"""Of processes of their own: the first must not leave while the last still start."""
_MOST_MIB: Final = 3e9 / 2**20
_MOST_GROWN_MIB: Final = 100.0
"""What the processes of a pool may have more when all have slept than before any came: identities that stayed would cost 0.3 each."""
_CONNECTIONS: Final = 8
_WAIT_SECONDS: Final = 900.0
_TOGETHER_BATCH: Final = 10
_SETTLE_SECONDS: Final = 8.0
"""After the last one fell asleep: memory that was freed is given back some seconds later."""


async def make_sources(platform: Platform, name: str, count: int) -> list[str]:
    """Write keys of so many sources, each of an identity ``<name>-<number>``, made over the control API."""
    keys = [""] * count
    numbers = iter(range(count))
    headers = {"authorization": f"Bearer {platform.token}"}
    async with httpx.AsyncClient(base_url=platform.url, timeout=60.0, headers=headers) as client:

        async def make() -> None:
            for number in numbers:
                identity = f"{name}-{number}"
                made = await client.post("/api/sources", json={"name": identity, "identity": identity, "ensure": True})
                keys[number] = made.raise_for_status().json()["writeKey"]

        async with asyncio.TaskGroup() as making:
            for _ in range(_CONNECTIONS):
                making.create_task(make())
    return keys


class _Watched:
    """The most memory that was seen, and the most identity processes, while something ran."""

    def __init__(self) -> None:
        self.pss = self.rss = 0
        self.parts: dict[str, int] = {}
        self.processes = 0

    def look(self, platform: Platform) -> None:
        found = memory(platform)
        pss = sum(each["pssBytes"] for each in found)
        self.rss = max(self.rss, sum(each["rssBytes"] for each in found))
        self.processes = max(self.processes, sum(each["part"] == "identity" for each in found))
        if pss > self.pss:
            self.pss, self.parts = pss, _by_part(found)


def _by_part(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    parts: Counter[str] = Counter()
    for each in found:
        parts[each["part"]] += each["pssBytes"]
    return dict(parts.most_common())


def _mib(parts: dict[str, int]) -> dict[str, str]:
    return {part: f"{size / 2**20:.0f} MiB" for part, size in parts.items()}


@contextlib.asynccontextmanager
async def _watching(platform: Platform, every_seconds: float = 1.0) -> AsyncIterator[_Watched]:
    watched, done = _Watched(), asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            await asyncio.to_thread(watched.look, platform)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), every_seconds)

    watching = asyncio.create_task(watch())
    try:
        yield watched
    finally:
        done.set()
        await watching
        await asyncio.to_thread(watched.look, platform)  # what ran shorter than a look takes was seen all the same


async def _asleep(platform: Platform, timeout_seconds: float = 300.0) -> float:
    """Seconds until nobody is awake: the mark that lies in the folder of each who is awake is gone from all."""
    began = time.monotonic()
    folder = platform.home / "identities"
    async with asyncio.timeout(timeout_seconds):
        while await asyncio.to_thread(unfinished, folder):
            await asyncio.sleep(0.5)
    return time.monotonic() - began


def _disk(folder: Path) -> tuple[int, int]:
    """Bytes on disk and files."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return sum(each.stat().st_blocks * 512 for each in files), len(files)


async def _spread(platform: Platform, name: str) -> Counter[int]:
    """How many identities of this name have how many events in SQL."""
    found = await asyncio.to_thread(
        platform.sql,
        f"SELECT n, count(*) FROM (SELECT identity, count(*) AS n FROM events WHERE identity LIKE '{name}-%'"
        " GROUP BY identity) GROUP BY n",
    )
    return Counter({int(events): int(identities) for events, identities in found})


async def many(platform: Platform, count: int) -> list[Figure]:
    """``pool``: so many identities, each once and then, when all sleep, once more."""
    name = "many"
    began = time.monotonic()
    keys = await make_sources(platform, name, count)
    made_seconds = time.monotonic() - began
    pool = await make_sources(platform, "first", 8)  # the pool's processes are there, and have slept
    await burst(platform.port, singles(new_tag(), pool), 8)
    await drained(platform)
    await _asleep(platform)
    await asyncio.sleep(_SETTLE_SECONDS)
    before = await asyncio.to_thread(memory, platform)
    took = []
    async with _watching(platform) as watched:
        for _ in range(2):
            base = await rows(platform)
            began = time.monotonic()
            await burst(platform.port, singles(new_tag(), keys, count), count)
            await drained(platform, timeout_seconds=_WAIT_SECONDS)
            took.append(time.monotonic() - began)
            assert await rows(platform) == base + count, "an event was lost, or came twice"
            slept = await _asleep(platform)
    assert await _spread(platform, name) == Counter({2: count})
    await asyncio.sleep(_SETTLE_SECONDS)
    after = await asyncio.to_thread(memory, platform)
    size, files = await asyncio.to_thread(_disk, platform.home / "identities")
    said = f"{count:,} identities, pool"
    grown = _by_part(after)["identity"] - _by_part(before)["identity"]
    return [
        Figure(
            f"{said}: most memory, PSS",
            "MiB",
            [watched.pss / 2**20],
            at_most=_MOST_MIB,
            detail={**_mib(watched.parts), "rss": f"{watched.rss / 2**20:.0f} MiB"},
        ),
        Figure(f"{said}: all asleep, PSS", "MiB", [_pss(after) / 2**20], detail=_mib(_by_part(after))),
        Figure(
            f"{said}: all asleep, their processes' growth, PSS",
            "MiB",
            [grown / 2**20],
            at_most=_MOST_GROWN_MIB,
            detail={"before": _mib(_by_part(before)), "asleepAfterSeconds": round(slept, 1)},
        ),
        Figure(f"{said}: one's files", "KiB", [size / count / 2**10], detail={"files": round(files / count, 1)}),
        Figure(f"{said}: first event of each, committed", "events/s", [count / took[0]]),
        Figure(f"{said}: woken for one more", "events/s", [count / took[1]]),
        Figure(f"{said}: sources made", "sources/s", [count / made_seconds]),
    ]


async def together(platform: Platform, count: int, budget: Budget) -> list[Figure]:
    """``pool``: so many identities that all work at once, and how soon SQL has an event of one of them."""
    keys = await make_sources(platform, "together", count)
    await burst(platform.port, singles(new_tag(), keys, count), count)  # all are known, and as many awake as may be
    await drained(platform, timeout_seconds=_WAIT_SECONDS)
    runs = []
    async with _watching(platform) as watched:
        for _ in range(budget.runs):
            requests = batches(new_tag(), keys, _TOGETHER_BATCH, count)
            runs.append(await passage(platform, requests, _TOGETHER_BATCH, budget.identity_events))
    said = f"{count:,} identities at once, pool"
    return [
        *passage_figures(f"{said}, batches of {_TOGETHER_BATCH}", runs, target=False),
        Figure(
            f"{said}: most memory, PSS", "MiB", [watched.pss / 2**20], at_most=_MOST_MIB, detail=_mib(watched.parts)
        ),
        *await freshness(platform, budget, keys, f"{said}: freshness"),
    ]


async def alone(platform: Platform, count: int) -> list[Figure]:
    """A process each: all woken at once, then all at work, then gone."""
    name = "own"
    keys = await make_sources(platform, name, count)
    before = await asyncio.to_thread(memory, platform)
    said = f"{count:,} identities, dedicated"
    async with _watching(platform, 10.0) as watched:  # a look at hundreds of processes costs a second
        began = time.monotonic()
        waking = asyncio.create_task(burst(platform.port, singles(new_tag(), keys, count), count))
        first = await _first_in_sql(platform, name)
        await waking
        await drained(platform, timeout_seconds=_WAIT_SECONDS)
        woken = time.monotonic() - began
        assert await _spread(platform, name) == Counter({1: count}), "an event was lost, or came twice"
        working = await passage(platform, batches(new_tag(), keys, 10, count), 10, 10 * 10 * count)
    assert await _spread(platform, name) == Counter({101: count})
    left = await _left(platform)
    await asyncio.sleep(_SETTLE_SECONDS)
    after = await asyncio.to_thread(memory, platform)
    each = watched.parts.get("identity", 0) / max(1, watched.processes)
    return [
        Figure(
            f"{said}: all awake",
            "s",
            [woken],
            detail={"firstEventInSqlSeconds": round(first - began, 1), "processes": watched.processes},
        ),
        *passage_figures(f"{said}, batches of 10", [working], target=False),
        Figure(
            f"{said}: most memory, PSS",
            "MiB",
            [watched.pss / 2**20],
            detail={**_mib(watched.parts), "rss": f"{watched.rss / 2**20:.0f} MiB"},
        ),
        Figure(f"{said}: one's process, PSS", "MiB", [each / 2**20]),
        Figure(
            f"{said}: memory when all have left, PSS",
            "MiB",
            [_pss(after) / 2**20],
            detail={
                **_mib(_by_part(after)),
                "before": f"{_pss(before) / 2**20:.0f} MiB",
                "leftAfterSeconds": round(left, 1),
            },
        ),
    ]


async def _first_in_sql(platform: Platform, name: str) -> float:
    async with asyncio.timeout(_WAIT_SECONDS):
        while not await _spread(platform, name):
            await asyncio.sleep(0.1)
    return time.monotonic()


async def _left(platform: Platform, timeout_seconds: float = 300.0) -> float:
    """Seconds until no identity has a process."""
    began = time.monotonic()
    async with asyncio.timeout(timeout_seconds):
        while any(part.name == "identity" for part in await asyncio.to_thread(platform.processes)):
            await asyncio.sleep(1.0)
    return time.monotonic() - began


def _pss(found: Sequence[dict[str, Any]]) -> int:
    return sum(each["pssBytes"] for each in found)
