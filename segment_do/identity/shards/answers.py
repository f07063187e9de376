"""What shards of one identity are asked beside the questions that any graph answers; see :mod:`.asking` for who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from segment_do.errors import NotFound
from segment_do.identity.decision import Id
from segment_do.identity.names import named_id, named_profile, text_of
from segment_do.identity.profile import Profile
from segment_do.identity.rules import ACCOUNT_TYPES

if TYPE_CHECKING:
    from segment_do.identity.graph import Graph

__all__ = ["SHARD_CHANGES", "SHARD_READS", "moved_away"]

Arguments = Mapping[str, Any]


def moved_away(graph: Graph, named: Id | str) -> tuple[str, str] | None:
    """Where else to ask about an id, or a profile id: (the id, an id whose owner to ask); None: here.

    Raises:
        NotFound: the rules promote no such value.
    """
    if graph.shard is None:
        return None
    if not isinstance(named, str):
        accepted = graph.rules.accepted(*named)
        if accepted is None:
            raise NotFound("Profile was not found.")
        if accepted != named[1]:
            name = text_of((named[0], accepted))
            return name, name
    found = graph.shard.elsewhere(named)
    return None if found is None else (text_of(found[0]), text_of(found[1]))


def _lies(graph: Graph, asked: Arguments) -> dict[str, Any]:
    _found(graph, asked)
    return {"id": asked["id"]}


def _linked(graph: Graph, asked: Arguments) -> dict[str, Any]:
    accounts = any(each.kind in ACCOUNT_TYPES for each in _found(graph, asked).external_ids)
    linked = graph.linked(named_profile(asked["id"]))
    return {"collection": "accounts" if accounts else "users", "ids": [text_of(each) for each in linked]}


def _facts(graph: Graph, asked: Arguments) -> dict[str, Any]:
    _found(graph, asked)
    assert graph.shard is not None
    return {"facts": graph.shard.facts(named_id(asked["id"]))}


def _found(graph: Graph, asked: Arguments) -> Profile:
    found = graph.find(named_profile(asked["id"]))
    if found is None:
        raise NotFound("Profile was not found.")
    return found


def _bring(graph: Graph, asked: Arguments, _defaults: object) -> dict[str, Any]:
    one, other = (named_id(each) for each in asked["ids"])
    graph.bring(one, other)
    return {}


SHARD_READS: Final[dict[str, Callable[[Graph, Arguments], dict[str, Any]]]] = {
    "lies": _lies,
    "linked": _linked,
    "facts": _facts,
}
"""What changes nothing."""

SHARD_CHANGES: Final[dict[str, Callable[[Graph, Arguments, Any], dict[str, Any]]]] = {"bring": _bring}
"""What other shards are to hear of."""
