"""``make bench``: what the platform does on this machine, each figure beside the limit measured in the same run.

``python -m tests.load.bench [--quick | --long] [--only NAME …] [--json]``. Ends by itself; status 0 also where a target is
missed (the table says so), 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.load.figures import Figure, table
from tests.load.generator import Result, tool
from tests.load.graph import graph_costs
from tests.load.machine import facts
from tests.load.measures import (
    FULL,
    LONG,
    QUICK,
    Budget,
    Limits,
    ack,
    batched,
    footprint,
    freshness,
    pipeline,
    single,
)
from tests.load.platform import Platform
from tests.load.profiles import profiles, read_limits
from tests.load.scale import ALONE_SECONDS, IDLE_SECONDS, alone, many, together
from tests.load.shards import shard_costs

__all__ = ["main"]

NAMES: Final = (
    "start",
    "memory",
    "freshness",
    "ack",
    "single",
    "batches",
    "pipeline",
    "graph",
    "shards",
    "profiles",
    "many",
    "together",
    "dedicated",
)


class _Bench:
    def __init__(self, budget: Budget, wanted: frozenset[str], settings: dict[str, str], console: Console) -> None:
        self._budget = budget
        self._wanted = wanted
        self._settings = settings
        self._console = console
        self._folder = Path(tempfile.mkdtemp(prefix="segment_do-bench-"))
        self.figures: list[Figure] = []
        self.failures: list[str] = []
        self.machine: dict[str, Any] = {}
        self._read_limits: dict[int, list[Result]] = {}

    async def run(self) -> None:
        """Limits first, while nothing else runs; then a platform with default settings; then one that commits every second."""
        limits = Limits()
        try:
            self.machine = await asyncio.to_thread(facts, self._folder)
            self._console.print_json(data=self.machine | {"generator": tool()})
            await limits.measure(
                self._budget,
                self._folder,
                single="single" in self._wanted,
                batched="batches" in self._wanted,
            )
            if "profiles" in self._wanted:
                self._read_limits = await read_limits(self._budget, self._folder)
            if "graph" in self._wanted:
                await self._take("graph", self._graph)
            if "shards" in self._wanted:
                await self._take("shards", self._shards)
            await self._with_defaults()
            await self._with_commits(limits)
            await self._at_scale()
        finally:
            if self.failures:
                self._console.print(f"kept {self._folder}")
            else:
                shutil.rmtree(self._folder, ignore_errors=True)

    async def _with_defaults(self) -> None:
        if not self._wanted & {"start", "memory", "freshness", "ack"}:
            return
        platform = self._platform("defaults", {})
        try:
            await self._take(
                "footprint",
                lambda: footprint(
                    platform, self._budget, start="start" in self._wanted, resident="memory" in self._wanted
                ),
            )
            if "freshness" in self._wanted:
                await self._take("freshness", lambda: freshness(platform, self._budget))
            if "ack" in self._wanted:
                await self._take("ack", lambda: ack(platform, self._budget))
        finally:
            await asyncio.to_thread(platform.close, keep_home=bool(self.failures))

    async def _with_commits(self, limits: Limits) -> None:
        if not self._wanted & {"single", "batches", "pipeline"}:
            return
        # Otherwise the last commit of a measurement waits for the clock, not for work.
        platform = self._platform("commits", {"WAREHOUSE__COMMIT_SECONDS": "1"})
        try:
            await asyncio.to_thread(platform.start)
            if "single" in self._wanted:
                await self._take("single", lambda: single(platform, self._budget, limits))
            if "batches" in self._wanted:
                await self._take("batches", lambda: batched(platform, self._budget, limits))
            if "pipeline" in self._wanted:
                await self._take("pipeline", lambda: self._pipeline(platform))
        finally:
            await asyncio.to_thread(platform.close, keep_home=bool(self.failures))

    async def _at_scale(self) -> None:
        """A platform for each, one after another: most of them hold much, or have many processes."""
        pool, dedicated = {"IDENTITY__PLACEMENT": "pool"}, {"IDENTITY__PLACEMENT": "dedicated"}
        idle, soon = {"IDENTITY__IDLE_SECONDS": str(IDLE_SECONDS)}, {"WAREHOUSE__COMMIT_SECONDS": "1"}
        slow = {"IDENTITY__IDLE_SECONDS": str(ALONE_SECONDS)}
        unlimited = {"PROFILES__REQUESTS_PER_SECOND": "1000000"}
        budget = self._budget
        measured: list[tuple[str, dict[str, str], Callable[[Platform], Awaitable[list[Figure]]]]] = [
            ("profiles", soon | unlimited, self._profiles),
            ("many", pool | idle | soon, lambda platform: many(platform, budget.many)),
            ("together", pool | soon, lambda platform: together(platform, budget.together, budget)),
            ("dedicated", dedicated | slow | soon, lambda platform: alone(platform, budget.dedicated)),
        ]
        for name, settings, measure in measured:
            if name in self._wanted:
                await self._take(name, partial(self._on_its_own, name, settings, measure))

    async def _on_its_own(
        self, name: str, settings: dict[str, str], measure: Callable[[Platform], Awaitable[list[Figure]]]
    ) -> list[Figure]:
        platform = self._platform(name, settings)
        kept = True
        try:
            await asyncio.to_thread(platform.start)
            figures = await measure(platform)
            kept = False
            return figures
        finally:
            await asyncio.to_thread(platform.close, keep_home=kept)
            if not kept:
                shutil.rmtree(platform.home, ignore_errors=True)

    async def _profiles(self, platform: Platform) -> list[Figure]:
        return await profiles(platform, self._budget, self._read_limits)

    async def _graph(self) -> list[Figure]:
        measured = graph_costs(self._folder, self._budget.graphs, self._budget.graph_rounds)
        return await asyncio.to_thread(list, measured)

    async def _shards(self) -> list[Figure]:
        return await asyncio.to_thread(list, shard_costs(self._folder, self._budget.graph_rounds // 10))

    async def _pipeline(self, platform: Platform) -> list[Figure]:
        await pipeline(platform, self._budget, self.figures)  # those before one that fails are kept
        return []

    def _platform(self, name: str, settings: dict[str, str]) -> Platform:
        home = self._folder / name
        home.mkdir()
        return Platform(home, settings=self._settings | settings)

    async def _take(self, name: str, measured: Callable[[], Awaitable[list[Figure]]]) -> None:
        self._console.print(f"measuring {name} …")
        before = len(self.figures)
        try:
            self.figures += await measured()
        except Exception as error:  # one measurement that fails must not cost the others
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
            self._console.print_exception(max_frames=4)
        for each in self.figures[before:]:
            if each.detail:
                self._console.print(f"  {each.name}: {each.detail}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a minute in all, one run each")
    size.add_argument("--long", action="store_true", help="up to ten million events")
    parser.add_argument("--only", action="append", choices=NAMES, help="this measurement (may be repeated)")
    parser.add_argument("--placement", choices=("dedicated", "pool"), default="dedicated")
    parser.add_argument("--json", action="store_true", help="everything as JSON on stdout")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    bench = _Bench(
        QUICK if given.quick else LONG if given.long else FULL,
        frozenset(given.only or NAMES),
        {"IDENTITY__PLACEMENT": given.placement},
        console,
    )
    asyncio.run(bench.run())
    if given.json:
        told = {
            "machine": bench.machine,
            "generator": tool(),
            "figures": [each.as_json() for each in bench.figures],
            "failures": bench.failures,
        }
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        Console(width=max(120, console.width)).print(table("segment_do bench", bench.figures))
    for failure in bench.failures:
        console.print(f"[red]{failure}[/]")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
