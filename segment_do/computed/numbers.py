"""Numbers that add up to the same in any order: decimals to twelve places, as whole numbers.

Floats do not: their sum depends on the order. Here 19.99 three times is 59.97.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Final

__all__ = ["mean", "scaled", "unscaled"]

_PLACES: Final = 12
_SCALE: Final = 10**_PLACES
_MOST_DIGITS: Final = 30
"""Before the point. A larger number counts as none."""
_MOST_CHARS: Final = 40
_EXACT: Final = Context(prec=_MOST_DIGITS + _PLACES + _MOST_CHARS, rounding=ROUND_HALF_EVEN)
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_INT64: Final = 2**63


def scaled(value: object) -> int | None:
    """A JSON number, or a text that is one, times 10**12; None where it is none, or has over thirty digits before the point."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value * _SCALE if abs(value) < 10**_MOST_DIGITS else None
    if not isinstance(value, float | str):
        return None
    text = repr(value) if isinstance(value, float) else value.strip()
    if len(text) > _MOST_CHARS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if not number or number.adjusted() < -_PLACES - 1:
        return 0
    if number.adjusted() >= _MOST_DIGITS:
        return None
    return int(_EXACT.to_integral_value(_EXACT.scaleb(number, _PLACES)))


def unscaled(number: int) -> int | float:
    """Back: an integer where it is one and JSON readers take it."""
    whole, rest = divmod(number, _SCALE)
    return whole if rest == 0 and -_INT64 <= whole < _INT64 else number / _SCALE


def mean(total: int, count: int) -> int | float:
    """Of ``count`` scaled numbers that add up to ``total``: the nearest float, an integer where it is one."""
    exact = Fraction(total, count * _SCALE)
    whole = exact.denominator == 1 and -_INT64 <= exact.numerator < _INT64
    return exact.numerator if whole else float(exact)
