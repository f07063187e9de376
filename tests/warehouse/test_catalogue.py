from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import CorruptData
from warehouse.catalogue import NAME_LENGTH_MAX, NAMES_MAX, SEED, Catalogue


def seen(*objects: dict[str, object]) -> dict[str, str]:
    catalogue = Catalogue(Path("/nowhere/columns.json"))
    for value in objects:
        catalogue.observe("traits", [json.dumps(value).encode()])
    return dict(catalogue.types("traits"))


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1], "BIGINT"),
        ([1, 1.5], "DOUBLE"),
        ([1, 2**70], "DOUBLE"),
        ([2**63], "DOUBLE"),
        ([2**63 - 1, -(2**63)], "BIGINT"),
        ([True, None], "BOOLEAN"),
        ([True, 1], "VARCHAR"),
        (["a"], "VARCHAR"),
        ([1, "a"], "VARCHAR"),
        ([[1], {"a": 1}], "JSON"),
        ([[1], 1], "VARCHAR"),
    ],
)
def test_types_widen_along_the_lattice(values: list[object], type_: str) -> None:
    """A property has the narrowest type that holds all values seen, in whatever order they come."""
    for order in permutations(values):
        assert seen(*({"x": value} for value in order)) == {"x": type_}


def test_null_says_nothing() -> None:
    """A property that was only ever null has no type, and is no column."""
    assert seen({"x": None}) == {}


def test_seed_keeps_its_types(tmp_path: Path) -> None:
    """Segment's reserved properties are columns from the start, and stay numbers whatever is sent."""
    catalogue = Catalogue(tmp_path / "columns.json")
    assert catalogue.types("properties") == SEED
    catalogue.observe("properties", [b'{"revenue":"12.50","value":[1],"currency":5}'])
    assert catalogue.types("properties") == SEED


def test_bounded() -> None:
    """Names beyond the bound, and names too long, are not columns; those known go on widening."""
    catalogue = Catalogue(Path("/nowhere/columns.json"))
    catalogue.observe("traits", [json.dumps({f"t{i}": 1 for i in range(NAMES_MAX + 5)}).encode()])
    assert len(catalogue.types("traits")) == NAMES_MAX
    catalogue.observe("traits", [b'{"t0":"text"}'])
    assert catalogue.types("traits")["t0"] == "VARCHAR"
    assert seen({"x" * (NAME_LENGTH_MAX + 1): 1, "y" * NAME_LENGTH_MAX: 1}) == {"y" * NAME_LENGTH_MAX: "BIGINT"}


def test_what_is_no_object_costs_its_neighbours_nothing() -> None:
    """One odd value in a batch leaves the others their keys."""
    catalogue = Catalogue(Path("/nowhere/columns.json"))
    catalogue.observe("traits", [b'{"a":1}', b"[1]", b'"x"', b"1e999", b'{"x":"\xff"}', b"[" * 5000, b'{"b":true}'])
    assert catalogue.types("traits") == {"a": "BIGINT", "b": "BOOLEAN"}


def test_saved_only_when_changed_and_read_back(tmp_path: Path) -> None:
    """The file is written when there is something new, and a start finds what was saved."""
    catalogue = Catalogue(tmp_path / "columns.json")
    first = catalogue.encoded()
    assert first is not None
    catalogue.save(first)
    assert catalogue.encoded() is None
    catalogue.observe("properties", [b'{"plan":"pro"}'])
    second = catalogue.encoded()
    assert second is not None
    catalogue.save(second)
    catalogue.observe("properties", [b'{"plan":"free"}'])
    assert catalogue.encoded() is None
    assert Catalogue(tmp_path / "columns.json").types("properties") == {**SEED, "plan": "VARCHAR"}


def test_broken_file_is_corruption(tmp_path: Path) -> None:
    """A file that is not what was written says so, with what to do."""
    (tmp_path / "columns.json").write_bytes(b"{")
    with pytest.raises(CorruptData, match="Delete it"):
        Catalogue(tmp_path / "columns.json")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), _json), max_size=6), st.randoms())
def test_order_does_not_matter(objects: list[dict[str, object]], random: object) -> None:
    """The same objects give the same types in any order and any number of times."""
    shuffled = [*objects, *objects]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert seen(*objects) == seen(*shuffled)
