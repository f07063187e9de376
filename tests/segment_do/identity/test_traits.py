"""Traits: last write wins a name, null is a value, and the bound does not depend on the order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from segment_do.events.record import Record
from segment_do.identity import Trait
from segment_do.identity import traits as traits_module
from segment_do.identity.ids import Unusable
from segment_do.identity.traits import read_group, read_traits
from tests.segment_do.identity.events import NOON, apply, identify, open_graph, record, shown_history


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


def history_of(folder: Path, *batches: list[Record]) -> dict[str, list[tuple[str, int, str]]]:
    graph = open_graph(folder)
    for batch in batches:
        apply(graph, *batch)
    found = shown_history(graph, ("user_id", "u"))
    graph.close()
    return found


def test_earlier_values_stay_with_the_last_event_that_set_each(tmp_path: Path) -> None:
    """In any order, in one batch or in many: a value that comes back is told once; null is a value; what was set again adds nothing."""
    writes = [
        identify("m1", {"plan": "free"}, user="u", at=NOON),
        identify("m2", {"plan": "pro"}, user="u", at=NOON + 1),
        identify("m3", {"plan": "free"}, user="u", at=NOON + 2),
        identify("m4", {"plan": None}, user="u", at=NOON + 3),
        identify("m5", {"plan": None}, user="u", at=NOON + 4),
    ]
    expected = {"plan": [("null", NOON + 4, "m5"), ('"free"', NOON + 2, "m3"), ('"pro"', NOON + 1, "m2")]}
    for number, order in enumerate(permutations(writes)):
        assert history_of(tmp_path / f"{number}-one", list(order)) == expected
        assert history_of(tmp_path / f"{number}-many", *([each] for each in order)) == expected
        assert history_of(tmp_path / f"{number}-two", list(order[:3]), list(order[2:])) == expected


def test_the_ten_newest_values_of_a_trait_are_kept(tmp_path: Path) -> None:
    """Also on disk; an account's as well, and of the trait that is asked for alone."""
    graph = open_graph(tmp_path)
    events = [
        record(f"m{n:02}", "group", user="u", at=NOON + n, body={"groupId": "g", "traits": {"seats": n, "plan": 1}})
        for n in range(30)
    ]
    Random(1).shuffle(events)
    for start in range(0, 30, 4):
        apply(graph, *events[start : start + 4])
    found = graph.trait_history(("group_id", "g"), "seats")
    assert found is not None
    assert {name: [each.value for each in values] for name, values in found.items()} == {
        "seats": [str(n) for n in range(29, 19, -1)]
    }
    assert found["seats"][0] == Trait("29", "src", NOON + 29, "m29")
    (rows,) = graph._database.connection.execute("SELECT count(*) FROM trait_history").fetchone()
    assert rows == 9
    assert graph.trait_history(("group_id", "g"), "never") == {}
    assert graph.trait_history("use_nothing") is None
    graph.close()


def test_an_external_id_keeps_so_many_earlier_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first names by alphabet, the newest of each: the same ones in any order. A name without room has no history either."""
    monkeypatch.setattr(traits_module, "MAX_EARLIER", 3)
    monkeypatch.setattr(traits_module, "MAX_TRAITS", 3)
    writes = [
        identify(f"m{n}", dict.fromkeys(names, n), user="u", at=NOON + n)
        for n, names in enumerate(["abd", "ab", "bd", "abc"])
    ]
    for number, order in enumerate(permutations(writes)):
        for size in (1, 2, 4):
            graph = open_graph(tmp_path / f"{number} {size}")
            for at in range(0, 4, size):
                apply(graph, *order[at : at + size])
            found = shown_history(graph, ("user_id", "u"))
            values = {name: [value for value, *_rest in values] for name, values in found.items()}
            assert values == {"a": ["3", "1", "0"], "b": ["3", "2"], "c": ["3"]}
            (rows,) = graph._database.connection.execute("SELECT count(*) FROM trait_history").fetchone()
            assert rows == 3
            graph.close()


def test_values_of_one_batch_count_towards_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that never were the value of the trait, because a later one was in the same batch."""
    monkeypatch.setattr(traits_module, "MAX_EARLIER", 3)
    found = history_of(tmp_path, [identify(f"m{n}", {"a": n}, user="u", at=NOON + n) for n in range(6)])
    assert [value for value, *_rest in found["a"]] == ["5", "4", "3", "2"]


def test_a_name_that_finds_no_room_leaves_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had goes with it: it would be kept for good otherwise, and told when the name has room again."""
    monkeypatch.setattr(traits_module, "MAX_TRAITS", 1)
    graph = open_graph(tmp_path)
    apply(graph, identify("m1", {"b": 1}, user="u"), identify("m2", {"b": 2}, user="u", at=NOON + 1))
    assert [each.value for each in (graph.trait_history(("user_id", "u")) or {})["b"]] == ["2", "1"]
    apply(graph, identify("m3", {"a": 1}, user="u"))
    assert list(graph.trait_history(("user_id", "u")) or {}) == ["a"]
    graph.close()
