"""Computed traits and audiences, declared as data, and everything that is checked about them before they are used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, Literal

import msgspec

from segment_do.computed.conditions import MAX_LIST, MAX_TEXT, Operator, Scalar, Where, flaw
from segment_do.computed.expression import BLANK, Compiled, Known
from segment_do.computed.folds import Average, Count, Distinct, Extreme, Fold, Moment, MostFrequent, Sum, UniqueList
from segment_do.computed.measure import Call, Measure
from segment_do.computed.sessions import Sessions
from segment_do.errors import InvalidRequest

__all__ = [
    "MAX_DEFINITIONS",
    "RESERVED_EVENTS",
    "Audience",
    "ComputedTrait",
    "Definition",
    "Expression",
    "Whose",
    "blank",
    "check_audience",
    "read_definition",
    "wrong",
]

MAX_DEFINITIONS: Final = 50
"""Of one identity."""
MAX_WINDOW_DAYS: Final = 365
SESSION_MINUTES: Final = (30, 90 * 24 * 60)
"""Bounds of the gap that ends a session: 30 minutes to 90 days, as Segment's."""
_MINUTE_MICROSECONDS: Final = 60_000_000
MAX_PARTS: Final = 100
"""Parts of one audience's expression, nested up to :data:`MAX_DEPTH`."""
MAX_DEPTH: Final = 10
MAX_COUNT: Final = 1_000_000_000
RESERVED_EVENTS: Final = frozenset({"Trait Computed", "Audience Entered", "Audience Exited"})
"""What computations themselves send: counting it would never end."""

Kind = Literal[
    "event_count", "sum", "avg", "min", "max", "most_frequent", "first", "last", "unique_list", "unique_count"
]
Output = Literal["identify", "track"]
Whose = Literal["users", "accounts"]


class ComputedTrait(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    dict=True,
    tag_field="class",
    tag="trait",
):
    """A figure of each profile's events: ``{"class": "trait", "key": "orders", "kind": "event_count", "event": "Order Completed"}``."""

    key: str
    """Name of the trait; letters, digits and underscores."""
    kind: Kind
    event: str | None = None
    """Name of the track event, page or screen. Pages and screens may leave it out: of any name."""
    name: str = ""
    """For people."""
    call: Call = "track"
    property: str | None = None
    """Whose values are looked at; all kinds but ``event_count`` need one."""
    where: Where | None = None
    window_days: int | None = None
    """Count only events of the last so many UTC days, today included."""
    session_minutes: int | None = None
    """Count only events of the session that somebody is in: it is over after so many minutes without an event that counts."""
    min_occurrences: int = 2
    """``most_frequent``: below that it has no value."""
    limit: int = 100
    """``unique_list``: values kept."""
    destinations: tuple[str, ...] = ()
    """Integration names that changes go to."""
    output: Output = "identify"
    collection: Whose = "users"
    """Whose trait it is: of the person that an event belongs to, or of the accounts that the event names in its context."""

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The one figure."""
        fold, window_days = _fold(self.kind, self.min_occurrences, self.limit), self.window_days
        if self.session_minutes is not None:
            fold, window_days = Sessions(fold, self.session_minutes * _MINUTE_MICROSECONDS), MAX_WINDOW_DAYS
        return (Measure(self.call, self.event, self.where, self.property, window_days, fold),)


class Expression(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of: ``all``, ``any``, ``not``, a ``trait``, a ``computed`` trait, or events (``event`` or ``call``)."""

    all: tuple[Expression, ...] | None = None
    any: tuple[Expression, ...] | None = None
    negated: Expression | None = msgspec.field(default=None, name="not")
    trait: str | None = None
    """Name of a trait, or a path with dots into it; ``is`` and ``value`` say what it has to be."""
    computed: str | None = None
    """Key of a computed trait; ``is`` and ``value`` likewise."""
    operator: Operator | None = msgspec.field(default=None, name="is")
    value: Scalar | tuple[Scalar, ...] | None = None
    event: str | None = None
    call: Call | None = None
    where: Where | None = None
    window_days: int | None = None
    at_least: int | None = None
    """Of these events; 1 unless ``at_most`` is given."""
    at_most: int | None = None


class Audience(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    dict=True,
    tag_field="class",
    tag="audience",
):
    """Profiles for which an expression holds."""

    key: str
    members: Expression
    name: str = ""
    destinations: tuple[str, ...] = ()
    output: Output = "identify"
    collection: Whose = "users"

    @cached_property
    def compiled(self) -> Compiled:
        """The expression, ready."""
        return Compiled(self.members)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """A count for each of its conditions on events, in the order in which they are written."""
        return self.compiled.measures


Definition = ComputedTrait | Audience


def read_definition(given: Any) -> Definition:
    """A definition from JSON or YAML values, checked.

    Raises:
        InvalidRequest: names what is wrong, and where (``invalid_computation``).
    """
    try:
        definition: Definition = msgspec.convert(given, Definition)
    except msgspec.ValidationError as error:
        raise wrong(str(error)) from None
    except RecursionError:
        raise wrong(f"it is nested deeper than {MAX_DEPTH} levels") from None
    for flawed in _flaws(definition):
        raise wrong(flawed)
    return definition


def check_audience(audience: Audience, traits: Mapping[str, ComputedTrait]) -> None:
    """Whether an audience can be used beside these computed traits.

    Raises:
        InvalidRequest: it reads one that is not there, or would hold everybody of whom nothing is known: no event would ever
            say who that is.
    """
    for key in sorted(audience.compiled.computed):
        if key not in traits:
            raise wrong(f"there is no computed trait {key!r}, which the audience {audience.key!r} reads")
        if traits[key].collection != audience.collection:
            raise wrong(
                f"the computed trait {key!r} is not of {audience.collection}, as the audience {audience.key!r} is"
            )
    blanks = {key: blank(traits[key]) for key in audience.compiled.computed}
    if audience.compiled.holds(Known((BLANK,) * len(audience.measures), {}, blanks)):
        raise wrong(
            f"the audience {audience.key!r} would hold everybody of whom nothing is known;"
            " ask for something beside what they did not do"
        )


def wrong(what: str) -> InvalidRequest:
    """The error for a definition that cannot be used."""
    return InvalidRequest(
        f"The computation cannot be used: {what}.",
        hint="docs/computed-traits.md has every field.",
        code="invalid_computation",
    )


def blank(definition: Definition) -> Any:
    """The value for somebody of whom nothing is known."""
    return False if isinstance(definition, Audience) else definition.measures[0].fold.value(None)


def _fold(kind: Kind, least: int, limit: int) -> Fold:
    folds: dict[str, Fold] = {
        "event_count": Count(),
        "sum": Sum(),
        "avg": Average(),
        "min": Extreme(min),
        "max": Extreme(max),
        "most_frequent": MostFrequent(least),
        "first": Moment(min),
        "last": Moment(max),
        "unique_list": UniqueList(limit),
        "unique_count": Distinct(),
    }
    return folds[kind]


def _flaws(definition: Definition) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", definition.key):
        yield "`key` has to be a letter, then letters, digits and underscores, 100 at most"
    if len(definition.name) > MAX_TEXT:
        yield f"`name` has more than {MAX_TEXT} characters"
    names = definition.destinations
    if len(names) > MAX_LIST or not all(1 <= len(name) <= MAX_TEXT for name in names) or "All" in names:
        yield f"`destinations` takes up to {MAX_LIST} names of integrations"
    if isinstance(definition, ComputedTrait):
        yield from _trait_flaws(definition)
    else:
        yield from _audience_flaws(definition)


def _trait_flaws(trait: ComputedTrait) -> Iterator[str]:
    yield from _event_flaws(trait.call, trait.event, trait.where, trait.window_days)
    if (trait.kind == "event_count") != (trait.property is None):
        yield (
            "`event_count` looks at no property"
            if trait.kind == "event_count"
            else f"`{trait.kind}` needs a `property`"
        )
    if trait.property is not None and not 1 <= len(trait.property) <= MAX_TEXT:
        yield f"`property` has to have 1 to {MAX_TEXT} characters"
    if trait.session_minutes is not None:
        least, most = SESSION_MINUTES
        if not least <= trait.session_minutes <= most:
            yield f"`session_minutes` has to be {least} to {most:,}"
        if trait.window_days is not None:
            yield "`session_minutes` and `window_days` exclude each other"
    if not 1 <= trait.min_occurrences <= MAX_COUNT:
        yield f"`min_occurrences` has to be 1 to {MAX_COUNT:,}"
    if not 1 <= trait.limit <= MAX_LIST:
        yield f"`limit` has to be 1 to {MAX_LIST}"


def _audience_flaws(audience: Audience) -> Iterator[str]:
    parts = 0
    pending = [(audience.members, 1)]
    while pending:
        part, depth = pending.pop()
        parts += 1
        if depth > MAX_DEPTH:
            yield f"it is nested deeper than {MAX_DEPTH} levels"
        if parts > MAX_PARTS:
            yield f"it has more than {MAX_PARTS} parts"
        yield from _part_flaws(part)
        inside = [*(part.all or ()), *(part.any or ()), *((part.negated,) if part.negated else ())]
        pending += [(each, depth + 1) for each in inside]


def _part_flaws(part: Expression) -> Iterator[str]:
    kinds = {
        "`all`": part.all is not None,
        "`any`": part.any is not None,
        "`not`": part.negated is not None,
        "`trait`": part.trait is not None,
        "`computed`": part.computed is not None,
        "`event`": part.event is not None or part.call is not None,
    }
    if sum(kinds.values()) != 1:
        yield f"each part of `members` is exactly one of {', '.join(kinds)}"
    if not (part.all or part.any or kinds["`not`"] or kinds["`trait`"] or kinds["`computed`"] or kinds["`event`"]):
        yield "`all` and `any` need at least one part"
    for name in (part.trait, part.computed):
        if name is not None and not 1 <= len(name) <= MAX_TEXT:
            yield f"the name of a trait has to have 1 to {MAX_TEXT} characters"
    if kinds["`trait`"] or kinds["`computed`"]:
        problem = "a condition on a trait needs `is`" if part.operator is None else flaw(part.operator, part.value)
        if problem:
            yield problem
    elif part.operator is not None or part.value is not None:
        yield "`is` and `value` belong to `trait` and `computed`; events have `where`, `at_least` and `at_most`"
    bounds = (part.at_least, part.at_most)
    if kinds["`event`"]:
        yield from _event_flaws(part.call or "track", part.event, part.where, part.window_days)
        if not all(bound is None or 0 <= bound <= MAX_COUNT for bound in bounds):
            yield f"`at_least` and `at_most` have to be 0 to {MAX_COUNT:,}"
        if None not in bounds and bounds[0] > bounds[1]:  # type: ignore[operator]
            yield "`at_least` is more than `at_most`"
    elif part.where is not None or part.window_days is not None or bounds != (None, None):
        yield "`where`, `window_days`, `at_least` and `at_most` belong to events"


def _event_flaws(call: Call, event: str | None, where: Where | None, window_days: int | None) -> Iterator[str]:
    if event is None and call == "track":
        yield "`event` is missing: the name of the track event"
    if event is not None and not 1 <= len(event) <= MAX_TEXT:
        yield f"`event` has to have 1 to {MAX_TEXT} characters"
    if event in RESERVED_EVENTS:
        yield f"{event!r} is what computations send; it cannot be counted"
    if window_days is not None and not 1 <= window_days <= MAX_WINDOW_DAYS:
        yield f"`window_days` has to be 1 to {MAX_WINDOW_DAYS}"
    if where is not None:
        conditions = (*where.all, *where.any)
        if len(conditions) > MAX_LIST:
            yield f"`where` has more than {MAX_LIST} conditions"
        for each in conditions:
            if not 1 <= len(each.property) <= MAX_TEXT:
                yield f"`property` has to have 1 to {MAX_TEXT} characters"
            if problem := flaw(each.operator, each.value):
                yield f"{problem} (in `where`, {each.property!r})"
