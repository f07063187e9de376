"""Which of an event's ids are joined, and what becomes of a set of events: Segment's rules as pure functions.

The rule (Unify, "conflict demotion"): all profiles that hold one of the event's ids become one with them. Where that would hold more values of a
type than its limit, the event's id of lowest priority is left out, and the rest is tried again.

In the order of the events' times this makes a result that is a function of the events alone. Two facts keep it cheap. While the ids that
events ever brought together keep within all limits, nothing is left out in any order, and the result is simply all of them. And under limits
that hold for ever only the first event with a given set of ids can change anything: profiles grow, so what was refused once is refused later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from segment_do.identity.rules import MAX_IDS, Rules

__all__ = ["Bond", "Decided", "Group", "decide", "fits", "replay"]

Id = tuple[str, str]
"""Type and value."""


class Bond(NamedTuple):
    """The first event that brought these ids together."""

    timestamp: int
    message_id: str
    ids: tuple[Id, ...]
    """Sorted by priority, the highest first."""
    forced: bool = False
    """Joined by hand or by an alias that merges: whatever the limits say."""
    number: int = 0
    """Whatever the caller knows it by; grows with arrival."""


class Group:
    """Ids that are one profile."""

    __slots__ = ("counts", "ids", "joined")

    def __init__(self, ids: Iterable[Id]) -> None:
        self.ids = list(ids)
        self.counts: dict[str, int] = {}
        self.joined: list[tuple[int, str]] = []
        """When ids of types with a window joined."""
        for kind, _value in self.ids:
            self.counts[kind] = self.counts.get(kind, 0) + 1


class Decided(NamedTuple):
    """What came of one bond."""

    bond: Bond
    accepted: int
    """So many of its ids, from the first, are one profile."""
    merged: int
    """So many profiles became one by it; 1 where they were one already."""


def fits(groups: Sequence[Group], rules: Rules, timestamp: int) -> bool:
    """Whether these groups may become one at this time."""
    total: dict[str, int] = {}
    for group in groups:
        for kind, count in group.counts.items():
            total[kind] = total.get(kind, 0) + count
    if sum(total.values()) > MAX_IDS:
        return False
    for kind, count in total.items():
        limit = rules.limit(kind)
        if count > limit:
            window = rules.window(kind)
            if not window:
                return False
            past = sum(1 for group in groups for at, of in group.joined if of == kind and not timestamp - window < at)
            if count - past > limit:
                return False
    return True


def decide(groups: Sequence[Group], rules: Rules, timestamp: int) -> int:
    """How many of a bond's ids are joined, from the first; ``groups`` are those of its ids, in the same order."""
    for count in range(len(groups), 1, -1):
        distinct = list({id(group): group for group in groups[:count]}.values())
        if len(distinct) == 1 or fits(distinct, rules, timestamp):
            return count
    return 1


def replay(bonds: Iterable[Bond], rules: Rules) -> tuple[dict[Id, Group], list[Decided]]:
    """The groups that bonds make, by id, and what came of each bond, in the order in which they count."""
    ordered = sorted(bonds, key=_arrival if rules.order == "arrival" else _time)
    groups: dict[Id, Group] = {}
    decided = []
    for bond in ordered:
        found = [groups.get(each) or groups.setdefault(each, Group([each])) for each in bond.ids]
        accepted = len(found) if bond.forced else decide(found, rules, bond.timestamp)
        distinct = list({id(group): group for group in found[:accepted]}.values())
        decided.append(Decided(bond, accepted, len(distinct)))
        if len(distinct) > 1:
            join(distinct, groups, rules, bond.timestamp)
    return groups, decided


def join(distinct: Sequence[Group], groups: dict[Id, Group], rules: Rules, timestamp: int) -> Group:
    """Make groups one: the largest takes the others' ids."""
    target = max(distinct, key=lambda group: len(group.ids))
    for group in distinct:
        if rules.windowed and len(group.ids) == 1 and not group.joined:
            group.joined = [(timestamp, kind) for kind, _value in group.ids]
        if group is not target:
            target.ids += group.ids
            target.joined += group.joined
            for kind, count in group.counts.items():
                target.counts[kind] = target.counts.get(kind, 0) + count
            for each in group.ids:
                groups[each] = target
    return target


def _time(bond: Bond) -> tuple[object, ...]:
    return bond.timestamp, bond.message_id, bond.ids


def _arrival(bond: Bond) -> tuple[object, ...]:
    return (bond.number,)


def canonical(ids: Iterable[Id], rules: Rules) -> Id:
    """The id that a profile hangs on: the highest priority, then the smallest value. A function of the ids alone."""
    return min(ids, key=lambda each: (rules.rank(each[0]), each[1]))
