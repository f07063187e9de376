"""Python values as JSON: what an agent or a program has at hand, written the way the platform reads it.

Two ways to one result. The fast one is a single pass of msgspec's encoder, checked by its parser; where that refuses,
the slow one walks the value, repairs what has an obvious JSON (NaN is null, half an emoji is U+FFFD), and names the
path of what has none. A value never costs more than its own event: nothing invalid leaves this module.

As JSON: str, int (of any size), float, bool, None; mappings; lists, tuples, sets and other collections; dataclasses,
msgspec and attrs objects, pydantic models; datetime, date, time as ISO 8601 (without an offset where they have none);
timedelta as an ISO 8601 duration; Decimal as a number; UUID and paths as text; enums as their value; bytes as base64;
numpy scalars and arrays. Keys become text. NaN and the infinities are null.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec

from segment_do.errors import InvalidEvent

__all__ = ["encode_value", "repaired"]

_MAX_DEPTH: Final = 200
"""Nesting that the slow way follows. Real events nest a handful of levels."""


def encode_value(value: object, *, path: str = "") -> bytes:
    """``value`` as JSON, valid and UTF-8.

    Raises:
        InvalidEvent: something in it has no JSON, contains itself, or nests too deeply; names the path, below ``path``.
    """
    try:
        encoded = _encode(value)
        _check(encoded)  # msgspec.Raw and non-finite Decimals can make what no parser takes
        return encoded
    except Exception:  # noqa: BLE001  # objects run code of their own here; the slow way tells which one it was
        return _encode(_plain(value, path, set(), 0))


def repaired(text: str) -> str:
    """``text`` without lone surrogates: two halves of a pair are joined, a half alone becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _simpler(value: Any) -> Any:
    """A value msgspec does not know, as one that it does. Called by the encoder, and by the slow way.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, type):
        raise TypeError("a class")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for method in ("model_dump", "tolist"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    if isinstance(value, Collection):
        return list(value)
    raise TypeError(f"a {type(value).__name__}")


_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(enc_hook=_simpler, decimal_format="number").encode
_check: Final[Callable[[bytes], object]] = msgspec.json.Decoder(msgspec.Raw).decode
_decode_keys: Final[Callable[[bytes], dict[str, int]]] = msgspec.json.Decoder(dict[str, int]).decode


def _plain(value: Any, path: str, above: set[int], depth: int) -> Any:
    """``value`` as dicts, lists and leaves that are already encoded, or the error that names ``path``."""
    if depth > _MAX_DEPTH:
        raise _invalid(path, f"is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    if type(value) is str:
        return repaired(value)
    container = isinstance(value, (dict, list, tuple, set, frozenset))
    if not container:
        leaf = _leaf(value)
        if leaf is not None:
            return leaf
    if id(value) in above:
        raise _invalid(path, "contains itself")
    above.add(id(value))
    try:
        if isinstance(value, dict):
            return {_key(key, path): _plain(inner, _below(path, key), above, depth + 1) for key, inner in value.items()}
        if container:
            return [_plain(inner, f"{path}[{index}]", above, depth + 1) for index, inner in enumerate(value)]
        return _plain(_opened(value, path), path, above, depth + 1)
    finally:
        above.discard(id(value))


def _leaf(value: Any) -> msgspec.Raw | None:
    """``value`` encoded, if it can be as it is; None = look inside."""
    try:
        encoded = _encode(value)
        _check(encoded)
        return msgspec.Raw(encoded)
    except Exception:  # noqa: BLE001  # objects run code of their own here
        return None


def _opened(value: Any, path: str) -> Any:
    """One step into an object whose fields the encoder could not take as they are."""
    if isinstance(value, msgspec.Raw):
        raise _invalid(path, "is a msgspec.Raw that does not hold JSON")
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        return {encoded: getattr(value, name) for name, encoded in names if getattr(value, name) is not msgspec.UNSET}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    try:
        simpler = _simpler(value)
    except TypeError as error:
        raise _invalid(path, f"has no JSON: it is {_article(value, error)}") from None
    except Exception as error:
        raise _invalid(path, f"has no JSON: its {type(value).__name__} raised {type(error).__name__}") from error
    if type(simpler) is type(value) and not isinstance(simpler, (dict, list, str)):
        # An int of more digits than the interpreter writes, or an object that is its own simpler form.
        raise _invalid(path, f"has no JSON: it is a {type(value).__name__} that cannot be written")
    return simpler


def _key(key: Any, path: str) -> str:
    if key is None:
        return "null"
    if isinstance(key, str):
        return repaired(str.__str__(key))
    try:
        (text,) = _decode_keys(_encode({key: 0}))
    except Exception as error:
        raise _invalid(path, f"has a key that cannot be text: a {type(key).__name__}") from error
    return text


def _below(path: str, key: object) -> str:
    name = key if isinstance(key, str) else repr(key) if isinstance(key, (int, float)) else type(key).__name__
    name = repaired(name[:60])
    return f"{path}.{name}" if path else name


def _article(value: object, error: TypeError) -> str:
    told = str(error)
    return told if told in ("a class", f"a {type(value).__name__}") else f"a {type(value).__name__}"


def _invalid(path: str, what: str) -> InvalidEvent:
    return InvalidEvent(f"`{path or 'event'}` {what}.", code="not_json")
