"""One identity over several real graphs in one process; letters wait until a test hands them over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from segment_do.events.record import Record, decode_pack, encode_pack
from segment_do.identity import Graph, Profile
from segment_do.identity.decision import Id
from segment_do.identity.rules import DEFAULT_RULES, Rules
from segment_do.identity.shards import Layout
from segment_do.units import unit_name
from tests.segment_do.identity.events import NOON

MOST_HOPS = 64


class Sharded:
    """Graphs by shard, made when something comes for them."""

    def __init__(self, folder: Path, layout: Layout, rules: Rules = DEFAULT_RULES, identity: str = "tom") -> None:
        self.folder = folder
        self.layout = layout
        self.rules = rules
        self.identity = identity
        self.graphs: dict[str, Graph] = {}
        self.places: dict[str, Path] = {}
        self.deaths = 0

    def graph(self, shard: str) -> Graph:
        if shard not in self.graphs:
            self.graphs[shard] = Graph.open(
                self.places.setdefault(shard, self.folder / shard),
                unit_name(self.identity, shard),
                dedupe_days=7,
                clock=lambda: NOON,
                rules=self.rules,
                layout=self.layout,
            )
        return self.graphs[shard]

    def apply(self, *records: Record) -> None:
        """One batch, each event to the shard that it comes to first."""
        batches: dict[str, list[Record]] = {}
        for record in records:
            batches.setdefault(self.layout.home(record), []).append(record)
        for shard, batch in batches.items():
            self.graph(shard).apply([(encode_pack(batch), len(batch))], NOON)

    def hand_over(self, sender: str, receiver: str, *, confirm: bool = True, max_bytes: int = 2**20) -> None:
        """The letters of one shard to another; without ``confirm`` the sender does not hear that they came."""
        post = self.post(sender)
        letters = post.read(receiver, max_bytes)
        if letters:
            self.graph(receiver).apply([], NOON, letters)
            if confirm:
                post.confirm(receiver, letters)

    def waiting(self) -> list[tuple[str, str]]:
        """Sender and receiver of letters that wait."""
        return [
            (shard, other)
            for shard, graph in self.graphs.items()
            for other in self.post(shard).shards()
            if self.post(shard).read(other, 1)
        ]

    def settle(self, random: Random | None = None) -> int:
        """Hand everything over, in any order, until nothing is on its way; returns how many times something was."""
        times = 0
        while waiting := self.waiting():
            self.hand_over(*(random.choice(waiting) if random else waiting[0]))
            times += 1
            assert times < 100_000
        return times

    def kill(self, shard: str) -> None:
        """The shard's process dies; another opens what lies on disk at that moment."""
        self.deaths += 1
        image = self.folder / f"{shard} after {self.deaths}"
        shutil.copytree(self.places[shard], image)
        self.graphs.pop(shard).close()
        shutil.rmtree(self.places[shard])
        self.places[shard] = image
        self.graph(shard)

    @contextmanager
    def full_disk(self, shard: str) -> Iterator[None]:
        """The shard's file may not grow."""
        execute = self.graph(shard)._database.connection.execute
        (pages,) = execute("PRAGMA page_count").fetchone()
        execute(f"PRAGMA max_page_count = {pages}")
        try:
            yield
        finally:
            execute("PRAGMA max_page_count = 1073741823")

    def post(self, shard: str) -> Any:
        found = self.graphs[shard].shard
        assert found is not None
        return found.post

    def owner(self, named: Id) -> tuple[Graph, int]:
        """The graph that has an id, and over how many shards the way led."""
        at = named
        for hops in range(MOST_HOPS):
            graph = self.graph(self.layout.owner(at))
            assert graph.shard is not None
            moved = graph.shard.elsewhere(at)
            if moved is None:
                return graph, hops
            at = moved[1]
        raise AssertionError(f"{named} leads nowhere")

    def profile(self, kind: str, value: str) -> Profile | None:
        accepted = self.rules.accepted(kind, value)
        return None if accepted is None else self.owner((kind, accepted))[0].profile(kind, accepted)

    def profile_by_id(self, profile_id: str) -> Profile | None:
        shard = self.layout.owner_of_profile(profile_id)
        assert shard is not None
        graph = self.graph(shard)
        assert graph.shard is not None
        moved = graph.shard.elsewhere(profile_id)
        if moved is None:
            return graph.profile_by_id(profile_id)
        return self.owner(moved[1])[0].profile(*moved[0])

    def told(self) -> list[Record]:
        """All that is in the outboxes, of each shard in order."""
        return [
            record
            for graph in self.graphs.values()
            for entry in graph.outbox(2**40)
            for record in decode_pack(entry.pack, entry.count)
        ]

    def close(self) -> None:
        for graph in self.graphs.values():
            graph.close()
        self.graphs = {}
