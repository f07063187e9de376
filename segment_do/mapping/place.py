"""Where in a mapping the compiler is, and what it found wrong there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from segment_do.mapping.values import MISSING, Budget, Resolver

__all__ = ["Place", "Wrong"]

_DEEPEST: Final = 32
_MOST_VALUES: Final = 4_096


class Wrong(Exception):
    """Stops compiling at one place; the message names the place and never holds a raw value."""


class Place:
    """A value of the mapping and the way to it. Directives are given theirs and compile what is inside with :meth:`at`."""

    def __init__(
        self,
        value: Any,
        way: tuple[str, ...],
        directives: Mapping[str, Callable[[Place], Resolver]],
        errors: list[str],
        counted: list[int],
    ) -> None:
        self.value = value
        self._way = way
        self._directives = directives
        self._errors = errors
        self._counted = counted

    def compile(self) -> Resolver:
        """A resolver of what is here. Errors are noted, and compiling goes on beside them, so that all are told at once."""
        try:
            self._count()
            return self._compiled()
        except Wrong as error:
            self._errors.append(str(error))
            return _nothing

    def at(self, step: str, value: Any) -> Place:
        """The place of an inner value."""
        return Place(value, (*self._way, step), self._directives, self._errors, self._counted)

    def field(self, name: str, *, required: bool = True) -> Place | None:
        """The place of one of a directive's options; None where an optional one is not given."""
        if name in self.options():
            return self.at(name, self.value[name])
        if required:
            self.wrong(f'needs "{name}"')
        return None

    def options(self) -> dict[str, Any]:
        """What is here, which has to be an object."""
        if not isinstance(self.value, dict):
            self.wrong("must be an object")
        return self.value

    def text(self, *, longest: int, shortest: int = 0) -> str:
        """What is here, which has to be a text."""
        if not isinstance(self.value, str):
            self.wrong("must be a text")
        if not shortest <= len(self.value) <= longest:
            self.wrong(f"must have {shortest} to {longest} characters")
        return self.value

    def flag(self, name: str, default: bool) -> bool:
        """An option that is true or false."""
        given = self.options().get(name, default)
        if not isinstance(given, bool):
            self.at(name, given).wrong("must be true or false")
        return given

    def is_directive(self) -> bool:
        """Whether a key of what is here begins with ``@``."""
        return isinstance(self.value, dict) and any(name.startswith("@") for name in self.value)

    def wrong(self, what: str) -> NoReturn:
        """Raises Wrong: what is here has to be something else."""
        raise Wrong(f"/{'/'.join(self._way)} {what}")

    def _count(self) -> None:
        self._counted[0] += 1
        if self._counted[0] > _MOST_VALUES:
            self.wrong(f"is one too many: a mapping has at most {_MOST_VALUES:,} values")
        if len(self._way) > _DEEPEST:
            self.wrong(f"is deeper than {_DEEPEST} levels")

    def _compiled(self) -> Resolver:
        value = self.value
        if isinstance(value, dict):
            return self._directive() if self.is_directive() else self._object()
        if isinstance(value, list):
            return self._list()
        if value is not None and not isinstance(value, str | int | float):
            self.wrong("must be a JSON value")
        return lambda payload, budget: value

    def _directive(self) -> Resolver:
        names = [name for name in self.value if name != "_metadata"]  # editors keep notes there
        if len(names) != 1:
            self.wrong("must have one key, as it has one that begins with @")
        directive = self._directives.get(names[0])
        if directive is None:
            self.wrong(f"has no directive {names[0][:32]}")
        return directive(self.at(names[0], self.value[names[0]]))

    def _object(self) -> Resolver:
        fields = [(name, self.at(name, inner).compile()) for name, inner in self.value.items()]

        def resolve(payload: Any, budget: Budget) -> dict[str, Any]:
            resolved = {}
            for name, inner in fields:
                if (value := inner(payload, budget)) is not MISSING:
                    resolved[name] = value
            return resolved

        return resolve

    def _list(self) -> Resolver:
        items = [self.at(str(index), inner).compile() for index, inner in enumerate(self.value)]

        def resolve(payload: Any, budget: Budget) -> list[Any]:
            resolved = [item(payload, budget) for item in items]
            return [None if value is MISSING else value for value in resolved]

        return resolve


def _nothing(_payload: Any, _budget: Budget) -> Any:
    return MISSING
