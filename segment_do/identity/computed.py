"""Computed traits and audiences, kept up to date in the transaction of the events that change them.

States are kept per external id and joined when a profile is looked at, so that joining and parting ids moves nothing: a value is a
function of the set of events, of who belongs together, and of the day. A profile is looked at when one of its events counts, when ids
came to it or left it, when a trait that an audience reads was set, and when a day falls out of a window or a session is over
(:meth:`Computed.sweep`).

What is told of a change never comes back in: it goes to the outbox, and the outbox is not read here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from segment_do.computed import (
    DAY_MICROSECONDS,
    Audience,
    Known,
    Measure,
    State,
    Whose,
    announcement,
    blank,
    read_properties,
)
from segment_do.events.record import Record
from segment_do.identity.computation import Computation, read_computations, read_space
from segment_do.identity.ids import Node
from segment_do.identity.profile import profile_id, profile_nodes
from segment_do.identity.rules import ACCOUNT_TYPES
from segment_do.identity.seen import message_keys

__all__ = ["EARLY_MICROSECONDS", "Computed"]

EARLY_MICROSECONDS: Final = 60_000_000
"""How far ahead of ours a replica's clock may be, for an event received before a definition to be counted once by its backfill."""
_SWEPT_PROFILES: Final = 200
"""Looked at in one step of :meth:`Computed.sweep`."""
_SWEPT_NODES: Final = 1_000
"""Whose states go in one step."""

_NOTHING: Final = ""
"""Kept as a value where a graph's facts may move: that what was told last says nothing. Elsewhere that is not kept."""

_Slot = tuple[Computation, int, Measure]
_SET_VALUE: Final = (
    "INSERT OR REPLACE INTO computed_value (computation, node, value, updated_at, until) VALUES (?, ?, ?, ?, ?)"
)
_UPSERT: Final = "INSERT OR REPLACE INTO computed_state (computation, node, part, day, state) VALUES (?, ?, ?, ?, ?)"


class _Slots:
    """Which measures an event counts for."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str | None], list[_Slot]] = defaultdict(list)
        self._of_any_name: dict[str, list[_Slot]] = defaultdict(list)

    def add(self, slot: _Slot) -> None:
        measure = slot[2]
        if measure.event is None:
            self._of_any_name[measure.call].append(slot)
        else:
            self._by_name[measure.call, measure.event].append(slot)

    def of(self, record: Record) -> tuple[_Slot, ...]:
        return (*self._by_name.get((record.type, record.event), ()), *self._of_any_name.get(record.type, ()))


class Computed:
    """The tables ``computed_*``. A batch: :meth:`stage`, :meth:`write`, then :meth:`clear`, whether it is durable or undone."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.moves = False
        """Whether ids may move to another graph with what was told of them."""
        self.load()

    def load(self) -> None:
        """Read the definitions, after they changed."""
        self.all: list[Computation] = read_computations(self._connection)
        self._dropped = self._connection.execute("SELECT 1 FROM computation WHERE dropped").fetchone() is not None
        self.active = bool(self.all)
        """Whether there are any; nothing needs to be called where there are none."""
        self._swept_on: int | None = None
        """The day on which a sweep found nothing more to do."""
        self._slots: dict[Whose, _Slots] = {"users": _Slots(), "accounts": _Slots()}
        self._of: dict[Whose, set[int]] = {"users": set(), "accounts": set()}
        for each in self.all:
            self._of[each.definition.collection].add(each.number)
        self.of_accounts = bool(self._of["accounts"])
        """Whether some are of accounts; nobody needs to say which events name them where none are."""
        self._numbers = {each.number for each in self.all}
        self._of_traits: dict[Whose, set[int]] = {"users": set(), "accounts": set()}
        self._readers: dict[int, set[int]] = defaultdict(set)
        numbers = {each.definition.key: each.number for each in self.all}
        for each in self.all:
            for part, measure in enumerate(each.definition.measures):
                self._slots[each.definition.collection].add((each, part, measure))
            if isinstance(each.definition, Audience):
                if each.definition.compiled.traits:
                    self._of_traits[each.definition.collection].add(each.number)
                for key in each.definition.compiled.computed:
                    self._readers[numbers[key]].add(each.number)
        self._space = read_space(self._connection)
        self.over_at = self._first_over()
        """When the next session is over, microseconds since the epoch; may be earlier than it is."""
        self.clear()

    def clear(self) -> None:
        """The batch is over, either way."""
        self._states: dict[tuple[int, int, int, int], tuple[Measure, State]] = {}
        self._due: dict[int, set[int]] = {}
        self._triggers: dict[int, str] = {}
        self._early: list[tuple[int, bytes]] = []

    def stage(self, events: Iterable[tuple[Record, Node]], now: int, collection: Whose = "users") -> None:
        """Count new events, each with the external id that it belongs to, or with an account that it names."""
        today = now // DAY_MICROSECONDS
        of, of_traits = self._slots[collection].of, self._of_traits[collection]
        sets_traits = "identify" if collection == "users" else "group"
        for record, owner in events:
            slots = of(record)
            if slots:
                self._count(record, owner.node, slots, today)
            elif record.type == sets_traits and of_traits:
                self._touch(owner.node, of_traits, record)

    def counts(self, record: Record, collection: Whose) -> bool:
        """Whether anything computed of this collection may count an event."""
        return bool(self._slots[collection].of(record))

    def fill(
        self, computation: Computation, records: Sequence[Record], owners: Callable[[Record], Iterable[Node]], now: int
    ) -> int:
        """Count events of before a definition for it alone; returns how many. Events that it counted as they came are left out.

        ``owners``: the external id that an event belongs to, or the accounts that it names.
        """
        counted = 0
        for record, key in zip(records, message_keys(records), strict=True):
            if record.received_at >= computation.since + EARLY_MICROSECONDS:
                continue
            slots = [
                slot
                for slot in self._slots[computation.definition.collection].of(record)
                if slot[0].number == computation.number
            ]
            if (
                not slots
                or self._connection.execute(
                    "SELECT 1 FROM computed_early WHERE computation = ? AND key = ?", (computation.number, key)
                ).fetchone()
            ):
                continue
            for node in owners(record):
                counted += self._count(record, node.node, slots, now // DAY_MICROSECONDS, early=False)
        self._store()
        return counted

    def write(self, moved: Iterable[int], left: Iterable[int], trigger: str, now: int) -> list[Record]:
        """Inside the batch's transaction, when all else is written: store states, look at every profile concerned.

        ``moved``: nodes that have another profile now, or one of another name. ``left``: nodes that named a profile which some
        left. ``trigger``: the message id that changes are told with where no event of the profile's own made them. Returns what is
        told of the changes.
        """
        self._store()
        for node in (*moved, *left):
            self._due[node] = self._numbers
        return self._look(trigger, now)

    def sweep(self, now: int) -> tuple[list[Record], bool]:
        """Inside a transaction: one bounded step of what no event brings about; returns what is told, and whether that was all."""
        today = now // DAY_MICROSECONDS
        if not self.is_due(now):
            return [], True
        if self._end_sessions(now) or self._drop() or self._walk() or self._expire(today):
            return self._look(f"sweep-{now}", now), False
        self._swept_on = today
        return [], True

    def is_due(self, now: int) -> bool:
        """Whether :meth:`sweep` may find something."""
        if self.over_at is not None and self.over_at < now:
            return True
        return (self.active or self._dropped) and self._swept_on != now // DAY_MICROSECONDS

    def adopt(
        self,
        states: Sequence[tuple[str, int, int, int, str]],
        values: Sequence[tuple[str, int, str, int]],
        unknown: str,
    ) -> None:
        """Inside a transaction, before anything of it is staged: add what another graph counted, (meaning, node, part, day, state), and
        told, (meaning, node, value, when), by the definitions that are here, too. Where both told something else of a node,
        ``unknown`` is kept.
        """
        known = {each.meaning: each for each in self.all}
        for meaning, node, part, day, state in states:
            if meaning in known:
                measure = known[meaning].definition.measures[part]
                self._states[known[meaning].number, node, part, day] = (measure, json.loads(state))
        self._store()
        for meaning, node, value, updated_at in values:
            if meaning in known:
                held = self._held(known[meaning], node)
                self._connection.execute(
                    _SET_VALUE,
                    (known[meaning].number, node, value if held in (None, value) else unknown, updated_at, None),
                )

    # Counting.

    def _count(self, record: Record, node: int, slots: Sequence[_Slot], today: int, *, early: bool = True) -> bool:
        properties = read_properties(record.payload)
        counted: set[int] = set()
        for computation, part, measure in slots:
            bucket = measure.bucket(record.timestamp)
            state = measure.contribution(record, properties) if measure.counts(bucket, today) else None
            if state is None:
                continue
            place = (computation.number, node, part, bucket)
            before = self._states.get(place)
            self._states[place] = (measure, state if before is None else measure.fold.join(before[1], state))
            counted.add(computation.number)
            if early and computation.filling and record.received_at < computation.since + EARLY_MICROSECONDS:
                self._early.append((computation.number, message_keys([record])[0]))
        if counted:
            self._touch(node, counted, record)
        return bool(counted)

    def _touch(self, node: int, numbers: Collection[int], record: Record) -> None:
        self._due.setdefault(node, set()).update(numbers)
        self._triggers[node] = record.message_id

    def _store(self) -> None:
        rows = []
        for place, (measure, state) in self._states.items():
            held = self._connection.execute(
                "SELECT state FROM computed_state WHERE computation = ? AND node = ? AND part = ? AND day = ?", place
            ).fetchone()
            joined = state if held is None else measure.fold.join(json.loads(held[0]), state)
            rows.append((*place, json.dumps(joined, separators=(",", ":"))))
        self._connection.executemany(_UPSERT, rows)
        self._connection.executemany("INSERT OR IGNORE INTO computed_early VALUES (?, ?)", self._early)
        self._states, self._early = {}, []

    # Looking at profiles.

    def _look(self, trigger: str, now: int) -> list[Record]:
        profiles: dict[int, tuple[int, set[int], str]] = {}
        for node, numbers in self._due.items():
            root, canonical, kind = self._connection.execute(
                "SELECT profile, coalesce(canonical, node), kind FROM external_id LEFT JOIN profile ON root = profile"
                " WHERE node = ?",
                (node,),
            ).fetchone()
            due = profiles[root][1] if root in profiles else set()
            wanted = self._of["accounts" if kind in ACCOUNT_TYPES else "users"].intersection(numbers)
            due.update(wanted, *(self._readers.get(number, ()) for number in wanted))
            profiles[root] = (
                canonical,
                due,
                self._triggers.get(node) or (profiles[root][2] if root in profiles else trigger),
            )
        self._due, self._triggers = {}, {}
        told: list[Record] = []
        for root, (canonical, due, cause) in sorted(profiles.items()):
            nodes = profile_nodes(self._connection, root)
            for computation in self.all:
                if computation.number in due and not computation.filling:
                    value, until = self._value(computation, nodes, canonical, now)
                    if self._changed(computation, canonical, value, until, now):
                        told.append(self._told(computation, nodes, canonical, value, cause, now))
        return told

    def _value(
        self, computation: Computation, nodes: Sequence[int], canonical: int, now: int
    ) -> tuple[Any, int | None]:
        """And when it will be another one without an event, where it is of a session."""
        definition, today = computation.definition, now // DAY_MICROSECONDS
        states: list[list[State]] = [[] for _ in definition.measures]
        for node in nodes if states else ():
            for part, day, state in self._connection.execute(
                "SELECT part, day, state FROM computed_state WHERE computation = ? AND node = ?",
                (computation.number, node),
            ):
                if definition.measures[part].counts(day, today):
                    states[part].append(json.loads(state))
        joined = [measure.joined(states[part]) for part, measure in enumerate(definition.measures)]
        if not isinstance(definition, Audience):
            measure = definition.measures[0]
            state, until = measure.current(joined[0], now)
            return measure.fold.value(state), until
        known = Known(
            [state or 0 for state in joined],
            self._traits(nodes, definition.compiled.traits),
            self._computed(canonical, definition.compiled.computed),
        )
        return definition.compiled.holds(known), None

    def _traits(self, nodes: Sequence[int], names: Collection[str]) -> Mapping[str, Any]:
        newest: dict[str, tuple[int, str, str]] = {}
        for name in names:
            for node in nodes:
                written = self._connection.execute(
                    "SELECT timestamp, message_id, value FROM trait WHERE node = ? AND name = ?", (node, name)
                ).fetchone()
                if written is not None and (name not in newest or written > newest[name]):
                    newest[name] = written
        return {name: _decoded(written[2]) for name, written in newest.items()}

    def _computed(self, canonical: int, keys: Collection[str]) -> Mapping[str, Any]:
        # Traits come before audiences in every look, so what is told of them is what they are.
        return {
            each.definition.key: msgspec.json.decode(held) if held else blank(each.definition)
            for each in self.all
            if each.definition.key in keys
            for held in [self._held(each, canonical)]
        }

    def _held(self, computation: Computation, node: int) -> str | None:
        row = self._connection.execute(
            "SELECT value FROM computed_value WHERE computation = ? AND node = ?", (computation.number, node)
        ).fetchone()
        return None if row is None else str(row[0])

    def _changed(self, computation: Computation, node: int, value: Any, until: int | None, now: int) -> bool:
        """Keep a value; whether it is another one than was last told of the profile of this name.

        A node that names no profile any more keeps what was told of it: should it name one again, that is what there is to correct.
        """
        text = _NOTHING if value == blank(computation.definition) else _text(value)
        if text == _NOTHING:
            until = None
        elif until is not None:
            self.over_at = until if self.over_at is None else min(until, self.over_at)
        if text == (self._held(computation, node) or _NOTHING):
            if until is not None:
                self._connection.execute(
                    "UPDATE computed_value SET until = ? WHERE computation = ? AND node = ?",
                    (until, computation.number, node),
                )
            return False
        if text == _NOTHING and not self.moves:
            self._connection.execute(
                "DELETE FROM computed_value WHERE computation = ? AND node = ?", (computation.number, node)
            )
        else:
            self._connection.execute(_SET_VALUE, (computation.number, node, text, now, until))
        return True

    def _told(
        self, computation: Computation, nodes: Sequence[int], canonical: int, value: Any, cause: str, now: int
    ) -> Record:
        ids = [
            self._connection.execute("SELECT kind, value FROM external_id WHERE node = ?", (node,)).fetchone()
            for node in (canonical, *(node for node in nodes if node != canonical))
        ]
        return announcement(
            computation.definition,
            computation.computation_id,
            self._space,
            profile_id(*ids[0]),
            ids,
            _text(value),
            cause,
            now,
        )

    # What no event brings about, a bounded step at a time.

    def _first_over(self) -> int | None:
        (until,) = self._connection.execute("SELECT min(until) FROM computed_value WHERE until IS NOT NULL").fetchone()
        return None if until is None else int(until)

    def _end_sessions(self, now: int) -> bool:
        """Values of sessions that are over."""
        if self.over_at is None or self.over_at >= now:
            return False
        rows = self._connection.execute(
            "SELECT computation, node FROM computed_value WHERE until < ? ORDER BY until LIMIT ?",
            (now, _SWEPT_PROFILES),
        ).fetchall()
        for number, node in rows:
            self._due.setdefault(node, set()).add(number)
        # An id that names no profile any more has nobody look at its row: it is not to be found again.
        self._connection.executemany("UPDATE computed_value SET until = NULL WHERE computation = ? AND node = ?", rows)
        if not rows:
            self.over_at = self._first_over()
        return bool(rows)

    def _drop(self) -> bool:
        """States and values of a definition that is gone."""
        row = self._connection.execute("SELECT number FROM computation WHERE dropped LIMIT 1").fetchone()
        if row is None:
            self._dropped = False
            return False
        gone = 0
        for table in ("computed_state", "computed_value"):
            gone += self._connection.execute(
                f"DELETE FROM {table} WHERE computation = ?1 AND node <= (SELECT max(node) FROM"  # noqa: S608
                f" (SELECT node FROM {table} WHERE computation = ?1 ORDER BY node LIMIT {_SWEPT_NODES}))",
                row,
            ).rowcount
        if not gone:
            self._connection.execute("DELETE FROM computed_early WHERE computation = ?", row)
            self._connection.execute("DELETE FROM computation WHERE number = ?", row)
        return True

    def _walk(self) -> bool:
        """Profiles that a definition has not looked at since it changed."""
        for each in self.all:
            (cursor,) = self._connection.execute(
                "SELECT cursor FROM computation WHERE number = ?", (each.number,)
            ).fetchone()
            if cursor is None:
                continue
            statement = (
                "SELECT node FROM external_id WHERE node > ?2 ORDER BY node LIMIT ?3"
                if each.reads_profiles
                else "SELECT DISTINCT node FROM computed_state WHERE computation = ?1 AND node > ?2 ORDER BY node LIMIT ?3"
            )
            rows = self._connection.execute(statement, (each.number, cursor, _SWEPT_PROFILES)).fetchall()
            for (node,) in rows:
                self._due.setdefault(node, set()).add(each.number)
            self._connection.execute(
                "UPDATE computation SET cursor = ? WHERE number = ?", (rows[-1][0] if rows else None, each.number)
            )
            return True
        return False

    def _expire(self, today: int) -> bool:
        """Days that fell out of a window."""
        for each in self.all:
            for part, measure in enumerate(each.definition.measures):
                if measure.window_days is None:
                    continue
                last = today - measure.window_days
                rows = self._connection.execute(
                    "SELECT DISTINCT node FROM computed_state INDEXED BY computed_state_of_day"
                    " WHERE computation = ? AND part = ? AND day <> 0 AND day <= ? LIMIT ?",
                    (each.number, part, last, _SWEPT_PROFILES),
                ).fetchall()
                for (node,) in rows:
                    self._due.setdefault(node, set()).add(each.number)
                    self._connection.execute(
                        "DELETE FROM computed_state WHERE computation = ? AND node = ? AND part = ? AND day <= ?",
                        (each.number, node, part, last),
                    )
                if rows:
                    return True
        return False


def _decoded(trait: str) -> Any:
    """A trait's value; None where it cannot be read, such as a number larger than any: it was never decoded before."""
    try:
        return msgspec.json.decode(trait)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
