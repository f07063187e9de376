"""Many identities in few processes: each has its turn, nobody stays awake, and memory is given back."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path

import pytest

from actors.identity.activation import unfinished
from tests.load.generator import burst, singles
from tests.load.machine import memory
from tests.load.measures import drained, new_tag
from tests.load.platform import Platform, running_platform
from tests.load.scale import make_sources

pytestmark = pytest.mark.platform

IDENTITIES = 300
AWAKE = 50


class MostAwake(threading.Thread):
    """How many were awake at most, by the marks in their folders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._ended = threading.Event()
        self.seen = 0

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.seen = max(self.seen, len(unfinished(self._folder)))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.seen


def held(platform: Platform) -> float:
    """Memory of the processes that hold identities, MiB."""
    return sum(each["pssBytes"] for each in memory(platform) if each["part"] == "identity") / 2**20


def wait_until_all_sleep(folder: Path) -> None:
    deadline = time.monotonic() + 20.0
    while awake := unfinished(folder):
        assert time.monotonic() < deadline, f"still awake: {awake[:5]} and others, {len(awake)} in all"
        time.sleep(0.1)


def test_three_hundred_identities_in_two_processes() -> None:
    """Events of 300 identities in random order where 50 may be awake: each arrives once, never more are awake, and all sleep in the end."""
    chosen = random.Random(1)
    bounds = {"IDENTITY__PLACEMENT": "pool", "IDENTITY__MAX_AWAKE": str(AWAKE // 2), "IDENTITY__IDLE_SECONDS": "1"}
    with running_platform(settings=bounds) as platform:
        folder = platform.home / "identities"

        async def send(keys: list[str], events: int) -> None:
            await burst(platform.port, singles(new_tag(), keys, events), events)
            await drained(platform, timeout_seconds=30.0)

        keys = asyncio.run(make_sources(platform, "many", IDENTITIES))
        first = asyncio.run(make_sources(platform, "first", 8))
        asyncio.run(send(first, 8))  # both processes are there
        wait_until_all_sleep(folder)
        before = held(platform)
        looking = MostAwake(folder)
        looking.start()
        order = keys * 2
        chosen.shuffle(order)
        asyncio.run(send(order, len(order)))
        wait_until_all_sleep(folder)
        most = looking.end()
        found = platform.sql(
            "SELECT count(*), count(DISTINCT message_id), count(DISTINCT identity) FROM events WHERE identity LIKE 'many-%'"
        )
        assert found == [[2 * IDENTITIES, 2 * IDENTITIES, IDENTITIES]]
        assert AWAKE // 2 < most <= AWAKE
        assert held(platform) < before + IDENTITIES * 0.15  # awake, one takes 0.3 MiB and more
