"""Computed traits of the session that somebody is in: a function of the events and of the time, told when it is over."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

from segment_do.events.record import Record
from segment_do.identity import Graph
from segment_do.identity.shards import Layout
from tests.segment_do.computed.test_sessions import GAP, MINUTE, session_of
from tests.segment_do.identity.computing import define, ordered, said, settle, some_events, told, values
from tests.segment_do.identity.events import DAY, LIMITS, NOON, apply, ids_of, partition
from tests.segment_do.identity.shards.sharded import Sharded

SEEDS = int(os.environ.get("SEEDS", "120"))
VISIT = {"class": "trait", "key": "visit", "kind": "event_count", "event": "Tested", "session_minutes": 30}
LONG = {**VISIT, "key": "long", "session_minutes": 12 * 60}
ENGAGED = {"class": "audience", "key": "engaged", "members": {"computed": "visit", "is": ">=", "value": 3}}


class Clocked:
    """A graph whose clock a test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON
        self.folder = folder
        self.open()

    def open(self) -> None:
        self.graph = Graph.open(self.folder, "tom", dedupe_days=7, clock=lambda: self.now)

    def apply(self, *records: Record) -> None:
        apply(self.graph, *records, now=self.now)

    def said(self, key: str = "visit") -> list[Any]:
        return [said(each)[key] for each in told(self.graph) if key in said(each)]


def test_it_is_over_after_the_gap(tmp_path: Path) -> None:
    """The count starts anew; that it is over is told without an event, once, also after the file was opened again."""
    here = Clocked(tmp_path)
    define(here.graph, VISIT, ENGAGED)
    for minute in (0, 20, 50):
        here.now = NOON + minute * MINUTE
        here.apply(ordered(f"m{minute}", user="u", at=here.now))
    settle(here.graph)
    assert here.said() == [1, 2, 3]
    here.graph.close()
    here.open()
    assert here.graph.computations.due_at(here.now) == here.now + GAP + 1
    here.now += GAP
    settle(here.graph)
    assert (here.said(), here.said("engaged")) == ([1, 2, 3], [True])
    here.now += 1
    assert here.graph.sweeping
    settle(here.graph)
    assert (here.said(), here.said("engaged")) == ([1, 2, 3, 0], [True, False])
    assert values(here.graph, "user_id", "u") == {}
    assert not here.graph.sweeping
    here.apply(ordered("m90", user="u", at=here.now))
    assert here.said()[4:] == [1]
    here.graph.close()


def test_a_value_that_stays_lasts_longer(tmp_path: Path) -> None:
    """The same value again is not told again, and is over after the later event."""
    here = Clocked(tmp_path)
    define(here.graph, {**VISIT, "kind": "last", "property": "p"})
    for minute in (0, 20):
        here.now = NOON + minute * MINUTE
        here.apply(ordered(f"m{minute}", "red", user="u", at=here.now))
    for past, expected in ((15 * MINUTE, ["red"]), (GAP, ["red", None])):
        here.now = NOON + 20 * MINUTE + past + 1
        settle(here.graph)
        assert here.said() == expected
    here.graph.close()


def test_a_clock_far_ahead_hides_nothing(tmp_path: Path) -> None:
    """An event of the year after next is of no session that is on."""
    here = Clocked(tmp_path)
    define(here.graph, VISIT)
    here.apply(ordered("m1", user="u", at=NOON), ordered("m2", user="u", at=NOON + 700 * DAY))
    here.apply(ordered("m3", user="u", at=NOON + 1))
    assert here.said() == [1, 2]
    here.now += GAP + 2
    settle(here.graph)
    assert here.said() == [1, 2, 0]
    here.graph.close()


def test_a_late_event_joins_two_sessions(tmp_path: Path) -> None:
    """Also those of two ids, when they turn out to be one person's."""
    here = Clocked(tmp_path)
    define(here.graph, VISIT)
    here.apply(ordered("m1", anonymous="phone", at=NOON - 50 * MINUTE), ordered("m2", user="u", at=NOON))
    assert here.said() == [1]  # the phone's was over before it came
    here.apply(ordered("m3", user="u", anonymous="phone", at=NOON - 25 * MINUTE))
    assert here.said() == [1, 3]
    here.graph.close()


def test_what_is_over_is_found_in_steps(tmp_path: Path) -> None:
    """A thousand at once take several steps, each a transaction; who came back meanwhile is left alone."""
    here = Clocked(tmp_path)
    define(here.graph, VISIT)
    here.apply(*(ordered(f"m{number}", user=f"u{number}", at=NOON) for number in range(1_000)))
    settle(here.graph)
    here.now += GAP
    here.apply(ordered("again", user="u7", at=here.now))
    here.now += 1
    steps = 0
    while not here.graph.maintain():
        steps += 1
    assert steps >= 5
    assert here.said() == [1] * 1_000 + [2] + [0] * 999
    assert here.graph.computations.due_at(here.now) == here.now + GAP
    here.graph.close()


def test_values_are_a_function_of_the_events_and_the_time(tmp_path: Path) -> None:
    """In any order and batches, through contested ids and reopened files, at any time afterwards; what was told last says it, too."""
    for seed in range(SEEDS // 2):
        random = Random(f"sessions {seed}")
        events = some_events(random)
        for each in events:
            each.timestamp = NOON - random.randrange(random.choice([60, 600, 3_000])) * MINUTE
        arriving = random.sample(events, len(events))
        here = Clocked(tmp_path / str(seed))
        define(here.graph, VISIT, LONG)
        while arriving:
            size = random.choice([1, 1, 2, 5, len(arriving)])
            here.apply(*arriving[:size])
            arriving = arriving[size:]
            here.now += random.choice([0, 0, MINUTE])
            if random.random() < 0.2:
                settle(here.graph)
            if random.random() < 0.1:
                here.graph.close()
                here.open()
        here.now += random.choice([0, 20 * MINUTE, GAP, 3 * 60 * MINUTE, DAY])
        settle(here.graph)
        last: dict[tuple[str | None, str], Any] = {}
        for each in told(here.graph):
            last.update({(each.profile_id, key): value for key, value in said(each).items()})
        for one, inside in partition(events, LIMITS).items():
            own = [each for each in events if each.type == "track" and ids_of(each)[0] in inside]
            counts = {"visit": len(session_of(own, here.now)), "long": len(session_of(own, here.now, 24 * GAP))}
            assert values(here.graph, *one) == {key: count for key, count in counts.items() if count}, (seed, one)
            profile = here.graph.profile(*one)
            assert profile is not None
            for key, count in counts.items():
                assert last.get((profile.profile_id, key), 0) == count, (seed, one)
        here.graph.close()


def test_a_session_moves_with_its_ids(tmp_path: Path) -> None:
    """To another shard of the identity, which knows when it is over."""
    sharded = Sharded(tmp_path, Layout(2))
    owner = sharded.layout.owner
    phone = next(name for name in (f"p{number}" for number in range(30)) if owner(("anonymous_id", name)) == "1")
    user = next(name for name in (f"u{number}" for number in range(30)) if owner(("user_id", name)) == "0")
    for shard in ("0", "1"):
        define(sharded.graph(shard), VISIT)
    sharded.apply(ordered("m1", anonymous=phone, at=NOON - MINUTE))
    assert sharded.graph("1").computations.due_at(NOON) == NOON - MINUTE + GAP + 1
    sharded.apply(ordered("m2", user=user, anonymous=phone, at=NOON - 2 * MINUTE))
    sharded.settle()
    assert values(sharded.graph("0"), "anonymous_id", phone) == {"visit": 2}
    sharded.kill("0")
    assert sharded.graph("0").computations.due_at(NOON) == NOON - MINUTE + GAP + 1
    sharded.close()
