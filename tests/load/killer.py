"""kill -9 of the platform's parts at random moments, by seed, and how long the service was away around each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.load.platform import Platform, StartFailed
from tests.load.sender import Prober

__all__ = ["Kill", "Killer"]

_PATIENCE_SECONDS: Final = 25.0


@dataclass
class Kill:
    """One kill."""

    part: str
    at: float
    """Loop time, seconds."""
    processes: int
    """How many were killed; 0 when the part did not come (back) in time to be killed."""
    ready_seconds: float | None = None
    """After the supervisor was killed, too: start until ready."""
    away_seconds: float = 0.0
    """Longest time without a 200, between this kill and the next."""

    def as_json(self, began: float) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "part": self.part,
            "atSeconds": round(self.at - began, 3),
            "processes": self.processes,
            "readySeconds": self.ready_seconds,
            "awaySeconds": round(self.away_seconds, 3),
        }


class Killer:
    """Kills one of ``parts`` after another, each as often as the others, ``gap_seconds`` (from, to) apart.

    It does not wait until the platform is whole again: a part that is not there yet is killed as soon as it is, so a kill
    may well hit the recovery from the one before.
    """

    def __init__(
        self, platform: Platform, parts: Sequence[str], rng: random.Random, gap_seconds: tuple[float, float]
    ) -> None:
        self._platform = platform
        self._rng = rng
        self._gap_seconds = gap_seconds
        self._parts = self._shuffled(list(parts))
        self.kills: list[Kill] = []
        self.supervisor_deaths = 0
        """How often the supervisor ended although it was not killed: a human would have had to start it again."""

    async def run(self, until: float) -> None:
        """Kill until this loop time."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._rng.uniform(*self._gap_seconds)
            if due > until:
                return
            await asyncio.sleep(due - loop.time())
            await self.kill(next(self._parts))

    async def kill(self, part: str) -> None:
        """Kill this one now."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        while True:
            at = loop.time()
            count = await asyncio.to_thread(self._platform.kill, part, self._rng.choice)
            if count or loop.time() > deadline:
                break
            await asyncio.sleep(0.05)
        kill = Kill(part, at, count)
        self.kills.append(kill)
        if part in ("everything", "supervisor"):
            kill.ready_seconds = await asyncio.to_thread(self._platform.start)

    async def revive(self) -> None:
        """The platform is ready afterwards; starts it where the supervisor is gone.

        Raises:
            StartFailed: it does not become ready.
        """
        try:
            await asyncio.to_thread(self._platform.wait_ready)
        except StartFailed:
            self.supervisor_deaths += 1
            await asyncio.to_thread(self._platform.kill_everything)
            await asyncio.to_thread(self._platform.start)

    def measure(self, prober: Prober, until: float) -> None:
        """Fill in how long the service was away around each kill."""
        ends = [kill.at for kill in self.kills[1:]] + [until]
        for kill, end in zip(self.kills, ends, strict=True):
            kill.away_seconds = prober.gap_seconds(kill.at, end)

    def _shuffled(self, parts: list[str]) -> Iterator[str]:
        while True:
            self._rng.shuffle(parts)
            yield from parts
