"""A mapping: compiled once, applied to any number of payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from segment_do.errors import InvalidEvent, InvalidRequest
from segment_do.mapping import choices, objects, paths, texts
from segment_do.mapping.place import Place
from segment_do.mapping.values import MISSING, Budget, Resolver

__all__ = ["DIRECTIVES", "Mapping", "compile_mapping"]

DIRECTIVES: Final[dict[str, Callable[[Place], Resolver]]] = {
    "@path": paths.path,
    "@arrayPath": paths.array_path,
    "@if": choices.choice,
    "@template": texts.template,
    "@case": texts.case,
    "@replace": texts.replace,
    "@liquid": texts.liquid,
    "@literal": objects.literal,
    "@merge": objects.merge,
    "@flatten": objects.flatten,
    "@json": objects.json,
    "@transform": objects.transform,
    "@excludeWhenNull": objects.exclude_when_null,
}
_BUDGET: Final = 4_000_000
_MOST_ERRORS_TOLD: Final = 10


class Mapping:
    """Made by :func:`compile_mapping`."""

    __slots__ = ("_resolve",)

    def __init__(self, resolve: Resolver) -> None:
        self._resolve = resolve

    def apply(self, payload: object) -> Any:
        """What the mapping makes of a JSON value; None where that is nothing. It may share parts with the payload.

        Raises:
            InvalidEvent: a directive meets a value that it cannot use, or the result is too large.
        """
        budget = Budget(_BUDGET)
        try:
            resolved = self._resolve(payload, budget)
            budget.weigh(resolved)
        except RecursionError:
            raise InvalidEvent("The payload is nested too deeply for the mapping.", code="mapping_failed") from None
        return None if resolved is MISSING else resolved


def compile_mapping(mapping: object) -> Mapping:
    """A mapping (JSON values) made ready.

    Raises:
        InvalidRequest: it breaks the language's rules; the message names each place.
    """
    errors: list[str] = []
    resolve = Place(mapping, (), DIRECTIVES, errors, [0]).compile()
    if errors:
        more = f"; and {len(errors) - _MOST_ERRORS_TOLD} more" if len(errors) > _MOST_ERRORS_TOLD else ""
        raise InvalidRequest(
            f"The mapping cannot be used: {'; '.join(errors[:_MOST_ERRORS_TOLD])}{more}.",
            hint="docs/mapping.md has the directives and their options.",
            code="invalid_mapping",
        )
    return Mapping(resolve)
