"""An audience's expression, made ready: which events it counts, which traits it reads, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segment_do.computed.conditions import lookup, meets
from segment_do.computed.folds import Count
from segment_do.computed.measure import Measure

if TYPE_CHECKING:
    from segment_do.computed.definition import Expression

__all__ = ["BLANK", "Compiled", "Known"]

BLANK: Final = 0
"""What is counted of somebody who did nothing."""


class Known(NamedTuple):
    """What is known of a profile, as far as an audience asks."""

    counts: Sequence[int]
    """Of each measure."""
    traits: Mapping[str, Any]
    """Name → value, decoded."""
    computed: Mapping[str, Any]
    """Key → value; blank ones too, such as a count of 0."""


_Test = Callable[[Known], bool]


class Compiled:
    """One expression."""

    def __init__(self, expression: Expression) -> None:
        self._measures: list[Measure] = []
        self.traits: set[str] = set()
        """Names of traits that it reads: each whole path, and what stands before its first dot."""
        self.computed: set[str] = set()
        """Keys of computed traits that it reads."""
        self.holds: _Test = self._test(expression)
        self.measures = tuple(self._measures)

    def _test(self, part: Expression) -> _Test:
        if part.all is not None:
            every = [self._test(each) for each in part.all]
            return lambda known: all(test(known) for test in every)
        if part.any is not None:
            some = [self._test(each) for each in part.any]
            return lambda known: any(test(known) for test in some)
        if part.negated is not None:
            inner = self._test(part.negated)
            return lambda known: not inner(known)
        if part.trait is not None or part.computed is not None:
            return self._value(part)
        return self._events(part)

    def _value(self, part: Expression) -> _Test:
        operator, value = part.operator, part.value
        assert operator is not None
        if part.trait is not None:
            path = part.trait
            self.traits |= {path, path.split(".")[0]}
            return lambda known: meets(lookup(known.traits, path), operator, value)
        key = part.computed
        assert key is not None
        self.computed.add(key)
        return lambda known: meets(known.computed.get(key), operator, value)

    def _events(self, part: Expression) -> _Test:
        place = len(self._measures)
        self._measures.append(Measure(part.call or "track", part.event, part.where, None, part.window_days, Count()))
        least = part.at_least if part.at_least is not None else (1 if part.at_most is None else 0)
        most = part.at_most
        return lambda known: least <= known.counts[place] and (most is None or known.counts[place] <= most)
