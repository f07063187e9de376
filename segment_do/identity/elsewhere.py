"""What resolution asks of the shard that its graph is, where an identity is laid out over several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from segment_do.events.record import Record
from segment_do.identity.decision import Id
from segment_do.identity.ids import Node

__all__ = ["Elsewhere"]


class Elsewhere(Protocol):
    """Knows what lies here and what in other graphs; see :class:`.shards.shard.Shard`."""

    @property
    def next_bond(self) -> int:
        """Bonds are numbered from here on."""

    def keeps(self, account: Id) -> bool:
        """Whether the profile of an account lies here."""

    def send_account(self, account: Id, member: Node | None, traits: dict[str, str], record: Record) -> None:
        """Tell where an account lies what an event says of it."""

    def generation(self, node: Node) -> int:
        """How often the facts of an id came from another graph."""

    def previous_kind(self, record: Record) -> str | None:
        """Of an alias that merges: the type of its previous id, where that is known."""

    def hold(self, nodes: Sequence[Node]) -> None:
        """Ids that lie here were joined by hand."""

    def commit(self) -> None:
        """The batch's transaction is durable."""

    def rollback(self) -> None:
        """The batch's transaction is undone."""
