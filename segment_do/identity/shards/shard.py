"""One shard of an identity: which of what comes is applied here, what goes to other shards, and what moves there for good.

A step is one transaction of the graph: events that came first to this shard, deduplicated, and letters of other shards. Each event is
applied where the tree of its smallest id lies, so that all ids that events ever brought together end up in one graph, and that graph
decides by itself, by the rules of a graph that has everything. Ids that an event brings together are linked; a tree that was linked to
one of another shard moves there. Whatever arrives late is passed on to where its tree has gone.

When all letters have arrived, the profiles are those that one graph would have made of the same events. Until then a profile may lack
what is still on its way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from segment_do.errors import SettingsError
from segment_do.events.record import NOT_EVENTS, Record
from segment_do.identity.database import Database
from segment_do.identity.decision import Id
from segment_do.identity.identifiers import Identifiers
from segment_do.identity.ids import Node, Unusable
from segment_do.identity.resolution import Resolution
from segment_do.identity.shards.facts import pack_up, remove, take_in
from segment_do.identity.shards.layout import Layout, order
from segment_do.identity.shards.letters import (
    Absorb,
    AccountCall,
    Cause,
    Envelope,
    Event,
    Link,
    Shorten,
    decode_letters,
)
from segment_do.identity.shards.post import Post
from segment_do.identity.shards.trees import Trees
from segment_do.identity.traits import read_previous_id

__all__ = ["Shard", "previous_id"]

_SHORTENED_FROM = 2
"""Shards that an event was passed on over, from which on its id is linked to its root at once."""


class Shard:
    """Beside one graph. A step: :meth:`begin`, the graph's own part, :meth:`settle`, :meth:`end`; then :meth:`commit` or :meth:`rollback`.

    Raises:
        SettingsError: the file was begun under another layout.
    """

    def __init__(self, database: Database, name: str, layout: Layout, resolution: Resolution) -> None:
        self.layout = layout
        self._database = database
        self._resolution = resolution
        with database.reading() as connection:
            _prepare(connection, layout)
            self.trees = Trees(connection, layout, name)
            self._connection = connection
        resolution.bonds.number_from(self.next_bond)
        resolution.computed.moves = True
        self.post = Post(database, name)
        self._clear()

    @property
    def next_bond(self) -> int:
        """Bonds are numbered from here on: those below were here, or are."""
        (last,) = self._connection.execute("SELECT last_bond FROM shard").fetchone()
        return int(last) + 1

    def begin(
        self, fresh: Sequence[Record], insides: Sequence[Identifiers | None], letters: Sequence[Envelope]
    ) -> tuple[list[Record], list[Identifiers | None]]:
        """Take in letters, and pass on what belongs elsewhere; returns the events that are to be applied here, and what is inside
        them. ``insides``: what is inside the fresh ones.
        """
        for record, inside in zip(fresh, insides, strict=True):
            self._route(record, inside)
        for body in self.post.take(self._connection, letters):
            came = decode_letters(body)
            events = [letter.record for letter in came if isinstance(letter, Event)]
            read = iter(self._resolution.read(events))
            for letter in came:
                if isinstance(letter, Event):
                    self._route(letter.record, next(read), letter)
                elif isinstance(letter, Link):
                    self._links.append(letter)
                elif isinstance(letter, Absorb):
                    self._absorb(letter)
                elif isinstance(letter, AccountCall):
                    self._account(letter)
                else:
                    self.trees.shorten(letter.child, letter.root)
        return self._here, self._insides

    def settle(self) -> None:
        """The events are applied and written: their ids lie here, and are linked."""
        links = self._links
        find = self._resolution.find
        for record, ids, at in self._unsettled:
            nodes = [node for each in ids if (node := find(*each)) is not None]
            links += self.trees.settle(nodes, at, record)
        for link in links:
            self.trees.join(link)

    def hold(self, nodes: Sequence[Node]) -> None:
        """Ids that lie here were joined by hand: from now on they move together."""
        held = self.trees.held(nodes[0])
        if held is not None:
            self.trees.settle(nodes, held.root, None)

    def bring(self, one: Id, other: Id, now: int) -> None:
        """Link two ids for no event's sake."""
        self.trees.join(Link(one, other, Cause("", "manual", "", None, now, now)))

    def end(self) -> None:
        """What became of ids is told: trees that were linked elsewhere go there, and all letters are written."""
        for tree, at, cause in self.trees.leaving:
            nodes = self.trees.residents(tree)
            if nodes:
                packed = pack_up(self._connection, self._resolution, nodes)
                remove(self._connection, self._resolution, nodes)
                self.trees.post(at, Absorb(at, packed, cause))
            self.trees.leave(tree)
        self.post.write(self._connection, self.trees.letters)

    def commit(self) -> None:
        """The step's transaction is durable."""
        self.trees.clear()
        self.post.commit()
        self._clear()

    def rollback(self) -> None:
        """The step's transaction is undone."""
        self.trees.clear(undone=True)
        self._clear()

    @property
    def cause(self) -> Record | None:
        """What is told of ids that moved here with no event, and of accounts, is told with this one."""
        return self._cause

    # For the graph's own part of a step.

    def keeps(self, account: Id) -> bool:
        """Whether the profile of an account lies here."""
        return self.trees.is_ours(account)

    def send_account(self, account: Id, member: Node | None, traits: dict[str, str], record: Record) -> None:
        """Tell the shard of an account what an event says of it."""
        named = None if member is None else (member.kind, member.value)
        counted = record if self._resolution.computed.counts(record, "accounts") else None
        self.trees.post(account, AccountCall(account, named, traits, Cause.of(record), counted))

    def generation(self, node: Node) -> int:
        """How often the facts of an id came from another shard: what is told of it in a higher generation is later."""
        row = self._connection.execute("SELECT generation FROM resident WHERE node = ?", (node.node,)).fetchone()
        return 0 if row is None else int(row[0])

    def previous_kind(self, record: Record) -> str | None:
        """Of an alias that merges: the type of its previous id."""
        return self._previous.get(record.message_id)

    # For readers.

    def elsewhere(self, named: Id | str) -> tuple[Id, Id] | None:
        """Where to ask about an id, or a profile id, that this shard owns and another has: (the id itself, an id that the other owns)."""
        if isinstance(named, str):
            found = self.trees.linked(named)
            if found is None:
                return None
            named = found
        root = self.trees.root(named)
        return None if self.trees.is_ours(root) else (named, root)

    def facts(self, one: Id) -> bytes:
        """All that is known of an id that lies here, and of those that lie in its tree."""
        node = self._resolution.node(*one)
        assert node is not None
        with self._database.reading() as connection:
            held = self.trees.held(node)
            nodes = [node.node] if held is None else self.trees.residents(held)
            return pack_up(connection, self._resolution, nodes)

    def _clear(self) -> None:
        self._here: list[Record] = []
        self._insides: list[Identifiers | None] = []
        self._unsettled: list[tuple[Record, list[Id], Id]] = []
        self._links: list[Link] = []
        self._previous: dict[str, str] = {}
        self._cause: Record | None = None

    def _route(self, record: Record, inside: Identifiers | None, letter: Event | None = None) -> None:
        if record.type in NOT_EVENTS or self._lies_here(record, inside):
            self._apply(record, inside)
            return
        ids = self._resolution.ids(record, inside)
        at = None if letter is None else letter.at
        previous = None if letter is None else letter.previous
        if record.type == "alias" and ids and self._resolution.rules.alias == "merge":
            other = previous_id(record)
            if other is not None and previous is None:
                at = None
                asked = ("user_id", self._resolution.rules.accepted("user_id", other) or other)
                oneself = asked in ids  # a user whom the event itself makes known
                if not oneself and not self.trees.is_ours(asked):
                    self.trees.post(asked, Event(record, asked, asked, 1))
                    return
                known = oneself or self.trees.root(asked) != asked or self._resolution.node(*asked) is not None
                previous = "user_id" if known else "anonymous_id"
            if other is not None and previous is not None:
                self._previous[record.message_id] = previous
                accepted = self._resolution.rules.accepted(previous, other)
                if accepted is not None:
                    ids.append((previous, accepted))
        if not ids:
            self._apply(record, inside)
            return
        first = min(ids, key=order) if at is None else at
        root = self.trees.root(first)
        hops = 0 if letter is None else letter.hops
        begun = first if letter is None or at is None else letter.first
        if not self.trees.is_ours(root):
            self.trees.post(root, Event(record, root, begun, hops + 1, previous))
            return
        if hops >= _SHORTENED_FROM and not self.trees.is_ours(begun):
            self.trees.post(begun, Shorten(begun, root))
        self._apply(record, inside)
        self._unsettled.append((record, ids, root))

    def _lies_here(self, record: Record, inside: Identifiers | None) -> bool:
        """Whether all ids of an event are known to lie in one tree of ours, as those of most events do: nothing has to be linked."""
        nodes = None if record.type == "alias" else self._resolution.recall(record, inside)
        if not nodes:
            return False
        tree = self.trees.held(nodes[0])
        return tree is not None and all(self.trees.held(node) is tree for node in nodes)

    def _apply(self, record: Record, inside: Identifiers | None) -> None:
        self._here.append(record)
        self._insides.append(inside)

    def _absorb(self, letter: Absorb) -> None:
        root = self.trees.root(letter.at)
        if not self.trees.is_ours(root):
            self.trees.post(root, Absorb(root, letter.facts, letter.cause))
            return
        nodes = take_in(self._connection, self._resolution, letter.facts)
        self.trees.settle(nodes, root, None)
        self._cause = letter.cause.record()

    def _account(self, letter: AccountCall) -> None:
        self._cause = letter.record or letter.cause.record()
        # An event that no definition counted where it was applied has nothing here that one could look at.
        counted = letter.record is not None or bool(letter.traits)
        try:
            self._resolution.count_account(letter.account, letter.member, letter.traits, self._cause, counted=counted)
        except Unusable:
            return  # a time that no clock shows: there is nothing that it could say


def previous_id(record: Record) -> str | None:
    """Of an alias; None where it has none, or none that can be read."""
    try:
        return read_previous_id(record.payload)
    except Unusable:
        return None


def _prepare(connection: sqlite3.Connection, layout: Layout) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'shard'").fetchone() is None:
        script = Path(__file__).with_name("shards.sql").read_text()
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nINSERT INTO shard (layout) VALUES ('{layout.text}');\nCOMMIT;"
        )
    (begun,) = connection.execute("SELECT layout FROM shard").fetchone()
    if begun != layout.text:
        raise SettingsError(
            f"This shard was begun under the layout {begun!r}, and the settings say {layout.text!r}.",
            hint="How an identity is laid out is fixed with its first event; set it back, or begin anew.",
        )
