"""Traits: last write wins a name, null is a value, and the bound does not depend on the order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from segment_do.events.record import Record
from segment_do.identity import traits as traits_module
from segment_do.identity.ids import Unusable
from segment_do.identity.traits import read_group, read_traits
from tests.segment_do.identity.events import NOON, apply, identify, open_graph, record


def traits_of(folder: Path, *batches: list[Record]) -> dict[str, str]:
    graph = open_graph(folder)
    for batch in batches:
        apply(graph, *batch)
    found = graph.profile("user_id", "u")
    graph.close()
    assert found is not None
    return found.traits


def test_the_later_event_wins_whenever_it_comes(tmp_path: Path) -> None:
    """By event time, then by message id; in one batch, in two, and across linked ids."""
    writes = [
        identify("m1", {"plan": "old", "only": 1}, user="u", at=NOON),
        identify("m2", {"plan": "new"}, user="u", at=NOON + 1),
        identify("m3", {"plan": "newest"}, anonymous="a", at=NOON + 1),
        record("m0", user="u", anonymous="a"),
    ]
    for number, order in enumerate(permutations(writes)):
        together = traits_of(tmp_path / f"{number}-one", list(order))
        apart = traits_of(tmp_path / f"{number}-many", *([each] for each in order))
        assert together == apart == {"only": "1", "plan": '"newest"'}


def test_null_is_stored_and_omission_leaves(tmp_path: Path) -> None:
    """A trait set to null reads as null; one that a later identify leaves out stays."""
    first, second = identify("m1", {"a": 1, "b": 2}, user="u"), identify("m2", {"a": None}, user="u", at=NOON + 1)
    assert traits_of(tmp_path, [first], [second]) == {"a": "null", "b": "2"}


def test_values_keep_the_text_they_came_as(tmp_path: Path) -> None:
    """Large integers, floats, spacing and escapes are not rewritten."""
    body = rb'{"traits": {"n": 123456789012345678901234567890, "f": 1.0, "o": {"a" : [1,  2]}, "s": "\u00e9", "k\u0000": 1}}'
    assert traits_of(tmp_path, [record("m", "identify", user="u", body=body)]) == {
        "n": "123456789012345678901234567890",
        "f": "1.0",
        "o": '{"a" : [1,  2]}',
        "s": r'"\u00e9"',
        "k\0": "1",
    }


def test_context_traits_are_not_traits(tmp_path: Path) -> None:
    """Only ``traits`` of identify calls count, and only identify calls."""
    body = {"context": {"traits": {"a": 1}}, "traits": {"b": 2}}
    assert traits_of(tmp_path, [record("m1", user="u", body=body)]) == {}
    assert traits_of(tmp_path, [record("m2", "identify", user="u", body=body)]) == {"b": "2"}


def test_an_external_id_keeps_the_first_names_by_alphabet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the same names remain in any order; the others are counted; other ids have room of their own."""
    monkeypatch.setattr(traits_module, "MAX_TRAITS", 3)
    writes = [identify(f"m{name}", {name: 1, "b": 0}, user="u") for name in "acdef"]
    for number, order in enumerate(permutations(writes)):
        graph = open_graph(tmp_path / str(number))
        ignored = sum(apply(graph, *order[start : start + 2]).traits_ignored for start in (0, 2, 4))
        found = graph.profile("user_id", "u")
        assert found is not None
        assert list(found.traits) == ["a", "b", "c"]
        assert ignored == 3
        assert apply(graph, identify("other", {"z": 1}, user="v")).traits_ignored == 0
        graph.close()


def test_the_bound_holds_after_a_reopen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored before counts."""
    monkeypatch.setattr(traits_module, "MAX_TRAITS", 2)
    assert traits_of(tmp_path, [identify("m1", {"a": 1, "b": 1}, user="u")]) == {"a": "1", "b": "1"}
    assert traits_of(tmp_path, [identify("m2", {"c": 1, "A": 1}, user="u")]) == {"A": "1", "a": "1"}


@pytest.mark.parametrize("payload", [b"{}", b'{"traits": null}', b'{"traits": {}}'])
def test_no_traits_are_no_traits(payload: bytes) -> None:
    """Missing, null and empty are alike, and lawful."""
    assert read_traits(payload) == {}


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'{"traits": 1}', b'{"traits": {"a": }}', b'{"traits": "x"}'])
def test_what_is_no_object_is_unusable(payload: bytes) -> None:
    """It is refused with the one error that the batch expects."""
    with pytest.raises(Unusable):
        read_traits(payload)
    with pytest.raises(Unusable):
        read_group(payload)


@pytest.mark.parametrize(("sent", "text"), [(b'"g"', "g"), (b"7", "7"), (b"1.5", "1.5"), (b'"0"', "0")])
def test_group_ids_become_text(sent: bytes, text: str) -> None:
    """Numbers are lawful ids."""
    assert read_group(b'{"groupId": ' + sent + b"}").group_id == text
