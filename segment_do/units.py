"""Names of graphs: an identity's own name, or, where it is laid out over several graphs, one name a shard.

A graph's name is what its folder, its actor and its entries in the queue's log go by. Everything behind the log knows identities alone.
"""

from __future__ import annotations

from typing import Final

__all__ = ["identity_of", "shard_of", "shown_name", "unit_name"]

_BETWEEN: Final = "\0"
"""No name of an identity has it, so that no shard is taken for an identity."""


def unit_name(identity: str, shard: str) -> str:
    """The name of a shard's graph."""
    return f"{identity}{_BETWEEN}{shard}"


def identity_of(unit: str) -> str:
    """The identity that a graph belongs to."""
    return unit.partition(_BETWEEN)[0]


def shard_of(unit: str) -> str:
    """The shard's own name; empty where the identity is one graph."""
    return unit.partition(_BETWEEN)[2]


def shown_name(unit: str) -> str:
    """A graph's name for people: ``tom``, or ``tom#3``."""
    return unit.replace(_BETWEEN, "#")
