"""Rules as they are given: what is not named keeps its default, and they are told and kept as they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segment_do.identity import DEFAULT_RULES, read_rules
from segment_do.identity.questions import answer
from segment_do.identity.rules import IdType
from tests.segment_do.identity.events import apply, identify, open_graph


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("user_id", {"blocked": ["test"]}, {"limit": 1, "priority": 1, "window": "ever"}),
        ("user_id", {"limit": 2}, {"limit": 2, "priority": 1}),
        ("email", {"limit": 1}, {"limit": 1, "priority": 2, "normalise": ("trim", "lowercase")}),
        ("phone", {"keys": ["mobile"]}, {"limit": 5, "normalise": ("digits",), "keys": ("mobile",)}),
        ("braze_id", {"limit": 2}, {"enabled": False}),
        ("loyalty", {"keys": ["card"]}, {"limit": 5, "priority": None, "normalise": (), "enabled": True}),
    ],
)
def test_what_a_type_does_not_name_keeps_its_own_default(
    kind: str, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    found = read_rules({"types": {kind: given}}).of(kind)
    assert {name: getattr(found, name) for name in kept} == kept


def test_a_default_can_be_given_away() -> None:
    found = read_rules({"types": {"user_id": {"limit": 5, "priority": None}, "email": {"normalise": []}}})
    assert found.of("user_id") == IdType(limit=5, priority=None)
    assert found.of("email") == IdType(priority=2)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"types": {"user_id": {"blocked": ["test"]}, "braze_id": {"enabled": True}}},
        {"types": {"user_id": {"limit": 5}, "email": {"normalise": [], "priority": None}}, "alias": "merge"},
        {"types": {"phone": {}, "email": {"limit": 1}}, "blocked": [], "blocked_patterns": ["x+"]},
    ],
)
def test_they_are_kept_and_told_as_they_were_given(tmp_path: Path, given: dict[str, Any]) -> None:
    """Not as the defaults that hold beside them: what is told can be given again and means the same."""
    graph = open_graph(tmp_path)
    told = answer(graph, "set_rules", {"rules": given, "by": "test"}, DEFAULT_RULES)
    assert told == {"rules": given, "own": True}
    assert graph.revisions.audit(1)[0].detail == {"rules": given, "by": "test"}
    assert read_rules(told["rules"]) == read_rules(given)
    graph.close()
    again = open_graph(tmp_path)
    assert again.rules == read_rules(given)
    assert answer(again, "rules", {}, DEFAULT_RULES) == {"rules": given, "own": True}
    again.close()


def test_a_blocked_value_costs_users_neither_their_limit_nor_their_name(tmp_path: Path) -> None:
    graph = open_graph(tmp_path, rules=read_rules({"types": {"user_id": {"blocked": ["test"]}, "email": {"limit": 1}}}))
    apply(
        graph,
        identify("m1", {"email": "Home@Example.com"}, user="ada"),
        identify("m2", {"email": "home@example.com"}, user="bob"),
    )
    ada, bob = graph.profile("user_id", "ada"), graph.profile("user_id", "bob")
    assert ada is not None
    assert bob is not None
    assert [(each.kind, each.value) for each in ada.external_ids] == [("user_id", "ada"), ("email", "home@example.com")]
    assert [(each.kind, each.value) for each in bob.external_ids] == [("user_id", "bob")]
    graph.close()
