"""How events add up to a value: each kind as a commutative monoid over sets of events.

A fold makes a small *state* of one event, joins two states of disjoint sets of events into that of both, and reads a state's value.
``join`` is associative and commutative, so the value is a function of the set of events, whatever their order and however they
are grouped: by external id, by day, by batch. States are JSON (integers of any size included), and bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from segment_do.computed.numbers import mean, scaled, unscaled

__all__ = [
    "MAX_TALLY",
    "Average",
    "Count",
    "Distinct",
    "Extreme",
    "Fold",
    "Moment",
    "MostFrequent",
    "State",
    "Sum",
    "UniqueList",
]

State = Any
MAX_TALLY: Final = 1_000
"""Different values that a most frequent one is chosen from, alphabetically first; and that are counted exactly."""
_MOST_CHARS: Final = 500
"""Of a text that counts as a value."""
_HASHES: Final = 2**64


class Fold(Protocol):
    """One kind of computation."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        """State of one event whose property has this value; None where that event does not count."""

    def join(self, one: State, other: State) -> State:
        """State of the events of both."""

    def value(self, state: State | None) -> Any:
        """What a state says, as JSON; None as state: of no events."""


@dataclass(frozen=True)
class Count:
    """Events, whatever the property."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        return 1

    def join(self, one: State, other: State) -> State:
        return one + other

    def value(self, state: State | None) -> int:
        return 0 if state is None else int(state)


@dataclass(frozen=True)
class Sum:
    """Of numbers, exact to twelve decimal places."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        return scaled(value)

    def join(self, one: State, other: State) -> State:
        return one + other

    def value(self, state: State | None) -> int | float:
        return unscaled(state or 0)


@dataclass(frozen=True)
class Average:
    """Of numbers. State: sum and count."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        number = scaled(value)
        return None if number is None else [number, 1]

    def join(self, one: State, other: State) -> State:
        return [one[0] + other[0], one[1] + other[1]]

    def value(self, state: State | None) -> int | float | None:
        return None if state is None else mean(*state)


@dataclass(frozen=True)
class Extreme:
    """The smallest (``min``) or largest (``max``) number."""

    choose: Callable[..., Any]

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        return scaled(value)

    def join(self, one: State, other: State) -> State:
        return self.choose(one, other)

    def value(self, state: State | None) -> int | float | None:
        return None if state is None else unscaled(state)


@dataclass(frozen=True)
class Moment:
    """The value of the first (``min``) or last (``max``) event by its own time, then by message id, then by value."""

    choose: Callable[..., Any]

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        token = _token(value)
        return None if token is None else [timestamp, message_id, token]

    def join(self, one: State, other: State) -> State:
        return self.choose(one, other)

    def value(self, state: State | None) -> Any:
        return None if state is None else msgspec.json.decode(state[2])


@dataclass(frozen=True)
class MostFrequent:
    """The value of most events, alphabetically first among equals; null below ``least`` events. State: value → count.

    Of more than :data:`MAX_TALLY` values the alphabetically first are kept. Which those are no order decides, and their counts are
    whole: a value that is once beyond them stays beyond.
    """

    least: int

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        token = _token(value)
        return None if token is None else {token: 1}

    def join(self, one: State, other: State) -> State:
        joined = dict(one)
        for token, count in other.items():
            joined[token] = joined.get(token, 0) + count
        if len(joined) <= MAX_TALLY:
            return joined
        return {token: joined[token] for token in sorted(joined, key=_alphabetical)[:MAX_TALLY]}

    def value(self, state: State | None) -> Any:
        if not state:
            return None
        most = max(state.values())
        if most < self.least:
            return None
        return msgspec.json.decode(min((token for token in state if state[token] == most), key=_alphabetical))


@dataclass(frozen=True)
class UniqueList:
    """Different values, alphabetical; the first ``limit`` of them."""

    limit: int

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        token = _token(value)
        return None if token is None else [token]

    def join(self, one: State, other: State) -> State:
        return sorted({*one, *other}, key=_alphabetical)[: self.limit]

    def value(self, state: State | None) -> list[Any]:
        return [msgspec.json.decode(token) for token in state or ()]


@dataclass(frozen=True)
class Distinct:
    """How many different values: exact up to :data:`MAX_TALLY`, an estimate (about 3 % off) above. State: the smallest hashes."""

    def of(self, value: Any, timestamp: int, message_id: str) -> State | None:
        token = _token(value)
        if token is None:
            return None
        return [int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")]

    def join(self, one: State, other: State) -> State:
        return sorted({*one, *other})[: MAX_TALLY + 1]

    def value(self, state: State | None) -> int:
        hashes = state or []
        if len(hashes) <= MAX_TALLY:
            return len(hashes)
        # Hashes are spread evenly: the k-th smallest of n lies at about k / n of the whole range.
        return int(MAX_TALLY * _HASHES / max(1, hashes[MAX_TALLY]))


def _token(value: Any) -> str | None:
    """A text, number or bool as JSON text, the same for equal values; None for anything else."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 2**63):
        return None
    if isinstance(value, str) and len(value) > _MOST_CHARS:
        return None
    return msgspec.json.encode(value).decode()


def _alphabetical(token: str) -> tuple[str, str]:
    return (msgspec.json.decode(token) if token.startswith('"') else token, token)
