"""What a property or a trait has to be. A condition on something missing (or null) is false; its ``not_…`` is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from segment_do.computed.numbers import scaled
from segment_do.events.timestamps import parse_time

__all__ = ["MAX_LIST", "Condition", "Operator", "Scalar", "Where", "flaw", "holds", "lookup", "meets"]

MAX_LIST: Final = 100
"""Values in one list, and conditions in one place."""
MAX_TEXT: Final = 500
"""Characters of one value or name."""

Scalar = str | int | float | bool
Operator = Literal[
    "equals",
    "not_equals",
    "<",
    ">",
    "<=",
    ">=",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "exists",
    "not_exists",
    "before",
    "after",
    "one_of",
    "contains_one_of",
]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``{"property": "price", "is": ">", "value": 10}``."""

    property: str
    """Its name, or a path with dots into objects."""
    operator: Operator = msgspec.field(name="is")
    value: Scalar | tuple[Scalar, ...] | None = None
    """A list for ``one_of`` and ``contains_one_of``, nothing for ``exists`` and ``not_exists``, an ISO 8601 time for ``before``
    and ``after``."""


class Where(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of ``all``, and at least one of ``any`` where it lists some."""

    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()


def holds(where: Where | None, body: Any) -> bool:
    """Whether an event's properties, as decoded from JSON, are as they have to be."""
    if where is None:
        return True

    def met(each: Condition) -> bool:
        return meets(lookup(body, each.property), each.operator, each.value)

    return all(map(met, where.all)) and (not where.any or any(map(met, where.any)))


def lookup(body: Any, path: str) -> Any:
    """What lies under a name, or under a path with dots; None where there is nothing."""
    if isinstance(body, dict) and path in body:
        return body[path]
    for name in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body


def meets(found: Any, operator: Operator, value: Any) -> bool:
    """Whether a JSON value is as an operator and its operand say."""
    if operator.startswith("not_"):
        return not _TESTS[operator[4:]](found, value)
    return _TESTS[operator](found, value)


def flaw(operator: Operator, value: Any) -> str | None:
    """What is wrong with an operator's operand, if something is."""
    if operator in ("exists", "not_exists"):
        return None if value is None else f"`{operator}` takes no value"
    if operator in ("one_of", "contains_one_of"):
        if not isinstance(value, tuple) or not 1 <= len(value) <= MAX_LIST:
            return f"`{operator}` takes a list of 1 to {MAX_LIST} values"
    elif value is None or isinstance(value, tuple):
        return f"`{operator}` takes one value"
    if operator in ("<", ">", "<=", ">=") and scaled(value) is None:
        return f"`{operator}` takes a number"
    if operator in ("before", "after") and (not isinstance(value, str) or parse_time(value) is None):
        return f"`{operator}` takes a time in ISO 8601"
    texts = value if operator == "contains_one_of" else (value,)
    if operator in ("starts_with", "ends_with", "contains_one_of") and not all(isinstance(each, str) for each in texts):
        return f"`{operator}` takes text"
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, str) and len(each) > MAX_TEXT:
            return f"a value has more than {MAX_TEXT} characters"
    return None


def _equals(found: Any, value: Any) -> bool:
    # JSON's true is not its 1, although Python's is.
    return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, list):
        return any(_equals(each, value) for each in found)
    return isinstance(found, str) and isinstance(value, str) and value in found


def _compared(test: Callable[[int, int], bool], read: Callable[[object], int | None]) -> Callable[[Any, Any], bool]:
    def compare(found: Any, value: Any) -> bool:
        one, other = read(found), read(value)
        return one is not None and other is not None and test(one, other)

    return compare


_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": _equals,
    "<": _compared(lambda one, other: one < other, scaled),
    ">": _compared(lambda one, other: one > other, scaled),
    "<=": _compared(lambda one, other: one <= other, scaled),
    ">=": _compared(lambda one, other: one >= other, scaled),
    "contains": _contains,
    "starts_with": lambda found, value: isinstance(found, str) and found.startswith(value),
    "ends_with": lambda found, value: isinstance(found, str) and found.endswith(value),
    "exists": lambda found, _value: found is not None,
    "before": _compared(lambda one, other: one < other, parse_time),
    "after": _compared(lambda one, other: one > other, parse_time),
    "one_of": lambda found, values: any(_equals(found, each) for each in values),
    "contains_one_of": lambda found, values: any(_contains(found, each) for each in values),
}
