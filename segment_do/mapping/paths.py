"""Directives that take a value out of the payload: ``@path`` and ``@arrayPath``.

A path has dots between its steps and may begin with ``$.``; a step in brackets is an index or a quoted name:
``$.properties.products[0]['unit price']``. Brackets around anything else belong to the name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from segment_do.errors import InvalidEvent
from segment_do.mapping.place import Place
from segment_do.mapping.values import MISSING, Budget, Resolver

__all__ = ["array_path", "look_up", "path", "steps_of"]

_BETWEEN: Final = re.compile(r"""\[(?=["'\d])|\.|(?<=["'\d])\]""")
_ROOT: Final = re.compile(r"^\$(\.|$|(?=\[))")
_LONGEST: Final = 1_000


def path(place: Place) -> Resolver:
    """``{"@path": "$.a.b"}``: the value there, or nothing. The path may itself be a directive."""
    return _path_to(place)


def array_path(place: Place) -> Resolver:
    """``{"@arrayPath": [path, shape?]}``: the list there, each of its items put into shape; paths in the shape begin at the item.

    One object instead of a list is taken as a list of one.
    """
    given = place.value
    if not isinstance(given, list) or not 1 <= len(given) <= 2:
        place.wrong("must be a list of a path and, where wanted, a shape")
    found = place.at("0", given[0])
    items = found.compile() if found.is_directive() else _path_to(found)
    shape = place.at("1", given[1]) if len(given) == 2 else None
    if shape is None or not shape.value or not isinstance(shape.value, dict):
        return items
    shaped = shape.compile()

    def resolve(payload: Any, budget: Budget) -> Any:
        root = items(payload, budget)
        if isinstance(root, dict):
            root = [root]
        if not isinstance(root, list):
            return root
        resolved = []
        for item in root:
            budget.spend(1)
            value = shaped(item, budget)
            resolved.append(None if value is MISSING else value)
        return resolved

    return resolve


def look_up(payload: Any, steps: tuple[str, ...]) -> Any:
    """The value at the end of the steps; null where null stands in the way, as in Segment's language."""
    for step in steps:
        if isinstance(payload, dict):
            payload = payload.get(step, MISSING)
        elif isinstance(payload, list):
            payload = _item(payload, step)
        elif payload is None:
            return None
        else:
            return MISSING
    return payload


@lru_cache(maxsize=4_096)
def steps_of(text: str) -> tuple[str, ...]:
    """A path's steps; none for the payload itself (``$``, ``$.``, ``.`` or an empty text)."""
    parts = _BETWEEN.split(_ROOT.sub("", text))
    return tuple(part.replace('"', "").replace("'", "") for part in parts if part)


def _path_to(place: Place) -> Resolver:
    if not place.is_directive():
        steps = steps_of(place.text(longest=_LONGEST))
        return lambda payload, budget: look_up(payload, steps)
    written = place.compile()

    def resolve(payload: Any, budget: Budget) -> Any:
        text = written(payload, budget)
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidEvent("A path that the mapping makes from the payload is no path.", code="mapping_failed")
        return look_up(payload, steps_of(text))

    return resolve


def _item(items: list[Any], step: str) -> Any:
    if step == "length":
        return len(items)
    if not (step.isascii() and step.isdigit() and len(step) < 10):
        return MISSING
    index = int(step)
    return items[index] if index < len(items) else MISSING
