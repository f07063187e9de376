"""Each kind of computation gives what plain Python over the list of events gives, however the events are ordered and grouped."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.computed import State, read_definition
from segment_do.computed import folds as folds_module
from segment_do.computed.numbers import scaled, unscaled
from segment_do.events.record import Record
from tests.segment_do.identity.events import NOON, record

KINDS = ["event_count", "sum", "avg", "min", "max", "most_frequent", "first", "last", "unique_list", "unique_count"]
VALUES = st.one_of(
    st.sampled_from(["red", "blue", "blue", "green", "", "10", "-2.5", "1", True, False, None, 1, 1.0, 0, [1], {}]),
    st.integers(-5, 5),
    st.decimals(-100, 100, places=2).map(float),
)
EVENTS = st.lists(st.tuples(VALUES, st.integers(0, 3)), max_size=12).map(
    lambda drawn: [
        record(f"m{number}", at=NOON + at, body={"properties": {"p": value}})
        for number, (value, at) in enumerate(drawn)
    ]
)


def key_of(value: Any) -> tuple[str, str]:
    """Its place in the alphabet, and its type."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text, msgspec.json.encode(value).decode()


def plain(kind: str, events: list[Record], *, least: int = 2, limit: int = 100) -> Any:
    """What a kind means, over a list."""
    told = [(each.timestamp, each.message_id, msgspec.json.decode(each.payload)["properties"]["p"]) for each in events]
    scalars = [each for each in told if isinstance(each[2], str | int | float)]
    numbers = []
    for _at, _id, value in told:
        if not isinstance(value, bool) and isinstance(value, str | int | float):
            try:
                numbers.append(Decimal(str(value)))
            except ArithmeticError:
                continue
    if kind == "event_count":
        return len(told)
    if kind == "sum":
        return float(sum(numbers))
    if kind == "avg":
        return float(Fraction(sum(numbers)) / len(numbers)) if numbers else None
    if kind in ("min", "max"):
        return float((min if kind == "min" else max)(numbers)) if numbers else None
    if kind in ("first", "last"):
        ordered = sorted((at, message_id, key_of(value)[1]) for at, message_id, value in scalars)
        return msgspec.json.decode(ordered[0 if kind == "first" else -1][2]) if ordered else None
    counts = Counter(key_of(value) for _at, _id, value in scalars)
    if kind == "most_frequent":
        enough = [each for each in counts.items() if each[1] >= least]
        best = min(enough, key=lambda each: (-each[1], each[0]), default=None)
        return None if best is None else msgspec.json.decode(best[0][1])
    if kind == "unique_list":
        return [msgspec.json.decode(key[1]) for key in sorted(counts)[:limit]]
    return len(counts)


def definition(kind: str, **more: Any) -> Any:
    given = {"class": "trait", "key": "k", "kind": kind, "event": "Tested", **more}
    return read_definition(given if kind == "event_count" else {**given, "property": "p"})


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_order_and_grouping_change_nothing(kind: str, data: st.DataObject) -> None:
    """Shuffled, dealt to external ids, joined by any tree: the value of the list. States survive JSON."""
    events = data.draw(EVENTS)
    [measure] = definition(kind, limit=3, min_occurrences=2).measures
    pending: list[State] = []
    for event in data.draw(st.permutations(events)):
        state = measure.contribution(event, msgspec.json.decode(event.payload)["properties"])
        if state is not None:
            pending.append(state)
    while len(pending) > 1:
        one = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
        other = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
        pending.append(measure.fold.join(one, other))
    found = measure.fold.value(pending[0] if pending else None)
    expected = plain(kind, events, limit=3)
    assert found == expected
    assert isinstance(found, bool) == isinstance(expected, bool)


@pytest.mark.parametrize("kind", ["most_frequent", "unique_count"])
@given(values=st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=40), data=st.data())
def test_bounds_depend_on_no_order(kind: str, values: list[str], data: st.DataObject) -> None:
    """Where more values come than are kept, those kept are the same in any order, with their whole counts."""
    [measure] = definition(kind).measures
    bound = folds_module.MAX_TALLY
    folds_module.MAX_TALLY = 5
    try:
        totals = []
        for order in (values, data.draw(st.permutations(values))):
            parts = [measure.fold.of(each, 0, "m") for each in order]
            cut = data.draw(st.integers(0, len(parts)))
            joined = [part for part in (measure.joined(parts[:cut]), measure.joined(parts[cut:])) if part]
            totals.append(measure.joined(joined))
        assert totals[0] == totals[1]
        if kind == "most_frequent":
            counts = Counter(f'"{each}"' for each in values)
            assert (totals[0] or {}) == {each: counts[each] for each in sorted(counts)[:5]}
    finally:
        folds_module.MAX_TALLY = bound


def test_many_different_values_are_estimated() -> None:
    """A hundred thousand, to within ten per cent; a thousand are exact."""
    [measure] = definition("unique_count").measures
    hashes = sorted(measure.fold.of(number, 0, "m")[0] for number in range(100_000))
    assert 90_000 < measure.fold.value(hashes[:1_001]) < 110_000
    assert (
        measure.fold.value(measure.joined(measure.fold.of(number % 1_000, 0, "m") for number in range(3_000))) == 1_000
    )


@given(st.decimals(-(10**17), 10**17, places=12))
def test_decimals_are_exact(number: Decimal) -> None:
    """Twelve places are kept, as a number or as its text."""
    assert scaled(str(number)) == int(Fraction(number) * 10**12)
    assert scaled(float(number)) == scaled(repr(float(number)))


def test_numbers_are_numbers() -> None:
    """What is none, or too large, counts as none; sums beyond 64 bits are floats; a tenth three times is 0.3."""
    for odd in ("", "nan", "1_000", "0x10", "٣", True, None, [], "1e31", 10**30, float("inf"), "9" * 50):
        assert scaled(odd) is None, odd
    assert [scaled(each) for each in ("1e-400", " 1.5 ", "-.5", "1e3")] == [0, 15 * 10**11, -5 * 10**11, 10**15]
    assert unscaled(3 * (scaled(0.1) or 0)) == 0.3
    assert unscaled(10**12 * 2**70) == float(2**70)
