"""Directives that make texts: ``@template``, ``@case``, ``@replace``, ``@liquid``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from segment_do.errors import InvalidEvent
from segment_do.mapping.paths import look_up, steps_of
from segment_do.mapping.place import Place
from segment_do.mapping.values import MISSING, Budget, Resolver, text_of

__all__ = ["case", "liquid", "replace", "template"]

_PLACEHOLDER: Final = re.compile(r"\{\{\{([^{}]+)\}\}\}|\{\{([^{}]+)\}\}")
_LONGEST_TEMPLATE: Final = 10_000
_LONGEST_PATTERN: Final = 1_000
_LONGEST_LIQUID: Final = 1_000


def template(place: Place) -> Resolver:
    """``{"@template": "Hello, {{traits.name}}!"}``: each ``{{path}}`` replaced by the value there, or by nothing."""
    if not place.is_directive():
        parts = _parts(place.text(longest=_LONGEST_TEMPLATE))
        return lambda payload, budget: _filled(parts, payload, budget)
    written = place.compile()

    def resolve(payload: Any, budget: Budget) -> str:
        text = written(payload, budget)
        if not isinstance(text, str) or len(text) > _LONGEST_TEMPLATE:
            raise InvalidEvent("A template that the mapping makes from the payload is no text.", code="mapping_failed")
        return _filled(_parts(text), payload, budget)

    return resolve


def case(place: Place) -> Resolver:
    """``{"@case": {"operator": "lower" | "upper", "value": value}}``; what is no text stays as it is."""
    operator = place.options().get("operator")
    if operator not in ("lower", "upper"):
        place.at("operator", operator).wrong('must be "lower" or "upper"')
    value = _optional(place, "value")

    def resolve(payload: Any, budget: Budget) -> Any:
        found = value(payload, budget)
        if not isinstance(found, str):
            return found
        return found.lower() if operator == "lower" else found.upper()

    return resolve


def replace(place: Place) -> Resolver:
    """``{"@replace": {"value", "pattern", "replacement"?, "pattern2"?, "replacement2"?, "ignorecase"?, "global"?}}``.

    Patterns are plain text. Numbers and booleans are taken as their texts; anything else becomes an empty text.
    """
    options = place.options()
    flags = re.IGNORECASE if place.flag("ignorecase", default=False) else 0
    most = 0 if place.flag("global", default=True) else 1
    swaps: list[tuple[re.Pattern[str], str]] = []
    for end in ("", "2"):
        if end and not options.get("pattern2"):
            continue
        pattern = place.at(f"pattern{end}", options.get(f"pattern{end}")).text(shortest=1, longest=_LONGEST_PATTERN)
        given = options.get(f"replacement{end}")
        replacement = place.at(f"replacement{end}", "" if given is None else given).text(longest=_LONGEST_PATTERN)
        # A backslash is the one letter that means something in what a pattern is replaced by.
        swaps.append((re.compile(re.escape(pattern), flags), replacement.replace("\\", "\\\\")))
    if "value" not in options:
        place.wrong('needs "value"')
    value = place.at("value", options["value"]).compile()

    def resolve(payload: Any, budget: Budget) -> str:
        found = value(payload, budget)
        if not isinstance(found, str | int | float):
            return ""
        text = text_of(found)
        for pattern, replacement in swaps:
            budget.spend(len(text) * max(1, len(replacement)) if replacement else 0)
            text = pattern.sub(replacement, text, count=most)
        return text

    return resolve


def liquid(place: Place) -> Resolver:
    """``{"@liquid": "{% if plan == 'pro' %}…{% endif %}"}``: a Liquid template over the payload, without loops and includes."""
    render = _liquid(place.text(longest=_LONGEST_LIQUID), place.wrong)

    def resolve(payload: Any, budget: Budget) -> str:
        text = render(payload)
        budget.spend(len(text))
        return text

    return resolve


def _optional(place: Place, name: str) -> Resolver:
    given = place.field(name, required=False)
    return given.compile() if given is not None else lambda payload, budget: MISSING


@lru_cache(maxsize=1_024)
def _parts(text: str) -> tuple[str | tuple[str, ...], ...]:
    """A template cut into texts and paths (as steps), in turns."""
    parts: list[str | tuple[str, ...]] = []
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        parts += [text[end : found.start()], steps_of((found[1] or found[2]).strip())]
        end = found.end()
    return (*parts, text[end:])


def _filled(parts: tuple[str | tuple[str, ...], ...], payload: Any, budget: Budget) -> str:
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        else:
            value = look_up(payload, part)
            if isinstance(value, dict | list):
                budget.weigh(value)
            texts.append(text_of(value))
    text = "".join(texts)
    budget.spend(len(text))
    return text


def _liquid(text: str, wrong: Callable[[str], Any]) -> Callable[[Any], str]:
    from segment_do.mapping.liquid import compile_liquid

    return compile_liquid(text, wrong)
