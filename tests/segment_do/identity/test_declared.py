"""Computed traits and audiences that the settings declare: read with all that is wrong said at the start, and taken up by graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segment_do.computed import MAX_DEFINITIONS, read_definition
from segment_do.errors import Conflict, SettingsError
from segment_do.identity import Graph
from segment_do.identity.computation import Declared
from segment_do.identity.computations_file import read_computations_file
from segment_do.settings import load_settings
from tests.segment_do.identity.events import NOON, apply, open_graph, record

ORDERS = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested"}
SPENT = {**ORDERS, "key": "spent", "kind": "sum", "property": "price"}
BUYERS = {"class": "audience", "key": "buyers", "members": {"computed": "orders", "is": ">", "value": 1}}


def declared(*definitions: dict[str, Any], backfill: bool = False) -> list[Declared]:
    return [Declared(read_definition(each), backfill) for each in definitions]


def keys(graph: Graph) -> dict[str, bool]:
    """Key to whether it is from the settings."""
    return {each.definition.key: each.declared for each in graph.computations.all()}


def audit(graph: Graph) -> list[tuple[str, Any]]:
    return [(line.action, line.detail["by"]) for line in graph.revisions.audit(100)]


def written(folder: Path, given: Any) -> Path:
    file = folder / "computations.yaml"
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    return file


def test_a_list_is_for_everyone_and_lists_by_name(tmp_path: Path) -> None:
    """Without a file there are none; a named identity has its own list alone."""
    assert read_computations_file(None).of("tom") == ()
    assert read_computations_file(written(tmp_path, "")).of("tom") == ()
    found = read_computations_file(written(tmp_path, [{**ORDERS, "backfill": True}, BUYERS]))
    assert list(found.of("tom")) == [*declared(ORDERS, backfill=True), *declared(BUYERS)]
    found = read_computations_file(written(tmp_path, {"default": [ORDERS], "identities": {"tom": [SPENT], "ann": []}}))
    assert [found.of(name) for name in ("ralph", "tom", "ann")] == [tuple(declared(ORDERS)), tuple(declared(SPENT)), ()]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "cannot be read"),
        ({"orders": 1}, "lists of definitions"),
        ([1], "lists of definitions"),
        ({"default": [{**ORDERS, "kind": "no"}]}, "at default"),
        ([ORDERS, {**SPENT, "kind": "no"}], "(number 2 of the list)"),
        ([ORDERS, {**SPENT, "backfill": "yes"}], "(number 2 of the list)"),
        ({"identities": {"tom": [BUYERS]}}, "at identities.tom"),
        ([ORDERS, ORDERS], "two of the key 'orders'"),
        ([{**ORDERS, "backfill": 1}], "backfill"),
        ([{**ORDERS, "key": f"k{number}"} for number in range(MAX_DEFINITIONS + 1)], "more than 50"),
        ([{"class": "audience", "key": "x", "members": {"not": {"event": "Tested"}}}], "of whom nothing is known"),
    ],
)
def test_what_cannot_be_used_is_told_at_the_start(
    tmp_path: Path, given: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file and the place in it."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path))
    monkeypatch.setenv("SEGMENT_DO_IDENTITY__COMPUTATIONS_FILE", str(written(tmp_path, given)))
    with pytest.raises(SettingsError, match=r"computations\.yaml") as raised:
        load_settings()
    assert said in str(raised.value)


def test_a_graph_takes_them_up(tmp_path: Path) -> None:
    """What is new is added, what changed changes, what is gone goes; what is as it was costs nothing and goes on counting."""
    graph = open_graph(tmp_path)
    assert graph.computations.declare(declared(ORDERS, SPENT, BUYERS)) == []
    assert keys(graph) == {"orders": True, "spent": True, "buyers": True}
    apply(graph, record("m1", user="u"), record("m2", user="u"))
    lines = audit(graph)
    statements: list[str] = []
    graph._database.connection.set_trace_callback(statements.append)
    assert graph.computations.declare(declared(ORDERS, SPENT, BUYERS)) == []
    assert [each for each in statements if not each.startswith("SELECT")] == []
    assert graph.computations.declare(declared({**ORDERS, "destinations": ["Braze"]}, BUYERS)) == []
    assert keys(graph) == {"orders": True, "buyers": True}
    found = graph.profile("user_id", "u")
    assert found is not None
    assert {key: each.value for key, each in found.computed.items()} == {"orders": "2", "buyers": "true"}
    assert graph.computations.declare([]) == []
    assert keys(graph) == {}
    assert lines == [("computation", "settings")] * 3
    assert audit(graph)[:4] == [("computation deleted", "settings")] * 2 + [
        ("computation", "settings"),
        ("computation deleted", "settings"),
    ]
    graph.close()


def test_the_order_of_changes_does_not_matter(tmp_path: Path) -> None:
    """A trait goes in the same step as the audience that read it, or with the one that no longer does; fifty are replaced by fifty."""
    graph = open_graph(tmp_path)
    graph.computations.declare(declared(ORDERS, BUYERS))
    other = {**BUYERS, "members": {"computed": "spent", "is": ">", "value": 1}}
    assert graph.computations.declare(declared(other, SPENT)) == []
    assert keys(graph) == {"spent": True, "buyers": True}
    assert graph.computations.declare([]) == []
    for prefix in "ab":
        many = [{**ORDERS, "key": f"{prefix}{number}"} for number in range(MAX_DEFINITIONS)]
        assert graph.computations.declare(declared(*many)) == []
        assert len(keys(graph)) == MAX_DEFINITIONS
    graph.close()


def test_by_hand_and_by_settings(tmp_path: Path) -> None:
    """Each keeps its own keys: what the settings declare cannot be changed by hand, what was set by hand is not declared over."""
    graph = open_graph(tmp_path)
    graph.computations.put(read_definition(SPENT), "api")
    graph.computations.declare(declared(ORDERS))
    for change in (
        lambda: graph.computations.put(read_definition({**ORDERS, "event": "Other"}), "api"),
        lambda: graph.computations.delete("orders", "api"),
    ):
        with pytest.raises(Conflict, match="settings declare"):
            change()
    [said] = graph.computations.declare(declared(ORDERS, {**SPENT, "kind": "max"}))
    assert "'spent'" in said
    assert keys(graph) == {"orders": True, "spent": False}
    # An audience set by hand reads a trait of the settings: that one stays until the audience goes.
    graph.computations.put(read_definition(BUYERS), "api")
    [said] = graph.computations.declare([])
    assert "buyers" in said
    assert keys(graph) == {"orders": True, "spent": False, "buyers": False}
    graph.computations.delete("buyers", "api")
    assert graph.computations.declare([]) == []
    graph.computations.delete("spent", "api")
    assert graph.computations.declare(declared(SPENT)) == []
    assert keys(graph) == {"spent": True}
    graph.close()


def test_events_of_before(tmp_path: Path) -> None:
    """Are counted where it is new, or counts otherwise than before; not where another name was given to it."""
    graph = open_graph(tmp_path, now=NOON)

    def filling() -> list[bool]:
        return [each.filling for each in graph.computations.all()]

    graph.computations.declare(declared(ORDERS))
    graph.computations.declare(declared({**ORDERS, "name": "Orders"}, backfill=True))
    assert filling() == [False]
    graph.computations.declare(declared({**ORDERS, "event": "Other"}, backfill=True))
    assert filling() == [True]
    graph.computations.declare(declared({**ORDERS, "event": "Other", "name": "Others"}, backfill=True))
    assert filling() == [True]
    assert graph.computations.all()[0].definition.name == "Others"
    graph.computations.declare(declared({**ORDERS, "event": "Third"}))
    assert filling() == [False]
    graph.close()
