"""Ids that are linked to one root, as the shard that owns the root has them in memory."""

from __future__ import annotations

from segment_do.identity.decision import Id

__all__ = ["Tree"]


class Tree:
    """A tree whose root this shard owns."""

    __slots__ = ("__weakref__", "into", "number", "root")

    def __init__(self, number: int, root: Id) -> None:
        self.number = number
        self.root = root
        self.into: Tree | None = None
        """What it became a part of, here."""

    def end(self) -> Tree:
        """What it is by now."""
        tree = self
        while tree.into is not None:
            tree = tree.into
        return tree
