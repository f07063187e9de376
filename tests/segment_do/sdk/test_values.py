"""Python values as JSON."""

from __future__ import annotations

import json
import math
from collections import ChainMap, OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntFlag
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from segment_do.errors import InvalidEvent
from segment_do.sdk import values
from segment_do.sdk.values import encode_value, repaired


class Colour(Enum):
    RED = "red"


class Bits(IntFlag):
    A = 1
    B = 2


class Word(str):
    __slots__ = ()


class Model(BaseModel):
    at: datetime
    tags: set[str]


class Struct(msgspec.Struct, rename="camel"):
    full_name: Any


@dataclass
class Point:
    x: Any


class Array:
    """As numpy's: not a collection of its own kind, but with ``tolist``."""

    def tolist(self) -> list[int]:
        return [1, 2]


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        ([Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN")], [None, None, None]),
        (Decimal("12.50"), 12.5),
        (2**80, 2**80),
        ("a\ud83d", "a\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"\ud800": "\udfff"}, {"\ufffd": "\ufffd"}),
        (Word("w"), "w"),
        ([Word("w\ud800")], ["w\ufffd"]),
        ({None: 1, 3: 4, 1.5: 5, Colour.RED: 6}, {"null": 1, "3": 4, "1.5": 5, "red": 6}),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001
        ([date(2026, 1, 2), time(3, 4), timedelta(days=1)], ["2026-01-02", "03:04:00", "P1D"]),
        ([UUID(int=1), Path("/a"), Colour.RED, Bits.A | Bits.B], [str(UUID(int=1)), "/a", "red", 3]),
        ([b"ab", bytearray(b"ab"), memoryview(b"ab")], ["YWI=", "YWI=", "YWI="]),
        ((1, (2,), frozenset({3}), deque([4]), range(2), Pair(1, 2)), [1, [2], [3], [4], [0, 1], [1, 2]]),
        (
            [OrderedDict(a=1), UserDict(a=1), ChainMap({"a": 1}), MappingProxyType({"a": 1}), {"a": 1}.keys()],
            [{"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, ["a"]],
        ),
        ([Struct("x"), Point(1), Array()], [{"fullName": "x"}, {"x": 1}, [1, 2]]),
        # Repaired inside of objects too: the slow way opens them.
        ([Struct("x\ud800"), Point(Decimal("NaN"))], [{"fullName": "x\ufffd"}, {"x": None}]),
        (Model(at=datetime(2026, 1, 2, tzinfo=UTC), tags={"a"}), {"at": "2026-01-02T00:00:00Z", "tags": ["a"]}),
    ],
    ids=repr,
)
def test_values_with_an_obvious_json(value: object, expected: object) -> None:
    """Each kind of value is written the way the platform reads it."""
    assert json.loads(encode_value(value), parse_constant=lambda text: 1 / 0) == expected


def looped() -> list[Any]:
    loop: list[Any] = [{"inner": []}]
    loop[0]["inner"].append(loop)
    return loop


class Broken:
    def tolist(self) -> list[int]:
        raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [{"b": 1j}]}, "`p.a[0].b` has no JSON: it is a complex"),
        ({"a": object()}, "`p.a` has no JSON: it is a object"),
        ({"a": Point}, "`p.a` has no JSON: it is a class"),
        ({"a": Point(1j)}, "`p.a.x` has no JSON"),
        ({"a": (i for i in [1])}, "`p.a` has no JSON: it is a generator"),
        ({"a": {(1, 2): 3}}, "`p.a` has a key that cannot be text: a tuple"),
        ({"a": looped()}, "`p.a[0].inner[0]` contains itself"),
        ({"a": Broken()}, "`p.a` has no JSON: its Broken raised RuntimeError"),
        ({"a": msgspec.Raw(b'1},{"type":')}, "`p.a` is a msgspec.Raw that does not hold JSON"),
        ({"a": 10**5_000}, "`p.a` has no JSON"),
    ],
    ids=["complex", "object", "class", "field", "generator", "key", "cycle", "raises", "raw", "digits"],
)
def test_values_without_json_are_named_by_their_path(value: object, path: str) -> None:
    """The error says where, and never what the value was."""
    with pytest.raises(InvalidEvent) as caught:
        encode_value(value, path="p")
    assert caught.value.message.startswith(path)
    assert caught.value.code == "not_json"
    assert "secret" not in str(caught.value)


def test_nesting_beyond_the_parser_is_refused() -> None:
    """Depth costs an error, not the process."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidEvent, match="nested more than"):
        encode_value(deep)
    while deep:  # CPython frees long chains by recursion where nobody helps
        deep = deep.pop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=100)
@given(json_values)
def test_both_ways_give_the_same_json(value: object) -> None:
    """The slow way, which repairs and explains, agrees with the fast one wherever the fast one works."""
    fast = encode_value(value)
    assert values._encode(values._plain(value, "", set(), 0)) == fast


@settings(max_examples=100)
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_repair_changes_nothing_but_lone_surrogates(text: str) -> None:
    """What can be UTF-8 stays; the result always can."""
    repaired(text).encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert repaired(text) == text
