"""An external id taken out of its profile: in one step, whatever fails; the rest stays one, whatever tied it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from segment_do.errors import InvalidRequest
from segment_do.identity import Graph
from segment_do.identity.questions import answer
from segment_do.identity.rules import DEFAULT_RULES
from tests.segment_do.identity.events import TIGHT, apply, open_graph, record
from tests.segment_do.identity.test_orders import some_events

SEEDS = int(os.environ.get("SEEDS", "300"))


def ids(graph: Graph, kind: str, value: str) -> set[tuple[str, str]]:
    found = graph.profile(kind, value)
    assert found is not None
    return {(each.kind, each.value) for each in found.external_ids}


def delete(graph: Graph, lookup: str, gone: str) -> None:
    answer(graph, "delete_id", {"id": lookup, "delete": gone, "by": "test"}, DEFAULT_RULES)


def state(graph: Graph) -> Any:
    outbox = [entry.pack for entry in graph.outbox(2**40)]
    return graph.profile("user_id", "u"), graph.profile("anonymous_id", "hub"), graph.revisions.audit(9), outbox


def external(number: int) -> dict[str, Any]:
    ids = [{"id": str(number), "type": "card", "collection": "users", "encoding": "none"}]
    return {"context": {"externalIds": ids}}


def test_a_crash_in_between_leaves_all_or_nothing(tmp_path: Path) -> None:
    """The folder as it lies on disk before each statement of the change, opened again: as before, never half of it."""
    live = tmp_path / "live"
    graph = open_graph(live)
    # All others hang on the one that goes, so that the profile falls into parts that have to be joined again.
    apply(
        graph,
        *(record(f"m{n}", anonymous="hub", body=external(n)) for n in range(1, 4)),
        record("m", anonymous="hub", user="u"),
    )
    before = state(graph)
    images: list[Path] = []

    def copy(_statement: str) -> None:
        images.append(tmp_path / f"image {len(images)}")
        shutil.copytree(live, images[-1])

    graph._database.connection.set_trace_callback(copy)
    delete(graph, "user_id:u", "anonymous_id:hub")
    graph._database.connection.set_trace_callback(None)
    after = state(graph)
    assert ids(graph, "anonymous_id", "hub") == {("anonymous_id", "hub")}
    assert ids(graph, "user_id", "u") == {("user_id", "u"), *(("card", str(n)) for n in range(1, 4))}
    assert [line.action for line in graph.revisions.audit(9)] == ["delete_id"]
    graph.close()
    assert len(images) > 20
    for image in images:
        crashed = open_graph(image)
        assert state(crashed) == before, image
        crashed.close()
        shutil.rmtree(image)
    again = open_graph(live)
    assert state(again) == after
    again.close()


def test_it_does_not_come_back_by_what_takes_its_place(tmp_path: Path) -> None:
    """The event that brought it had brought another id; now a third has room, which a later event ties to the deleted one."""
    graph = open_graph(tmp_path, rules=TIGHT)
    apply(
        graph,
        record("m1", anonymous="a1", user="u", body=external(7)),
        record("m2", anonymous="a2", user="u"),
        record("m3", anonymous="a3", user="u"),
        record("m4", anonymous="a3", body=external(7)),
    )
    inside = {("user_id", "u"), ("anonymous_id", "a1"), ("anonymous_id", "a2")}
    assert ids(graph, "user_id", "u") == inside | {("card", "7")}
    delete(graph, "user_id:u", "card:7")
    assert ids(graph, "card", "7") == {("card", "7")}
    assert ids(graph, "user_id", "u") == inside | {("anonymous_id", "a3")}
    graph.close()


@pytest.mark.parametrize("tight", [False, True])
def test_any_id_of_any_profile(tmp_path: Path, tight: bool) -> None:
    """It is apart from all that it was with, those are together, and stay so when the same events come again."""
    for seed in range(SEEDS // 6):
        random = Random(f"{seed} {tight}")
        events = some_events(random)
        graph = open_graph(tmp_path / str(seed), **({"rules": TIGHT} if tight else {}))
        apply(graph, *events)
        for _ in range(3):
            one = random.choice(events)
            lookup = ("user_id", one.user_id) if one.user_id else ("anonymous_id", one.anonymous_id or "")
            inside = ids(graph, *lookup)
            gone = random.choice(sorted(inside))
            try:
                delete(graph, ":".join(lookup), ":".join(gone))
            except InvalidRequest:
                assert gone == lookup or gone[0] == "user_id"
                continue
            for _again in range(2):
                assert not ids(graph, *gone) & (inside - {gone}), seed
                assert inside - {gone} <= ids(graph, *lookup), seed
                graph.close()
                graph = open_graph(tmp_path / str(seed), **({"rules": TIGHT} if tight else {}))
                apply(
                    graph,
                    *(
                        record(
                            f"n{number:02}",
                            each.type,
                            user=each.user_id,
                            anonymous=each.anonymous_id,
                            at=each.timestamp,
                            body=each.payload,
                        )
                        for number, each in enumerate(events)
                    ),
                )
        graph.close()
