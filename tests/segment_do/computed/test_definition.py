"""What can be declared, what is refused and how, and when conditions and audiences hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from segment_do.computed import Audience, ComputedTrait, Known, check_audience, read_definition
from segment_do.computed.conditions import meets
from segment_do.errors import InvalidRequest

COUNT = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Order Completed"}
EVENT = {"event": "Order Completed"}


def audience(members: Any, **more: Any) -> Any:
    return {"class": "audience", "key": "people", "members": members, **more}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "class"),
        ([], "object"),
        ({**COUNT, "colour": 1}, "colour"),
        ({**COUNT, "key": "two words"}, "`key`"),
        ({**COUNT, "kind": "median"}, "median"),
        ({**COUNT, "kind": "sum"}, "`sum` needs a `property`"),
        ({**COUNT, "property": "price"}, "looks at no property"),
        ({**COUNT, "event": None}, "`event` is missing"),
        ({**COUNT, "event": "Trait Computed"}, "cannot be counted"),
        ({**COUNT, "window_days": 0}, "1 to 365"),
        ({**COUNT, "window_days": 366}, "1 to 365"),
        ({**COUNT, "session_minutes": 29}, "30 to 129,600"),
        ({**COUNT, "session_minutes": 129_601}, "30 to 129,600"),
        ({**COUNT, "session_minutes": 30, "window_days": 1}, "exclude each other"),
        ({**COUNT, "name": "n" * 501}, "`name`"),
        ({**COUNT, "destinations": ["All"]}, "`destinations`"),
        ({**COUNT, "destinations": ["d"] * 101}, "`destinations`"),
        ({**COUNT, "where": {"all": [{"property": "p", "is": "like", "value": 1}]}}, "like"),
        ({**COUNT, "where": {"all": [{"property": "p", "is": ">", "value": "many"}]}}, "`>` takes a number"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "before", "value": "soon"}]}}, "ISO 8601"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "one_of", "value": 1}]}}, "list of 1 to 100"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "one_of", "value": [1] * 101}]}}, "list of 1 to 100"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "exists", "value": 1}]}}, "takes no value"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "equals"}]}}, "takes one value"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "starts_with", "value": 1}]}}, "takes text"),
        ({**COUNT, "where": {"any": [{"property": "p", "is": "exists"}] * 101}}, "more than 100 conditions"),
        ({**COUNT, "kind": "unique_list", "property": "p", "limit": 101}, "`limit`"),
        ({**COUNT, "kind": "most_frequent", "property": "p", "min_occurrences": 0}, "`min_occurrences`"),
        (audience({}), "exactly one of"),
        (audience({**EVENT, "trait": "plan", "is": "exists"}), "exactly one of"),
        (audience({"all": []}), "at least one part"),
        (audience({"trait": "plan"}), "needs `is`"),
        (audience({**EVENT, "is": "exists"}), "belong to `trait`"),
        (audience({"trait": "plan", "is": "exists", "at_least": 1}), "belong to events"),
        (audience({**EVENT, "at_least": 3, "at_most": 2}), "more than `at_most`"),
        (audience({**EVENT, "at_least": -1}), "`at_least`"),
        (audience({"all": [EVENT] * 100}), "more than 100 parts"),
    ],
)
def test_what_cannot_be_used_is_said(given: Any, said: str) -> None:
    """One sentence that names the field, under one code."""
    with pytest.raises(InvalidRequest) as error:
        read_definition(given)
    assert said in error.value.message
    assert error.value.code == "invalid_computation"


def test_depth_is_bounded() -> None:
    """Eleven levels are refused, and so are ten thousand."""
    for depth in (10, 10_000):
        members: Any = EVENT
        for _ in range(depth):
            members = {"not": members}
        with pytest.raises(InvalidRequest, match="deeper than 10"):
            read_definition(audience(members))


def test_definitions_are_data() -> None:
    """What is read is what JSON makes of it again."""
    given = {**COUNT, "where": {"all": [{"property": "price", "is": ">", "value": 10}]}, "window_days": 30}
    assert msgspec.json.decode(msgspec.json.encode(read_definition(given))) == given
    wanted = audience({"all": [{"not": {**EVENT, "window_days": 7}}, {"computed": "orders", "is": ">=", "value": 2}]})
    assert msgspec.json.decode(msgspec.json.encode(read_definition(wanted))) == wanted


@pytest.mark.parametrize(
    ("operator", "value", "true", "false"),
    [
        ("equals", 1, [1, 1.0], [True, "1", None, [1]]),
        ("equals", True, [True], [1, "true"]),
        ("not_equals", "a", ["b", None, 1], ["a"]),
        ("<", 10, [9, "9.5", -1], [10, "ten", None, True]),
        (">=", 10, [10, 10.0, "11"], [9.99, [11]]),
        ("contains", "ad", ["ada", ["ad"]], ["AD", None, 5, {"ad": 1}]),
        ("contains", 5, [[5]], [5, "5", [True]]),
        ("not_contains", "ad", ["bob", None, []], ["ada"]),
        ("starts_with", "a", ["ada"], ["bad", None, 1]),
        ("ends_with", "a", ["ada"], ["ad", None]),
        ("exists", None, [0, "", False], [None]),
        ("not_exists", None, [None], [0]),
        ("before", "2026-01-01", ["2025-12-31T23:59:59Z", 1_700_000_000], ["2026-01-01T00:00:00Z", "soon", None]),
        ("after", "2026-01-01", ["2026-01-01T00:00:01Z"], ["2026-01-01T00:00:00Z", None]),
        ("one_of", ("a", 1), ["a", 1], ["b", True, None]),
        ("contains_one_of", ("x", "y"), ["fix", ["y"]], ["a", None, []]),
    ],
)
def test_conditions(operator: Any, value: Any, true: list[Any], false: list[Any]) -> None:
    """Each operator, with what it holds for and what it does not."""
    assert [meets(each, operator, value) for each in true] == [True] * len(true)
    assert [meets(each, operator, value) for each in false] == [False] * len(false)


def test_an_audience_holds() -> None:
    """Events are counted in the order in which they are written; names of traits may be paths."""
    definition = read_definition(
        audience(
            {
                "any": [
                    {"all": [{**EVENT, "at_least": 2}, {"not": {"event": "Refunded"}}]},
                    {"all": [{"trait": "address.city", "is": "equals", "value": "Rome"}, {**EVENT, "at_most": 0}]},
                    {"computed": "orders", "is": ">", "value": 5},
                ]
            }
        )
    )
    assert isinstance(definition, Audience)
    assert [measure.event for measure in definition.measures] == ["Order Completed", "Refunded", "Order Completed"]
    rome = {"address": {"city": "Rome"}}
    for counts, traits, orders, expected in [
        ((2, 0, 2), {}, 0, True),
        ((2, 1, 2), {}, 0, False),
        ((0, 0, 0), rome, 0, True),
        ((1, 0, 1), rome, 0, False),
        ((1, 1, 1), {}, 6, True),
        ((0, 0, 0), {}, 0, False),
    ]:
        assert definition.compiled.holds(Known(counts, traits, {"orders": orders})) is expected


def test_an_audience_of_everybody_is_refused() -> None:
    """No event would ever say who is in it: not having done something needs something else beside it."""
    orders = read_definition(COUNT)
    assert isinstance(orders, ComputedTrait)
    for members in (
        {"not": EVENT},
        {**EVENT, "at_most": 3},
        {"trait": "plan", "is": "not_equals", "value": "pro"},
        {"computed": "orders", "is": "<", "value": 1},
    ):
        read = read_definition(audience(members))
        assert isinstance(read, Audience)
        with pytest.raises(InvalidRequest, match="everybody of whom nothing is known"):
            check_audience(read, {"orders": orders})
        both = read_definition(audience({"all": [members, {"event": "Signed Up"}]}))
        assert isinstance(both, Audience)
        check_audience(both, {"orders": orders})
    with pytest.raises(InvalidRequest, match="no computed trait 'orders'"):
        check_audience(read, {})
