"""What laying an identity out over shards costs: the same events to one graph and to several, CPU time of all shards together.

All graphs are in one process here, each letter handed over in rounds: what shards cost beside the calls between their actors. Divided by
the number of shards it says what one of them has to do for an event, and so what several cores would gain.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph
from segment_do.identity.shards import Layout
from segment_do.identity.shards.layout import split_pack
from segment_do.units import shard_of, unit_name
from tests.load.figures import Figure

__all__ = ["shard_costs"]

_NOW: Final = 20_000 * 86_400 * 1_000_000
_BATCH: Final = 4_000
_USERS: Final = 5_000
_DEVICES: Final = 3
_PERSONS: Final = 200


class _Laid:
    """An identity's graphs."""

    def __init__(self, folder: Path, layout: Layout | None) -> None:
        self._folder = folder
        self._layout = layout
        self.graphs: dict[str, Graph] = {}

    def apply(self, records: list[Record]) -> float:
        """Microseconds of CPU an event, until nothing is on its way."""
        pack = encode_pack(records)
        started = time.process_time()
        if self._layout is None:
            self._give("", len(records), pack)
        else:
            for unit, count, part in split_pack(self._layout, "bench", count=len(records), pack=pack):
                self._give(shard_of(unit), count, part)
            while self._hand_over():
                pass
        return (time.process_time() - started) / len(records) * 1e6

    def close(self) -> None:
        """Close and remove them."""
        for graph in self.graphs.values():
            graph.close()
        self.graphs = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def size_bytes(self) -> int:
        """Of all their folders, as on disk, asleep."""
        for graph in self.graphs.values():
            graph.close()
        self.graphs = {}
        return sum(each.stat().st_blocks * 512 for each in self._folder.rglob("*"))

    def _graph(self, shard: str) -> Graph:
        if shard not in self.graphs:
            name = unit_name("bench", shard) if self._layout else "bench"
            folder = self._folder / (shard or "one")
            self.graphs[shard] = Graph.open(folder, name, dedupe_days=7, clock=lambda: _NOW, layout=self._layout)
        return self.graphs[shard]

    def _give(self, shard: str, count: int, pack: bytes) -> None:
        graph = self._graph(shard)
        applied = graph.apply([(pack, count)], _NOW)
        if applied.seq is not None:
            graph.forget(applied.seq)

    def _hand_over(self) -> bool:
        """What waits for each shard, in one step of it; whether there was anything."""
        waiting: dict[str, list[tuple[Graph, str]]] = {}
        for graph in self.graphs.values():
            assert graph.shard is not None
            for shard in graph.shard.post.shards():
                waiting.setdefault(shard, []).append((graph, shard))
        moved = False
        for shard, senders in waiting.items():
            posts = [(each.shard.post, each.shard.post.read(shard, 2**24)) for each, _shard in senders if each.shard]
            letters = [letter for _post, some in posts for letter in some]
            if letters:
                moved = True
                self._graph(shard).apply([], _NOW, letters)
                for post, some in posts:
                    if some:
                        post.confirm(shard, some)
        return moved


def shard_costs(folder: Path, rounds: int) -> Iterator[Figure]:
    """Figures of one graph, and of the same events over several; then of a graph for every person."""
    layouts = [None, Layout(1), Layout(4), Layout(8)]
    laid = [_Laid(folder / f"laid-{number}", layout) for number, layout in enumerate(layouts)]
    chosen, numbers = random.Random(3), iter(range(10**9))
    spent: list[list[float]] = [[] for _ in laid]
    try:
        for each in laid:
            each.apply([_event(next(numbers), user, device) for user in range(_USERS) for device in range(_DEVICES)])
        for _ in range(rounds):
            batch = [(chosen.randrange(_USERS), chosen.randrange(_DEVICES)) for _ in range(_BATCH)]
            for place, each in enumerate(laid):
                known = [chosen.random() < 0.5 for _ in batch]
                spent[place].append(
                    each.apply(
                        [
                            _event(next(numbers), *one, known=is_known)
                            for one, is_known in zip(batch, known, strict=True)
                        ]
                    )
                )
        for layout, runs in zip(layouts, spent, strict=True):
            name = "one graph" if layout is None else f"{layout.shards} shards"
            detail = {} if layout is None else {"aShard": round(sorted(runs)[len(runs) // 2] / layout.shards, 1)}
            yield Figure(f"{name}: CPU an event, all together", "µs", runs, limit=min(spent[0]), detail=detail)
    finally:
        for each in laid:
            each.close()
    persons = _Laid(folder / "persons", Layout(granularity="profile"))
    try:
        runs = [
            persons.apply([_event(next(numbers), user, device) for device in range(_DEVICES)]) * _DEVICES / 1e3
            for user in range(_PERSONS)
        ]
        yield Figure("a shard a person: CPU of a person's first three events", "ms", runs)
        count = len(persons.graphs)
        yield Figure(
            "a shard a person: a graph's files",
            "bytes",
            [persons.size_bytes() / count],
            detail={"graphsAPerson": count / _PERSONS},
        )
    finally:
        persons.close()


def _event(number: int, user: int, device: int, *, known: bool = True) -> Record:
    payload = b'{"type":"track","event":"E","properties":{"a":1,"b":"some text"}}'
    ids = (f"user-{user:09}" if known else None, f"anonymous-{user:09}-{device}")
    return Record(f"m{number}", "track", "src", *ids, None, _NOW + number, _NOW, None, None, None, payload)
