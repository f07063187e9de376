"""The rules by which external ids are promoted from events and joined to profiles.

Defaults are Segment's (Unify, identity resolution settings): a profile has one user_id ever and five values of any other type; where an
event would join more, its ids of lowest priority are left out; some values never count. Each identity may have rules of its own.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

import msgspec

from segment_do.errors import InvalidRequest

__all__ = ["ACCOUNT_TYPES", "DEFAULT_RULES", "MAX_IDS", "IdType", "Rules", "own_rules", "read_rules", "written_rules"]

MAX_IDS: Final = 1_000
"""External ids of one profile (Segment's own cap)."""
MAX_VALUE_CHARS: Final = 500
"""A longer value is not promoted."""
_MOST_TYPES: Final = 100
_MOST_BLOCKED: Final = 1_000
_DAY: Final = 86_400_000_000
WINDOWS: Final = {"ever": 0, "weekly": 7 * _DAY, "monthly": 30 * _DAY, "annually": 365 * _DAY}
"""Microseconds; 0: for ever."""

ACCOUNT_TYPES: Final = frozenset({"group_id"})
"""Types whose profiles are accounts, not people."""

NO_ARRIVAL: Final = "order: arrival needs one place where everything arrives"
"""Why an identity that is laid out over shards cannot have it."""

Window = Literal["ever", "weekly", "monthly", "annually"]
Step = Literal["trim", "lowercase", "digits"]


class IdType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for the external ids of one type. :func:`read_rules` fills in what the type has by default."""

    limit: int = 5
    """Values in one profile."""
    window: Window = "ever"
    """Values that joined the profile longer ago do not count against the limit."""
    priority: int | None = None
    """1 is kept longest. Types without one come after those with one, in the order of their names."""
    blocked: tuple[str, ...] = ()
    """Values that are never promoted, as they are after :attr:`normalise`."""
    blocked_patterns: tuple[str, ...] = ()
    """Regular expressions; a value that one matches whole is never promoted."""
    normalise: tuple[Step, ...] = ()
    """Done to a value before all else: spaces at its ends off, lower case, nothing but digits and a leading plus."""
    keys: tuple[str, ...] = ()
    """Names in ``traits``, ``context.traits`` and ``properties`` whose value is such an id, camelCase and snake_case alike."""
    enabled: bool = True


_DEFAULT_TYPES: Final = {
    "user_id": IdType(limit=1, priority=1),
    "email": IdType(priority=2, normalise=("trim", "lowercase")),
    "phone": IdType(normalise=("digits",)),
    "cross_domain_id": IdType(enabled=False),
    "braze_id": IdType(enabled=False),
}
_ANY: Final = IdType()


class _Prepared(NamedTuple):
    """A type's rules, ready for values."""

    steps: tuple[Callable[[str], str], ...]
    blocked: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]


_NEVER: Final = _Prepared((), frozenset(), ())


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """One identity's rules. Types not named have the defaults."""

    types: dict[str, IdType] = {}
    blocked: tuple[str, ...] = ("-1", "null", "anonymous")
    """Of every type."""
    blocked_patterns: tuple[str, ...] = (r"[0-]*",)
    alias: Literal["ignore", "merge"] = "ignore"
    """Segment's own rule is to ignore it; ``merge`` joins ``previousId`` to ``userId``, whatever the limits say."""
    order: Literal["event_time", "arrival"] = "event_time"
    """Whose claim comes first where limits decide: the earlier event, or the one that arrived earlier (as Segment has it)."""

    def of(self, kind: str) -> IdType:
        """The rules of a type."""
        return self.types.get(kind) or _DEFAULT_TYPES.get(kind) or _ANY

    def limit(self, kind: str) -> int:
        """Values of a type in one profile."""
        return self.of(kind).limit

    def window(self, kind: str) -> int:
        """Microseconds for which a value counts against its type's limit; 0: for ever."""
        return WINDOWS[self.of(kind).window]

    @cached_property
    def windowed(self) -> bool:
        """Whether any limit holds for some time only."""
        return any(each.window != "ever" for each in self.types.values())

    def rank(self, kind: str) -> tuple[int, str]:
        """Sorts types; the smallest is kept longest, and names the profile."""
        found = self._ranks.get(kind)
        if found is None:
            priority = self.of(kind).priority
            found = self._ranks[kind] = (1_000_000 if priority is None else priority, kind)
        return found

    def accepted(self, kind: str, value: str) -> str | None:
        """A value as it is promoted; None where it never is."""
        rules = self._prepared.get(kind) or self._prepare(kind)
        if rules is _NEVER:
            return None
        for step in rules.steps:
            value = step(value)
        if not value or len(value) > MAX_VALUE_CHARS or value in rules.blocked:
            return None
        for pattern in rules.patterns:
            if pattern.fullmatch(value):
                return None
        return value

    @cached_property
    def _ranks(self) -> dict[str, tuple[int, str]]:
        return {}

    @cached_property
    def _prepared(self) -> dict[str, _Prepared]:
        return {}

    def _prepare(self, kind: str) -> _Prepared:
        rules = self.of(kind)
        prepared = _Prepared(
            tuple(_STEPS[step] for step in rules.normalise),
            frozenset((*self.blocked, *rules.blocked)),
            tuple(re.compile(each) for each in (*self.blocked_patterns, *rules.blocked_patterns)),
        )
        self._prepared[kind] = prepared if rules.enabled else _NEVER
        return self._prepared[kind]


DEFAULT_RULES: Final = Rules()


def read_rules(given: Any) -> Rules:
    """Rules from JSON values, checked.

    Raises:
        InvalidRequest: names what is wrong, and where.
    """
    try:
        rules = msgspec.convert(_filled(given), Rules)
    except msgspec.ValidationError as error:
        raise _wrong(_placed(given, error)) from None
    if len(rules.types) > _MOST_TYPES:
        raise _wrong(f"there are more than {_MOST_TYPES} types")
    for kind, each in rules.types.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.]{0,99}", kind):
            raise _wrong(f"the type {kind[:100]!r} has to be lower case letters, digits, dots and underscores")
        if not 1 <= each.limit <= MAX_IDS:
            raise _wrong(f"the limit of {kind} has to be 1 to {MAX_IDS:,}")
        _check_blocked(kind, each.blocked, each.blocked_patterns)
    _check_blocked("all types", rules.blocked, rules.blocked_patterns)
    return rules


def written_rules(rules: Rules) -> dict[str, Any]:
    """JSON values that :func:`read_rules` makes the same rules of: what differs from the defaults, of each type from its own."""
    told = _json_values(rules)
    for kind, fields in told.get("types", {}).items():
        own = _defaults_of(kind)
        told["types"][kind] = {name: value for name, value in fields.items() if value != own[name]}
    return told


def own_rules(connection: sqlite3.Connection) -> Rules | None:
    """The rules that a graph's file holds, if it has some of its own."""
    (text,) = connection.execute("SELECT rules FROM meta").fetchone()
    return None if text is None else msgspec.convert(_filled(msgspec.json.decode(text)), Rules)


def _placed(given: Any, error: msgspec.ValidationError) -> str:
    """What is wrong, with the type that it is wrong of."""
    types = given.get("types") if isinstance(given, dict) else None
    for kind, each in types.items() if isinstance(types, dict) else ():
        try:
            msgspec.convert(each, IdType)
        except msgspec.ValidationError as of_type:
            return f"{of_type} of the type {str(kind)[:100]!r}"
    return str(error)


def _filled(given: Any) -> Any:
    """Rules as they are given, with what their types do not name."""
    types = given.get("types") if isinstance(given, dict) else None
    if not isinstance(types, dict):
        return given
    filled = {
        kind: {**_defaults_of(kind), **each} if isinstance(kind, str) and isinstance(each, dict) else each
        for kind, each in types.items()
    }
    return {**given, "types": filled}


def _defaults_of(kind: str) -> dict[str, Any]:
    return _json_values(_DEFAULT_TYPES.get(kind, _ANY))


def _json_values(rules: Rules | IdType) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(rules))  # lists, where a struct has tuples
    return values


def _check_blocked(what: str, values: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    if len(values) + len(patterns) > _MOST_BLOCKED:
        raise _wrong(f"{what} has more than {_MOST_BLOCKED:,} blocked values")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise _wrong(f"a blocked pattern of {what} is no regular expression: {error}") from None


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"The identity rules cannot be used: {what}.", hint="docs/identity.md has each of them.", code="invalid_rules"
    )


def _digits(value: str) -> str:
    plus = "+" if value.strip().startswith("+") else ""
    digits = re.sub(r"\D", "", value)
    return plus + digits if digits else ""


_STEPS: Final[dict[str, Callable[[str], str]]] = {"trim": str.strip, "lowercase": str.lower, "digits": _digits}
