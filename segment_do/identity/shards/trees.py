"""Trees of linked ids over all shards of an identity, as one shard knows them.

An id that was linked to none is the root of its tree, and all that is known of the tree's ids lies in the shard that owns the root. To make
two trees one, the larger root is linked to the smaller one: by the shard that owns the larger root, if it still is a root (compare and
set), and by nobody else. Links only ever lead to smaller ids, so there are no cycles; no shard waits for another. Whoever finds that an
id has been linked meanwhile goes on from where the link leads.

This is union-find with linking by a fixed order (Jayanti and Tarjan), every link durable in the transaction that made it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

from segment_do.events.record import Record
from segment_do.identity.decision import Id
from segment_do.identity.ids import Node
from segment_do.identity.persistent import short_id
from segment_do.identity.profile import profile_id, short_id_of
from segment_do.identity.shards.layout import Layout, order
from segment_do.identity.shards.letters import Cause, Letter, Link
from segment_do.identity.shards.tree import Tree

__all__ = ["Trees"]

_MOST_REMEMBERED: Final = 100_000
"""Links kept in memory; beyond that they are read anew."""


class Trees:
    """The tables ``link``, ``tree`` and ``resident``. A batch: any of the methods, inside a transaction, then :meth:`clear`."""

    def __init__(self, connection: sqlite3.Connection, layout: Layout, shard: str) -> None:
        self._connection = connection
        self._layout = layout
        self.is_ours = layout.owned_by(shard)
        """Whether this shard owns an id."""
        self._links: dict[Id, Id | None] = {}
        self._trees: WeakValueDictionary[Id, Tree] = WeakValueDictionary()
        """Those that a node in memory lies in: as long as one does, a tree must not be made twice."""
        self.clear()

    def clear(self, *, undone: bool = False) -> None:
        """The batch is over; ``undone``: nothing that was read or changed in it may be believed."""
        self.letters: list[tuple[str, Letter]] = []
        """Written in this batch, each with the shard that it goes to."""
        self.leaving: list[tuple[Tree, Id, Cause]] = []
        """Trees that were linked to an id of another shard in this batch: their facts are to go there."""
        if undone or len(self._links) > _MOST_REMEMBERED:
            self._links = {}
        if undone:
            self._trees.clear()

    def root(self, one: Id) -> Id:
        """Where an id that this shard owns is linked to, as far as this shard can tell: a root of ours, or an id of another shard."""
        at = one
        passed = []
        while self.is_ours(at) and (parent := self._link(at)) is not None:
            passed.append(at)
            at = parent
        for each in passed[:-1]:
            self._set(each, at)
        return at

    def linked(self, named: str) -> Id | None:
        """The id that a profile id was made from, if it is one of ours and was linked to another."""
        for kind, value in self._connection.execute("SELECT kind, value FROM link WHERE id = ?", (short_id(named),)):
            if profile_id(kind, value) == named:
                return kind, value
        return None

    def settle(self, nodes: Sequence[Node], at: Id, record: Record | None) -> list[Link]:
        """Ids lie here now, in the tree of ``at``, a root of ours when the batch began; trees of ours that they lay in before become one.

        Returns the links that this calls for, of ids that came with this event (``record``) and that nobody linked before.
        """
        tree = self._tree(at)
        calls: list[Link] = []
        for node in nodes:
            held = self._resident(node)
            if held is None:
                self._connection.execute(
                    "INSERT INTO resident (node, tree) VALUES (?, ?) ON CONFLICT DO UPDATE SET tree = excluded.tree",
                    (node.node, tree.number),
                )
                node.tree = tree
                if record is not None and (name := (node.kind, node.value)) != tree.root:
                    calls.append(Link(name, tree.root, Cause.of(record)))
            elif held is not tree:
                tree = self._unite(held, tree)
        return calls

    def join(self, call: Link) -> None:
        """Make the trees of two ids one, or have another shard do it."""
        child, parent = self.root(call.child), self.root(call.parent)
        if child == parent:
            return
        if order(child) < order(parent):
            child, parent = parent, child
        if not self.is_ours(child):
            self.post(child, Link(child, parent, call.cause))
            return
        if self.is_ours(parent):
            self._unite(self._tree(child), self._tree(parent))
            return
        tree = self._tree(child)
        self._set(child, parent)
        self.leaving.append((tree, parent, call.cause))

    def shorten(self, child: Id, root: Id) -> None:
        """Link an id to one that it is linked to already, over others."""
        held = self._link(child)
        if held is not None and order(root) < order(held):
            self._set(child, root)

    def post(self, at: Id, letter: Letter) -> None:
        """Write to the shard that owns an id."""
        self.letters.append((self._layout.owner(at), letter))

    def residents(self, tree: Tree) -> list[int]:
        """Nodes of the ids of a tree that lie here."""
        rows = self._connection.execute("SELECT node FROM resident WHERE tree = ?", (tree.number,))
        return [node for (node,) in rows]

    def held(self, node: Node) -> Tree | None:
        """The tree that a node lies in here; None for an account."""
        return self._resident(node)

    def leave(self, tree: Tree) -> None:
        """A tree's ids are no longer here."""
        self._connection.execute("DELETE FROM resident WHERE tree = ?", (tree.number,))
        self._connection.execute("DELETE FROM tree WHERE number = ?", (tree.number,))
        self._trees.pop(tree.root, None)

    def _unite(self, one: Tree, other: Tree) -> Tree:
        """Two trees whose roots are ours: the larger root is linked to the smaller."""
        one, other = one.end(), other.end()
        if one is other:
            return one
        large, small = (one, other) if order(one.root) > order(other.root) else (other, one)
        self._set(large.root, small.root)
        self._connection.execute("UPDATE resident SET tree = ? WHERE tree = ?", (small.number, large.number))
        self._connection.execute("DELETE FROM tree WHERE number = ?", (large.number,))
        large.into = small
        self._trees.pop(large.root, None)
        return small

    def _tree(self, root: Id) -> Tree:
        root = self.root(root)
        tree = self._trees.get(root)
        if tree is None:
            row = self._connection.execute("SELECT number FROM tree WHERE kind = ? AND value = ?", root).fetchone()
            if row is None:
                made = self._connection.execute("INSERT INTO tree (kind, value) VALUES (?, ?)", root)
                row = (made.lastrowid or 0,)
            tree = self._trees[root] = Tree(row[0], root)
        return tree

    def _resident(self, node: Node) -> Tree | None:
        if node.tree is None:
            row = self._connection.execute(
                "SELECT kind, value FROM resident JOIN tree ON tree = number WHERE node = ?", (node.node,)
            ).fetchone()
            node.tree = None if row is None else self._tree((row[0], row[1]))
        elif node.tree.into is not None:
            node.tree = node.tree.end()
        return node.tree

    def _link(self, one: Id) -> Id | None:
        if one in self._links:
            return self._links[one]
        row = self._connection.execute(
            "SELECT parent_kind, parent_value FROM link WHERE kind = ? AND value = ?", one
        ).fetchone()
        found = self._links[one] = None if row is None else (row[0], row[1])
        return found

    def _set(self, child: Id, parent: Id) -> None:
        assert order(parent) < order(child), "links lead to smaller ids alone"
        self._connection.execute(
            "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?)", (*child, *parent, short_id_of(*child))
        )
        self._links[child] = parent
