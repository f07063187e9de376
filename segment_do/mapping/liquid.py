"""Liquid templates, as far as the mapping language takes them. Imported by the first mapping that has one.

Loops, includes and the filters that work on lists are out, as in Segment's language; so a template takes time in proportion to its text
and the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from liquid import Environment
from liquid.exceptions import LiquidError

from segment_do.errors import InvalidEvent
from segment_do.mapping.values import whole_numbers

__all__ = ["compile_liquid"]

_NO_TAGS: Final = ("case", "for", "include", "render", "tablerow", "liquid", "cycle", "increment", "decrement")
_NO_FILTERS: Final = (
    "concat",
    "find",
    "find_index",
    "has",
    "map",
    "newline_to_br",
    "reject",
    "reverse",
    "sort",
    "sort_natural",
    "sum",
    "uniq",
    "where",
)


class _Environment(Environment):
    output_stream_limit = 100_000
    local_namespace_limit = 100_000
    context_depth_limit = 10
    block_nesting_limit = 10


def _environment() -> Environment:
    environment = _Environment(autoescape=False)
    for name in _NO_TAGS:
        environment.tags.pop(name, None)
    for name in _NO_FILTERS:
        environment.filters.pop(name, None)
    return environment


_environment_of_mappings: Final = _environment()


def compile_liquid(text: str, wrong: Callable[[str], Any]) -> Callable[[Any], str]:
    """A template made ready: payload → text. ``wrong`` is told, and raises, where the text is no template."""
    try:
        template = _environment_of_mappings.from_string(text)
    except LiquidError as error:
        wrong(f"is no Liquid template: {_said(error)}")

    def render(payload: Any) -> str:
        try:
            return template.render(**{str(name): value for name, value in _fields(payload).items()})
        except (LiquidError, ArithmeticError, ValueError, TypeError) as error:
            raise InvalidEvent(f"A Liquid template failed: {_said(error)}.", code="mapping_failed") from None

    return render


def _fields(payload: Any) -> dict[str, Any]:
    return whole_numbers(payload) if isinstance(payload, dict) else {}


def _said(error: Exception) -> str:
    """What went wrong, without the payload's values, which a filter's own complaint may hold."""
    return str(getattr(error, "message", None) or type(error).__name__).split("\n", 1)[0][:200].rstrip(".")
