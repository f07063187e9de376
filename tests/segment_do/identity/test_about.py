"""Where traits are from and whom a profile is linked to: never another value than the profile has, in any order of events."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from segment_do.identity import MAX_LINKS, profile_id
from segment_do.identity.questions import answer
from segment_do.identity.rules import DEFAULT_RULES
from tests.segment_do.identity.events import NOON, apply, identify, open_graph, record


def test_traits_are_those_of_the_profile(tmp_path: Path) -> None:
    """By any of its ids and by its profile id; the event that each is from is the one whose value stands."""
    events = [
        identify("m1", {"a": 1, "b": 1}, anonymous="x", at=NOON),
        identify("m2", {"b": 2, "c": 2}, user="u", anonymous="x", at=NOON + 1),
        identify("m3", {"c": 3}, user="u", at=NOON + 1),
    ]
    for number, order in enumerate(permutations(events)):
        graph = open_graph(tmp_path / str(number))
        for event in order:
            apply(graph, event)
        profile = graph.profile("user_id", "u")
        assert profile is not None
        for named in (("user_id", "u"), ("anonymous_id", "x"), profile.profile_id):
            found = graph.traits(named)
            assert found is not None
            assert {name: each.value for name, each in found.items()} == profile.traits
            assert {name: each.message_id for name, each in found.items()} == {"a": "m1", "b": "m2", "c": "m3"}
        assert graph.profile_id_of("anonymous_id", "x") == profile.profile_id
        graph.close()


def test_links_go_both_ways(tmp_path: Path) -> None:
    """People of one account are told once each, however many of their ids are members; no more than the bound."""
    graph = open_graph(tmp_path)
    group = {"groupId": "g"}
    apply(graph, record("m1", "group", anonymous="x", body=group), record("m2", "group", user="u", body=group))
    apply(graph, record("m3", user="u", anonymous="x"))
    linked = graph.links(("group_id", "g"))
    assert linked is not None
    assert [{each.value for each in one} for one in linked] == [{"u", "x"}]
    (accounts,) = graph.links(("user_id", "u")) or []
    assert [each.value for each in accounts] == ["g"]
    apply(graph, *(record(f"n{n}", "group", user=f"u{n}", body=group) for n in range(30)))
    assert len(graph.links(profile_id("group_id", "g")) or []) == MAX_LINKS
    assert graph.links(("user_id", "nobody")) is None
    assert graph.traits("use_nothing") is None


def test_nobody_was_seen_last_before_first(tmp_path: Path) -> None:
    """Of the last time only the hour is known."""
    graph = open_graph(tmp_path)
    apply(graph, record("m1", user="u", at=NOON + 59 * 60_000_000))
    told = answer(graph, "profile", {"id": "user_id:u"}, DEFAULT_RULES)
    for each in (told, told["externalIds"][0]):
        assert (each["firstSeen"], each["lastSeen"]) == ("2024-10-04T12:59:00.000Z",) * 2
    graph.close()
