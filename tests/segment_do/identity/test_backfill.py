"""Events of before a definition, counted once, beside those that come meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from segment_do.computed import read_definition
from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph
from segment_do.identity.computation import Declared
from segment_do.identity.questions import answer
from segment_do.identity.rules import DEFAULT_RULES
from segment_do.identity.shards import Layout
from segment_do.units import unit_name
from tests.segment_do.identity.computing import (
    ACCOUNT_DEFINITIONS,
    COUNT,
    define,
    ordered,
    said,
    settle,
    some_events,
    told,
    values,
)
from tests.segment_do.identity.events import (
    DAY,
    NOON,
    TIGHT,
    TIGHT_LIMITS,
    apply,
    ids_of,
    open_graph,
    outbox_records,
    partition,
)

SEEDS = int(os.environ.get("SEEDS", "120"))


def backfill(graph: Graph, *records: Record, position: int, last: bool = False) -> int:
    [found] = graph.computations.all()
    pack = (encode_pack(records), len(records))
    return graph.computations.backfill(found.computation_id, [pack], position=position, last=last)


def test_what_was_before_is_counted_once(tmp_path: Path) -> None:
    """In parts, again after a crash, with what came meanwhile among it; told only at the end; nothing else is touched."""
    graph = open_graph(tmp_path)
    past = [ordered(f"p{number}", user="u", anonymous="a", received=NOON - DAY + number) for number in range(10)]
    apply(graph, *past)
    define(graph, COUNT, backfill=True)
    # Received before the definition, applied after it: counted as it came, and in the warehouse as well by then.
    waiting = ordered("w1", user="u", received=NOON - 1)
    live = ordered("l1", user="u", received=NOON + 3_600_000_000)
    apply(graph, waiting, live)
    assert told(graph) == []
    before = graph.profile("user_id", "u")
    entries = len(outbox_records(graph))
    assert backfill(graph, *past[:6], position=5) == 6
    shutil.copytree(tmp_path, tmp_path.with_name("image"))
    graph.close()
    graph = open_graph(tmp_path.with_name("image"))
    [found] = graph.computations.all()
    assert (found.filling, found.filled) == (True, 5)
    assert backfill(graph, *past[:6], position=5) == 0
    stranger = ordered("s1", user="stranger", received=NOON - DAY)
    assert backfill(graph, *past[6:], waiting, live, stranger, position=13, last=True) == 4
    assert backfill(graph, *past[6:], waiting, live, position=13, last=True) == 0
    assert (graph.profile("user_id", "u"), len(outbox_records(graph))) == (before, entries)
    assert graph.profile("user_id", "stranger") is None
    [shown] = answer(graph, "computations", {}, DEFAULT_RULES)["computations"]
    assert (shown["filling"], shown["filled"]) == (True, 14), "counted, but in no profile yet"
    settle(graph)
    [shown] = answer(graph, "computations", {}, DEFAULT_RULES)["computations"]
    assert (shown["filling"], "filled" in shown) == (False, False)
    assert values(graph, "user_id", "u") == {"orders": 12}
    assert [said(each) for each in told(graph)] == [{"orders": 12}]
    with pytest.raises(InvalidRequest) as error:
        backfill(graph, position=14)
    assert error.value.code == "not_filling"
    with pytest.raises(NotFound):
        graph.computations.backfill("nothing", [], position=1)


def test_backfill_ends_where_live_counting_began_in_any_order(tmp_path: Path) -> None:
    """Events before and after a definition, applied and filled in any order: the same as counting all."""
    for seed in range(SEEDS // 4):
        random = Random(seed)
        events = [each for each in some_events(random) if each.type == "track"]
        cut = random.randrange(len(events) + 1)
        past, live = events[:cut], events[cut:]
        for each in past:
            each.received_at = NOON - random.randrange(DAY)
        for each in live:
            each.received_at = NOON + random.randrange(-2, 200) * 1_000_000
        graph = open_graph(tmp_path / str(seed), rules=TIGHT)
        if past:
            apply(graph, *past)
        define(graph, COUNT, backfill=True)
        for each in live:
            apply(graph, each)
        warehouse = [*past, *random.sample(live, len(live) // 2)]
        random.shuffle(warehouse)
        middle = len(warehouse) // 2
        backfill(graph, *warehouse[:middle], position=1)
        backfill(graph, *warehouse[middle:], position=2, last=True)
        settle(graph)
        for ids, inside in partition(events, TIGHT_LIMITS).items():
            count = sum(ids_of(each)[0] in inside for each in events)
            assert values(graph, *ids) == ({"orders": count} if count else {}), seed
        graph.close()


def test_a_shard_has_no_past(tmp_path: Path) -> None:
    """An id may move to another shard while the past is counted."""
    graph = open_graph(tmp_path, identity=unit_name("tom", "0"), layout=Layout(2))
    past = Declared(read_definition({**COUNT, "key": "own"}), backfill=True)
    [refused] = graph.computations.declare([past, Declared(read_definition(ACCOUNT_DEFINITIONS[0]))])
    assert "several graphs" in refused
    with pytest.raises(InvalidRequest, match="of before"):
        define(graph, {**COUNT, "key": "own"}, backfill=True)
    assert [each.definition.key for each in graph.computations.all()] == ["orders"]
    graph.close()
