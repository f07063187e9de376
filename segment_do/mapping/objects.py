"""Directives on whole values: ``@merge``, ``@flatten``, ``@json``, ``@transform``, ``@literal``, ``@excludeWhenNull``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from segment_do.mapping.place import Place
from segment_do.mapping.values import MISSING, Budget, Resolver, json_text

__all__ = ["exclude_when_null", "flatten", "json", "literal", "merge", "transform"]

_MOST_MERGED: Final = 100
_LONGEST_SEPARATOR: Final = 16


def literal(place: Place) -> Resolver:
    """``{"@literal": value}``: the value as it stands, also where it looks like a directive."""
    value = place.value
    return lambda payload, budget: value


def merge(place: Place) -> Resolver:
    """``{"@merge": {"objects": […], "direction": "right" | "left"}}``: one object of several; the last (of ``left``, the first) wins.

    What is no object adds nothing.
    """
    direction = place.options().get("direction")
    if direction not in ("left", "right"):
        place.at("direction", direction).wrong('must be "left" or "right"')
    given = place.options().get("objects")
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_MERGED:
        place.at("objects", given).wrong(f"must be a list of 1 to {_MOST_MERGED}")
    within = place.at("objects", given)
    objects = [within.at(str(index), value).compile() for index, value in enumerate(given)]
    if direction == "left":
        objects.reverse()

    def resolve(payload: Any, budget: Budget) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for one in objects:
            value = one(payload, budget)
            if isinstance(value, dict):
                budget.spend(len(value))
                merged.update(value)
        return merged

    return resolve


def flatten(place: Place) -> Resolver:
    """``{"@flatten": {"value": value, "separator": text, "omitArrays"?: bool}}``: one level, the names joined by the separator."""
    separator = _needed(place, "separator").text(shortest=1, longest=_LONGEST_SEPARATOR)
    value = _needed(place, "value").compile()
    keep_lists = place.flag("omitArrays", default=False)

    def resolve(payload: Any, budget: Budget) -> Any:
        found = value(payload, budget)
        if found is MISSING:
            return {}
        flat: dict[str, Any] = {}
        _flatten_into(flat, "", found, separator, keep_lists, budget)
        return flat

    return resolve


def json(place: Place) -> Resolver:
    """``{"@json": {"value": value, "mode": "encode" | "decode"}}``. A text that is no JSON decodes to itself."""
    mode = place.options().get("mode")
    if mode not in ("encode", "decode"):
        place.at("mode", mode).wrong('must be "encode" or "decode"')
    value = _needed(place, "value").compile()

    def encode(payload: Any, budget: Budget) -> Any:
        found = value(payload, budget)
        if found is MISSING:
            return MISSING
        budget.weigh(found)
        return json_text(found)

    def decode(payload: Any, budget: Budget) -> Any:
        found = value(payload, budget)
        if not isinstance(found, str):
            return found
        budget.spend(len(found))
        try:
            return msgspec.json.decode(found)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return found

    return encode if mode == "encode" else decode


def transform(place: Place) -> Resolver:
    """``{"@transform": {"apply": mapping, "mapping": mapping}}``: the second on what the first makes of the payload."""
    if not isinstance(place.options().get("apply"), dict):
        place.at("apply", None).wrong("must be an object")
    first = _needed(place, "apply").compile()
    second = _needed(place, "mapping").compile()

    def resolve(payload: Any, budget: Budget) -> Any:
        between = first(payload, budget)
        budget.weigh(between)
        return second(between, budget)

    return resolve


def exclude_when_null(place: Place) -> Resolver:
    """``{"@excludeWhenNull": value}``: nothing where the value is null; an object without its fields that are null, at every level."""
    value = place.compile()

    def resolve(payload: Any, budget: Budget) -> Any:
        found = value(payload, budget)
        return MISSING if found is None else _without_nulls(found)

    return resolve


def _needed(place: Place, name: str) -> Place:
    found = place.field(name)
    assert found is not None  # a required one is there, or it was wrong
    return found


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}


def _flatten_into(
    flat: dict[str, Any], name: str, value: Any, separator: str, keep_lists: bool, budget: Budget
) -> None:
    budget.spend(len(name) + 1)
    inner: Any
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and not keep_lists:
        inner = ((str(index), item) for index, item in enumerate(value))
    else:
        flat[name] = value
        return
    for key, item in inner:
        _flatten_into(flat, f"{name}{separator}{key}" if name else key, item, separator, keep_lists, budget)
