"""What directives hand one another: JSON values, and :data:`MISSING` where a path leads nowhere."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from segment_do.errors import InvalidEvent

__all__ = ["MISSING", "Budget", "Missing", "Resolver", "json_text", "text_of", "whole_numbers"]


class Missing(Enum):
    """Type of :data:`MISSING`."""

    MISSING = "missing"


MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING
"""No value at all. A field with it is left out; null is a value, and stays."""

_encode: Final = msgspec.json.Encoder().encode


class Budget:
    """What one application of a mapping may produce: a unit for each character and each value.

    Without it a few nested directives make gigabytes of a kilobyte.
    """

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Raises InvalidEvent once more was spent than there was."""
        self.left -= units
        if self.left < 0:
            raise InvalidEvent("The mapping makes too much of this payload.", code="mapping_too_large")

    def weigh(self, value: object) -> None:
        """Spend what a value would take if it were written out."""
        if isinstance(value, str):
            self.spend(len(value) + 1)
        elif isinstance(value, dict):
            self.spend(1)
            for name, inner in value.items():
                self.spend(len(name))
                self.weigh(inner)
        elif isinstance(value, list):
            self.spend(1)
            for inner in value:
                self.weigh(inner)
        else:
            self.spend(1)


Resolver = Callable[[Any, Budget], Any]
"""Payload → value, or :data:`MISSING`."""


def text_of(value: object) -> str:
    """A value inside a text: numbers as JavaScript writes them, lists with commas between, objects as JSON, null and missing as nothing."""
    if isinstance(value, str):
        return value
    if value is None or value is MISSING:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    if isinstance(value, dict):
        return json_text(value)
    return str(value)


def json_text(value: object) -> str:
    """A value as compact JSON, its numbers as JavaScript writes them."""
    return _encode(whole_numbers(value)).decode()


def whole_numbers(value: Any) -> Any:
    """A copy in which ``1.0`` is ``1``, as in JavaScript, which knows one kind of number."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, dict):
        return {name: whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [whole_numbers(inner) for inner in value]
    return value


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e-6 <= abs(value) < 1e-4:
        return format(Decimal(repr(value)), "f")
    mantissa, exponent, digits = repr(value).partition("e")
    return f"{mantissa}e{digits[0]}{digits[1:].lstrip('0')}" if exponent else mantissa
