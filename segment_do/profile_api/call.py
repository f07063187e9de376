"""What a Profile API call asks for, read from its address and query.

    /v1/spaces/{space}/collections/{users|accounts}/profiles/{type:value | use_id}/{traits|external_ids|events|metadata|links}

Each part of the path is URL-decoded by itself, so that an id may hold slashes and plus signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.timestamps import parse_time

__all__ = ["Call", "invalid", "read_call", "read_deletion", "space_of"]

_PREFIX: Final = "/v1/spaces/"
_PARTS: Final = frozenset({"traits", "external_ids", "events", "metadata", "links"})
_DEFAULT_LIMIT: Final = 10
_MOST: Final = {"traits": 200}
_MOST_OTHERS: Final = 100
_MOST_NAMES: Final = 1_000
"""Names in ``include`` or ``exclude``."""
_CLASSES: Final = frozenset({"audience", "computed_trait"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call; values in it are checked."""

    path: str
    """As it was sent, without the query."""
    space: str
    collection: str
    profile: str
    """``type:value`` or a profile id."""
    part: str
    """``traits``, ``external_ids``, ``events``, ``metadata``, ``links``, or ``delete`` (of an external id)."""
    limit: int = _DEFAULT_LIMIT
    next: str | None = None
    include: frozenset[str] = frozenset()
    """Empty: all."""
    exclude: frozenset[str] = frozenset()
    verbose: bool = False
    of_class: str | None = None
    start: int | None = None
    """Microseconds since the epoch, as ``end``."""
    end: int | None = None
    ascending: bool = False


def space_of(path: str) -> str | None:
    """The space that a path names; None where it is no path of the Profile API."""
    parts = path.removeprefix(_PREFIX).split("/")
    return (unquote(parts[0]) or None) if path.startswith(_PREFIX) else None


def read_call(method: str, path: str, query: str) -> Call:
    """Read a call; ``path`` and ``query`` as they were sent, not decoded.

    Raises:
        NotFound: there is nothing at this path.
        InvalidRequest: the method, or a value in the query, cannot be used.
    """
    match path.removeprefix(_PREFIX).rstrip("/").split("/"):
        case [space, "collections", ("users" | "accounts") as collection, "profiles", profile, part] if part in _PARTS:
            wanted = "GET"
        case [space, "collections", "users", "profiles", profile, "external_ids", "delete"]:
            collection, part, wanted = "users", "delete", "POST"
        case _:
            raise NotFound("There is nothing at this path.")
    if method != wanted:
        raise InvalidRequest(f"This path takes {wanted}.")
    name = unquote(profile)
    _check_profile(name, part)
    options = _query(query)
    return Call(
        path,
        unquote(space),
        collection,
        name,
        part,
        _limit(options.get("limit"), _MOST.get(part, _MOST_OTHERS)),
        options.get("next") or None,
        _names("include", options.get("include")),
        _names("exclude", options.get("exclude")),
        _one_of("verbose", options.get("verbose"), {"true": True, "false": False}, False),
        _one_of("class", options.get("class"), {each: each for each in _CLASSES}, None),
        _time("start", options.get("start")),
        _time("end", options.get("end")),
        _one_of("sort", options.get("sort"), {"asc": True, "desc": False}, False),
    )


def read_deletion(body: bytes) -> str:
    """The one external id that a body ``{"delete_external_ids": [{"id", "type"}]}`` names, as ``type:value``.

    Raises:
        InvalidRequest: it names none, or several.
    """
    try:
        given: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not JSON.") from None
    ids = given.get("delete_external_ids") if isinstance(given, dict) else None
    if not isinstance(ids, list) or len(ids) != 1:
        raise invalid("delete_external_ids has to hold one external id.")
    (one,) = ids
    kind, value = (one.get("type"), one.get("id")) if isinstance(one, dict) else (None, None)
    if not (isinstance(kind, str) and isinstance(value, str) and kind and value) or ":" in kind:
        raise invalid("An external id has an id and a type, both of them texts.")
    return f"{kind}:{value}"


def invalid(message: str) -> InvalidRequest:
    """A value that cannot be used."""
    return InvalidRequest(message, code="validation_error")


def _check_profile(name: str, part: str) -> None:
    kind, colon, value = name.partition(":")
    if (colon and not (kind and value)) or (not colon and not name.startswith(("use_", "acc_"))):
        raise InvalidRequest("A profile is named by an external id, as in user_id:u1, or by its profile id.")
    if part == "delete" and kind != "user_id":
        raise InvalidRequest("External ids are deleted by a user_id, as in user_id:u1.")


def _query(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise InvalidRequest("The query cannot be read.") from None


def _limit(given: str | None, most: int) -> int:
    if given is None:
        return _DEFAULT_LIMIT
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise invalid(f"limit has to be 1 to {most}.")
    return int(given)


def _names(what: str, given: str | None) -> frozenset[str]:
    found = frozenset(each for each in (given or "").split(",") if each)
    if len(found) > _MOST_NAMES or len(given or "") > 20_000:
        raise invalid(f"{what} has more than {_MOST_NAMES:,} names.")
    return found


def _one_of(what: str, given: str | None, values: dict[str, Any], default: Any) -> Any:
    if not given:
        return default
    if given not in values:
        raise invalid(f"{what} has to be {' or '.join(sorted(values))}.")
    return values[given]


def _time(what: str, given: str | None) -> int | None:
    if not given:
        return None
    found = parse_time(given.replace(" ", "+"))  # a plus sign that nobody encoded
    if found is None:
        raise invalid(f"{what} has to be a time of ISO 8601.")
    return found
