"""Thousands of people who share one email: what it costs stays in proportion, in whatever order they come.

Three thousand here; more by hand: `STORM=100000 pytest -s tests/segment_do/identity/test_storm.py`, which says how long it took.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from segment_do.events.record import Record
from segment_do.identity import Graph
from segment_do.identity.clusters import Clusters
from tests.segment_do.identity.events import NOON, apply, identify, open_graph, partition, record

STORM = int(os.environ.get("STORM", "3000"))
BATCH = 100 if STORM < 10_000 else 500
EMAIL = "noreply@example.com"


def events(people: int) -> list[Record]:
    """Each with a device, seen three times: alone, with the email, and alone again."""
    found = []
    for one in range(people):
        given = {"user": f"u{one}", "anonymous": f"a{one}"}
        found.append(record(f"m{one}-1", at=NOON + 3 * one, **given))
        found.append(identify(f"m{one}-2", {"email": EMAIL}, at=NOON + 3 * one + 1, **given))
        found.append(record(f"m{one}-3", at=NOON + 3 * one + 2, **given))
    return found


def shuffled(come: list[Record]) -> list[Record]:
    Random(1).shuffle(come)
    return come


def a_little_late(come: list[Record]) -> list[Record]:
    """As from clients that send what they have every now and then."""
    random = Random(1)
    return sorted(come, key=lambda each: each.timestamp + random.randrange(500))


@pytest.mark.parametrize("order", [list, a_little_late, shuffled])
def test_a_storm_on_one_email(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Callable[[list[Record]], list[Record]]
) -> None:
    """The first of them has it, everybody else keeps what is their own; only where that first one changes is a component replayed."""
    replays = []
    replay = Clusters.replay
    monkeypatch.setattr(Clusters, "replay", lambda self, seeds: (replays.append(1), replay(self, seeds)))
    come = order(events(STORM))
    graph = open_graph(tmp_path)
    spent = []
    for start in range(0, len(come), BATCH):
        began = time.perf_counter()
        apply(graph, *come[start : start + BATCH])
        spent.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        f"\n{STORM:,} people, {order.__name__}: {sum(spent):.0f} s, a batch of {BATCH} {sorted(spent)[len(spent) // 2] * 1e3:.0f} ms,"
        f" at most {max(spent):.1f} s, {len(replays)} replays, {memory} MB\n"
    )
    people = range(STORM) if STORM <= 3_000 else range(0, STORM, STORM // 1_000)
    expected = partition([each for each in come if int(each.message_id[1:].partition("-")[0]) in people])
    assert expected["email", EMAIL] == {("user_id", "u0"), ("anonymous_id", "a0"), ("email", EMAIL)}
    for named, inside in expected.items():
        found = graph.profile(*named)
        assert found is not None
        assert {(each.kind, each.value) for each in found.external_ids} == inside
    assert len(replays) <= (0 if order is list else 30)
    graph.close()


def test_a_replay_costs_in_proportion(tmp_path: Path) -> None:
    """Four times the people, not much more than four times the work (SQLite's own steps), when the first one turns out to be another."""
    steps = {people: steps_of_replay(tmp_path / str(people), people) for people in (500, 2_000)}
    assert steps[2_000] < 5 * steps[500]


def steps_of_replay(folder: Path, people: int) -> int:
    graph: Graph = open_graph(folder)
    for start in range(0, people, BATCH):
        apply(graph, *events(people)[3 * start : 3 * (start + BATCH)])
    counted: list[int] = []
    graph._database.connection.set_progress_handler(lambda: counted.append(1), 100)
    apply(graph, identify("first", {"email": EMAIL}, user="first", at=NOON - 1))
    graph._database.connection.set_progress_handler(None, 0)
    found = graph.profile("email", EMAIL)
    assert found is not None
    assert [each.value for each in found.external_ids] == ["first", EMAIL]
    graph.close()
    return len(counted)
