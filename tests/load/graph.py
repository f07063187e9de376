"""What one identity's graph costs as it grows: the same batches to an empty one and to large ones, in turns, without a platform.

In turns, because a machine is never as fast as a minute ago: each round gives every graph one batch of each sort.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from actors.process import freeze_imports
from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph
from segment_do.identity.seen import RECENT_KEYS
from tests.load.figures import Figure

__all__ = ["graph_costs"]

BATCH: Final = 100
_NOW: Final = 20_000 * 86_400 * 1_000_000
_ACTIVE: Final = 2_000
"""Profiles that events come for again and again."""
_WARM: Final = 60
"""Batches that make them so, before anything is measured."""
_HOUR: Final = 3_600_000_000
_PRIME: Final = 100_000_007


_SORTS: Final = {
    "known": "event of an active profile",
    "any": "event of any profile",
    "returned": "event of any profile, in a new hour",
    "new": "event that makes one",
    "alone": "event of an active profile, between others of such",
}


class Spent(NamedTuple):
    """Microseconds an event: with the wait for the disk, and this thread's own."""

    wall: float
    cpu: float


class _Sized:
    """A graph of so many profiles, each with a user id, an anonymous id and an email; each has identified itself, and done something
    since. Ids come in no order, as those of people do.
    """

    def __init__(self, folder: Path, profiles: int) -> None:
        self.profiles = self._grown = max(profiles, _ACTIVE)
        self._hours = 0
        self._folder = folder
        self._graph = Graph.open(folder, "bench", dedupe_days=7, clock=lambda: _NOW)
        self._next = 0
        order = list(range(self.profiles))
        random.Random(1).shuffle(order)
        started = time.perf_counter()
        for at in range(0, self.profiles, 1_000):
            some = order[at : at + 1_000]
            self.apply([event(user) for user in some for event in (self._identify, self._track)])
            self._graph.maintain(0.0)
        self.build_us = (time.perf_counter() - started) / self.profiles * 1e6
        self._graph.maintain(60.0)

    def apply(self, records: list[Record]) -> Spent:
        """One batch."""
        pack = encode_pack(records)
        started, started_cpu = time.perf_counter(), time.thread_time()
        applied = self._graph.apply([(pack, len(records))], _NOW)
        spent, cpu = time.perf_counter() - started, time.thread_time() - started_cpu
        assert applied.accepted == len(records)
        self._graph.forget(applied.seq or 0)
        return Spent(spent / len(records) * 1e6, cpu / len(records) * 1e6)

    def known(self, chosen: random.Random) -> list[Record]:
        """Events of profiles that were active lately."""
        return [self._track(chosen.randrange(_ACTIVE)) for _ in range(BATCH)]

    def any_known(self, chosen: random.Random) -> list[Record]:
        """Events of any of its profiles."""
        return [self._track(chosen.randrange(self._grown)) for _ in range(BATCH)]

    def returned(self, chosen: random.Random) -> list[Record]:
        """Events of any of its profiles, an hour or more after their last ones: those hours are written down."""
        self._hours += 1
        records = self.any_known(chosen)
        for record in records:
            record.timestamp += self._hours * _HOUR
        return records

    def new(self) -> list[Record]:
        """Events that make a profile each."""
        self.profiles += BATCH
        return [self._identify(user) for user in range(self.profiles - BATCH, self.profiles)]

    def read_ms(self, chosen: random.Random) -> float:
        """One profile, milliseconds."""
        started = time.perf_counter()
        found = self._graph.profile("email", _email(chosen.randrange(self.profiles)))
        assert found is not None
        return (time.perf_counter() - started) * 1e3

    def fill_memory(self, chosen: random.Random) -> None:
        """As many message keys in memory as an identity ever falls asleep with: those are read again when it wakes."""
        self._graph.maintain(60.0)
        for _ in range(RECENT_KEYS // BATCH):
            self.apply(self.known(chosen))
            self._graph.maintain(0.0)

    def reopened_ms(self) -> float:
        """Close it, and open it again until it answers."""
        self._graph.close()
        del self._graph  # what it held in memory is given up before, not while the next one is opened
        started = time.perf_counter()
        self._graph = Graph.open(self._folder, "bench", dedupe_days=7, clock=lambda: _NOW)
        assert self._graph.profile("email", _email(1)) is not None
        return (time.perf_counter() - started) * 1e3

    def size_bytes(self) -> int:
        """Of its file."""
        return (self._folder / "graph.db").stat().st_size

    def close(self) -> None:
        """Close and remove it."""
        self._graph.close()
        shutil.rmtree(self._folder)

    def _identify(self, user: int) -> Record:
        traits = {"email": _email(user), "plan": "pro"}
        return self._record(user, "identify", json.dumps({"type": "identify", "traits": traits}).encode())

    def _track(self, user: int) -> Record:
        return self._record(user, "track", b'{"type":"track","event":"E","properties":{"a":1,"b":"some text"}}')

    def _record(self, user: int, kind: str, payload: bytes) -> Record:
        self._next += 1
        ids = (f"user-{user * 104_729 % _PRIME:09}", f"anonymous-{user * 7_919 % _PRIME:012}")
        at = _NOW + self._next
        return Record(f"m{self._next}", kind, "src", *ids, None, at, _NOW, None, None, None, payload)


def _email(user: int) -> str:
    return f"{user * 15_485_863 % _PRIME}@example.com"


def graph_costs(folder: Path, sizes: tuple[int, ...], rounds: int) -> Iterator[Figure]:
    """Figures of graphs of these sizes (profiles), the first of them the one that the others are compared with."""
    freeze_imports()  # as an identity's own process does
    graphs = [_Sized(folder / f"graph-{size}", size) for size in sizes]
    try:
        spent: dict[str, list[list[Spent]]] = {sort: [[] for _ in graphs] for sort in _SORTS}
        reads: list[list[float]] = [[] for _ in graphs]
        opens: list[list[float]] = [[] for _ in graphs]
        chosen = random.Random(2)
        for graph in graphs:
            for _ in range(_WARM):
                graph.apply(graph.known(chosen))
        for _ in range(rounds):
            for place, graph in enumerate(graphs):
                spent["known"][place].append(graph.apply(graph.known(chosen)))
                spent["any"][place].append(graph.apply(graph.any_known(chosen)))
                spent["returned"][place].append(graph.apply(graph.returned(chosen)))
                spent["new"][place].append(graph.apply(graph.new()))
                reads[place] += [graph.read_ms(chosen) for _ in range(10)]
        # The batches between those above take the processor's caches from each other.
        for number in range(_WARM + rounds):
            for place, graph in enumerate(graphs):
                cost = graph.apply(graph.known(chosen))
                if number >= _WARM:
                    spent["alone"][place].append(cost)
        for place, graph in enumerate(graphs):
            graph.fill_memory(chosen)
            opens[place] += [graph.reopened_ms() for _ in range(5)]
        for place, graph in enumerate(graphs):
            name = f"graph of {sizes[place]:,} profiles"
            for sort, what in _SORTS.items():
                yield _cost(f"{name}: {what}", spent[sort][place], spent[sort][0] if place else None)
            yield Figure(f"{name}: read a profile, p99", "ms", [sorted(reads[place])[len(reads[place]) * 99 // 100]])
            yield Figure(f"{name}: open", "ms", opens[place], at_most=50.0)
            if sizes[place]:
                yield Figure(f"{name}: file a profile", "bytes", [graph.size_bytes() / graph.profiles])
    finally:
        for graph in graphs:
            graph.close()


def _cost(name: str, spent: list[Spent], base: list[Spent] | None) -> Figure:
    """The median batch, which moves nothing from the WAL into the file; the mean has its share of those that do. CPU is of the same
    batches: what does not depend on how busy the disk, and the machine, are.
    """
    detail: dict[str, float] = {}
    for each, of in {"mean": _mean_wall, "cpu": _median_cpu, "meanCpu": _mean_cpu}.items():
        detail[each] = round(of(spent), 1)
        if base is not None:
            detail[f"{each}Ratio"] = round(of(spent) / of(base), 2)
    limit = None if base is None else statistics.median(each.wall for each in base)
    return Figure(name, "µs", [each.wall for each in spent], limit=limit, detail=detail)


def _mean_wall(spent: list[Spent]) -> float:
    return statistics.mean(each.wall for each in spent)


def _median_cpu(spent: list[Spent]) -> float:
    return statistics.median(each.cpu for each in spent)


def _mean_cpu(spent: list[Spent]) -> float:
    return statistics.mean(each.cpu for each in spent)
