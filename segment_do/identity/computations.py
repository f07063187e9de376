"""Which computed traits and audiences an identity has: the table ``computation``.

A definition that counts differently from its forerunner gets a number of its own and begins anew; the forerunner's states go in
bounded steps, later. One that only has another name, destinations or output goes on where it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from segment_do.computed import (
    DAY_MICROSECONDS,
    MAX_DEFINITIONS,
    Audience,
    ComputedTrait,
    Definition,
    check_audience,
    wrong,
)
from segment_do.errors import Conflict, InvalidRequest, NotFound
from segment_do.identity.audit import write_audit
from segment_do.identity.computation import Computation, Declared, counted, read_computations
from segment_do.identity.database import Database
from segment_do.identity.packs import decode_packs
from segment_do.identity.resolution import Resolution

__all__ = ["Computations"]


class Computations:
    """Those of one graph. Every method raises StorageFailed, CorruptData and OwnershipLost as :meth:`.graph.Graph.apply` does."""

    def __init__(self, database: Database, resolution: Resolution, clock: Callable[[], int]) -> None:
        self._database = database
        self._resolution = resolution
        self._clock = clock

    def all(self) -> list[Computation]:
        """Computed traits and audiences, traits first, each by key."""
        with self._database.reading() as connection:
            return read_computations(connection)

    @property
    def filling(self) -> bool:
        """Whether one of them is still to count events of before."""
        return any(each.filling for each in self._resolution.computed.all)

    def due_at(self, now: int) -> int | None:
        """When values may change next without an event, where all that is due by now has been looked at; None: never. Microseconds."""
        computed = self._resolution.computed
        measures = (measure for each in computed.all for measure in each.definition.measures)
        if not any(measure.window_days is not None for measure in measures):
            return None
        midnight = (now // DAY_MICROSECONDS + 1) * DAY_MICROSECONDS
        over_at = computed.over_at
        return midnight if over_at is None else min(midnight, over_at + 1)

    def put(self, definition: Definition, by: str, *, backfill: bool = False) -> None:
        """Add a computed trait or an audience, or put it in the place of the one with its key.

        It counts events from now on. With ``backfill`` nothing is told of its values until :meth:`backfill` has counted those of
        before; an audience that counts no events has nothing to wait for. Profiles that it concerns at once are looked at by :meth:`.graph.Graph.maintain`.

        Raises:
            InvalidRequest: it does not go with the others, or there are too many (``invalid_computation``).
            Conflict: there is one of its key that the settings declare.
        """
        now = self._clock()
        self._check_shards(backfill)
        with self._database.transaction() as connection:
            _check_undeclared(connection, definition.key)
            _put(connection, definition, now, filling=backfill and bool(definition.measures))
            told = msgspec.to_builtins(definition)
            write_audit(connection, now, "computation", definition=told, backfill=backfill, by=by)
        self._resolution.computed.load()

    def delete(self, key: str, by: str) -> None:
        """Take a computed trait or an audience away. Nothing more is told of it; what it counted goes in :meth:`.graph.Graph.maintain`.

        Raises:
            NotFound: there is none of this key.
            InvalidRequest: an audience reads it (``computation_in_use``).
            Conflict: the settings declare it.
        """
        with self._database.transaction() as connection:
            _check_undeclared(connection, key)
            _drop(connection, key)
            write_audit(connection, self._clock(), "computation deleted", key=key, by=by)
        self._resolution.computed.load()

    def declare(self, wanted: Sequence[Declared]) -> list[str]:
        """Have what the settings declare, and nothing more that they declared before; returns what could not be done, in sentences.

        What was set by hand stays, and keeps its key. One that is here already stays as it is, also where it is to count events of before.
        """
        held = {each.definition.key: each for each in self.all()}
        told = [
            f"The computation {each.definition.key!r} of the settings is not used: one of this key was set by hand; delete it first."
            for each in wanted
            if each.definition.key in held and not held[each.definition.key].declared
        ]
        wanted = [each for each in wanted if each.definition.key not in held or held[each.definition.key].declared]
        keys = {each.definition.key for each in wanted}
        gone = [key for key, each in held.items() if each.declared and key not in keys]
        new = [
            each
            for each in wanted
            if each.definition.key not in held or held[each.definition.key].definition != each.definition
        ]
        if not gone and not new:
            return told
        now = self._clock()
        with self._database.transaction() as connection:
            changes: list[Callable[[], None]] = [
                # Audiences first, then what they may read; afterwards the other way round.
                *(partial(_undeclare, connection, key, now) for key in reversed(gone)),
                *(
                    partial(self._declare, connection, each, held.get(each.definition.key), now)
                    for each in sorted(new, key=lambda each: isinstance(each.definition, Audience))
                ),
            ]
            # What does not go now may go when the rest is done: a trait that an audience read before, say.
            changes = [each for each in changes if _refused(each)]
            told += [refused for each in changes if (refused := _refused(each))]
        self._resolution.computed.load()
        return told

    def aim(self, computation_id: str, target: int) -> None:
        """Say at which position the events of before a computation end: what is at it, or behind it, need not be given.

        Raises:
            NotFound: there is no such computation any more.
        """
        with self._database.transaction() as connection:
            found = self._found(computation_id)
            connection.execute("UPDATE computation SET target = ? WHERE number = ?", (target, found.number))

    def backfill(
        self, computation_id: str, packs: list[tuple[bytes, int]], *, position: int, last: bool = False
    ) -> int:
        """Count events of before a definition, for it alone; returns how many counted.

        Events are given in one order, in any parts; ``position`` grows from part to part and is the caller's own (a log's offset). A
        part up to a position that was counted before changes nothing, so a caller that died goes on after ``Computation.filled``, or
        begins anew. Events that the definition counted as they came are left out. After the ``last`` part
        :meth:`.graph.Graph.maintain` tells of the values.

        Raises:
            NotFound: there is no such computation any more; one with its key that counts otherwise is another.
            InvalidRequest: it was set without ``backfill`` (``not_filling``).
        """
        computed = self._resolution.computed
        found = self._found(computation_id)
        if position <= found.filled:
            return 0
        if not found.filling:
            raise InvalidRequest(f"The computation {found.definition.key!r} is not being filled.", code="not_filling")
        records = decode_packs(packs)
        try:
            with self._database.transaction() as connection:
                counted = self._resolution.fill(found, records, self._clock())
                connection.execute("UPDATE computation SET filled = ? WHERE number = ?", (position, found.number))
                if last:
                    _end_filling(connection, found)
        except BaseException:
            computed.clear()
            raise
        computed.load()
        return counted

    def _declare(self, connection: sqlite3.Connection, wanted: Declared, held: Computation | None, now: int) -> None:
        definition = wanted.definition
        self._check_shards(wanted.backfill)
        filling = wanted.backfill and (held is None or counted(held.definition) != counted(definition))
        _put(connection, definition, now, filling=filling and bool(definition.measures), declared=True)
        told = msgspec.to_builtins(definition)
        write_audit(connection, now, "computation", definition=told, backfill=filling, by="settings")

    def _check_shards(self, backfill: bool) -> None:
        if (
            backfill and self._resolution.shard is not None
        ):  # an id may move to a shard that has counted more than the one it came from, or less
            raise wrong("an identity that is laid out over several graphs cannot count events of before yet")

    def _found(self, computation_id: str) -> Computation:
        found = next((each for each in self.all() if each.computation_id == computation_id), None)
        if found is None:
            raise NotFound(f"There is no computation {computation_id!r}.")
        return found


def _put(
    connection: sqlite3.Connection, definition: Definition, now: int, *, filling: bool, declared: bool = False
) -> None:
    """Inside a transaction: add a definition, or put it in the place of the one with its key.

    Raises:
        InvalidRequest: it does not go with the others, or there are too many (``invalid_computation``).
    """
    others = {each.definition.key: each for each in read_computations(connection)}
    before = others.pop(definition.key, None)
    if len(others) >= MAX_DEFINITIONS:
        raise wrong(f"there are {MAX_DEFINITIONS} already; delete one first")
    definitions = [*(each.definition for each in others.values()), definition]
    traits = {each.key: each for each in definitions if isinstance(each, ComputedTrait)}
    for each in definitions:
        if isinstance(each, Audience):
            check_audience(each, traits)
    body = msgspec.json.encode(definition).decode()
    if before is not None and not filling and counted(before.definition) == counted(definition):
        connection.execute("UPDATE computation SET body = ? WHERE number = ?", (body, before.number))
        return
    if before is not None:
        connection.execute("UPDATE computation SET dropped = 1 WHERE number = ?", (before.number,))
        # Audiences that read it read another one now: theirs is a new look at every profile.
        for other in others.values():
            if isinstance(other.definition, Audience) and definition.key in other.definition.compiled.computed:
                connection.execute("UPDATE computation SET cursor = 0 WHERE number = ?", (other.number,))
    cursor = 0 if Computation("", definition, 0, False, 0).reads_profiles and not filling else None
    connection.execute(
        "INSERT INTO computation (key, body, since, filling, cursor, declared) VALUES (?, ?, ?, ?, ?, ?)",
        (definition.key, body, now, filling, cursor, declared),
    )


def _drop(connection: sqlite3.Connection, key: str) -> None:
    """Inside a transaction: take a definition away. Nothing is told of it any more.

    Raises:
        NotFound: there is none of this key.
        InvalidRequest: an audience reads it (``computation_in_use``).
    """
    known = read_computations(connection)
    for each in known:
        if isinstance(each.definition, Audience) and key in each.definition.compiled.computed:
            raise InvalidRequest(
                f"The audience {each.definition.key!r} reads the computed trait {key!r}.",
                hint="Change or delete the audience first.",
                code="computation_in_use",
            )
    changed = connection.execute("UPDATE computation SET dropped = 1 WHERE key = ? AND NOT dropped", (key,))
    if not changed.rowcount:
        raise NotFound(f"There is no computation {key!r}.")


def _undeclare(connection: sqlite3.Connection, key: str, now: int) -> None:
    _drop(connection, key)
    write_audit(connection, now, "computation deleted", key=key, by="settings")


def _refused(change: Callable[[], None]) -> str | None:
    """Make a change, which checks before it writes; why it cannot be made."""
    try:
        change()
    except InvalidRequest as error:
        return error.message
    return None


def _check_undeclared(connection: sqlite3.Connection, key: str) -> None:
    row = connection.execute("SELECT declared FROM computation WHERE key = ? AND NOT dropped", (key,)).fetchone()
    if row is not None and row[0]:
        raise Conflict(
            f"The settings declare the computation {key!r}.",
            hint="Change it in the file that identity.computations_file names; it holds after a restart.",
        )


def _end_filling(connection: sqlite3.Connection, computation: Computation) -> None:
    """Inside a transaction: all events of before are counted; every profile is to be looked at."""
    connection.execute("UPDATE computation SET filling = 0, cursor = 0 WHERE number = ?", (computation.number,))
    connection.execute("DELETE FROM computed_early WHERE computation = ?", (computation.number,))
