"""What may be asked of a graph from outside its process, by name: arguments and answers are plain JSON values, shaped as the control API tells them.

An edge is ``{"bond", "rule", "timestamp", "messageId", "sourceId", "ids": ["type:value", …]}``, times are ISO 8601. Each name is in
:data:`READS` or in :data:`CHANGES`; after one of the latter the outbox may hold what became of ids. Nothing else of a graph can be reached.

A shard that is asked about an id (``at``) which lies in another answers ``{"elsewhere": [the id, an id whose owner to ask]}`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from segment_do.computed import read_definition
from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.record import EXTERNAL_ID, Record
from segment_do.events.timestamps import iso
from segment_do.identity.computation import Computation
from segment_do.identity.decision import Id
from segment_do.identity.explanation import Edge
from segment_do.identity.graph import Graph
from segment_do.identity.names import named_id, named_profile, text_of
from segment_do.identity.profile import ExternalId, Profile
from segment_do.identity.rules import ACCOUNT_TYPES, Rules, read_rules, written_rules
from segment_do.identity.shards.answers import SHARD_CHANGES, SHARD_READS, moved_away

__all__ = ["CHANGES", "READS", "answer"]

_MOST_MOVED: Final = 1_000
"""Moved ids told of one simulated event: as many as one profile may have."""

Arguments = Mapping[str, Any]


def answer(graph: Graph, question: str, arguments: Arguments, defaults: Rules) -> Any:
    """Ask; ``defaults`` are the rules of a graph without its own.

    Raises:
        InvalidRequest: there is no such question, or its arguments do not go with the graph.
        NotFound: what is named is not there.
        StorageFailed, CorruptData, OwnershipLost: see :class:`~segment_do.identity.Graph`.
    """
    if "at" in arguments and (moved := moved_away(graph, named_profile(arguments["at"]))) is not None:
        return {"elsewhere": moved}
    if question in READS:
        return READS[question](graph, arguments)
    if question in CHANGES:
        return CHANGES[question](graph, arguments, defaults)
    raise InvalidRequest(f"An identity is not asked for {question[:100]!r}.", code="unknown_question")


def _profile(graph: Graph, asked: Arguments) -> dict[str, Any]:
    found = _found(graph.find(named_profile(asked["id"])))
    return {
        "profileId": found.profile_id,
        "externalIds": _ids(found.external_ids),
        "traits": found.traits,
        "groups": found.groups,
        "firstSeen": iso(found.first_seen),
        "lastSeen": iso(max(found.last_seen, found.first_seen)),  # of the last time the hour is known
        "collection": _collection(found.external_ids),
        "computed": _computed(found),
    }


def _traits(graph: Graph, asked: Arguments) -> dict[str, Any]:
    named = named_profile(asked["id"])
    found = graph.traits(named)
    profile = _found(graph.find(named))
    return {
        "collection": _collection(profile.external_ids),
        "traits": [
            {"name": name, "value": each.value, "sourceId": each.source, "updatedAt": iso(each.timestamp)}
            for name, each in (found or {}).items()
        ],
        "computed": _computed(profile),
    }


def _trait_history(graph: Graph, asked: Arguments) -> dict[str, Any]:
    found = graph.trait_history(named_profile(asked["id"]), asked.get("name"))
    if found is None:
        raise NotFound("Profile was not found.")
    return {
        "traits": [
            {
                "name": name,
                "values": [
                    {
                        "value": each.value,
                        "timestamp": iso(each.timestamp),
                        "messageId": each.message_id,
                        "sourceId": each.source,
                    }
                    for each in values
                ],
            }
            for name, values in found.items()
        ]
    }


def _links(graph: Graph, asked: Arguments) -> dict[str, Any]:
    named = named_profile(asked["id"])
    found = graph.links(named)
    ids = _found(graph.find(named)).external_ids
    return {
        "collection": _collection(ids),
        "links": [{"collection": _collection(each), "externalIds": _ids(each)} for each in found or ()],
    }


def _why(graph: Graph, asked: Arguments) -> dict[str, Any]:
    chain = graph.why(_id(graph, asked["from"]), _id(graph, asked["to"]))
    return {"chain": None if chain is None else [_edge(each) for each in chain]}


def _history(graph: Graph, asked: Arguments) -> dict[str, Any]:
    return {
        "steps": [
            {
                "edge": _edge(step.edge),
                "joined": _names(step.joined),
                "leftOut": _names(step.left_out),
                "merged": step.merged,
            }
            for step in graph.history(*_id(graph, asked["id"]))
        ]
    }


def _audit(graph: Graph, asked: Arguments) -> dict[str, Any]:
    lines = graph.revisions.audit(asked["limit"])
    return {
        "lines": [
            {"line": each.line, "at": iso(each.at), "action": each.action, "detail": each.detail} for each in lines
        ]
    }


def _simulate(graph: Graph, asked: Arguments) -> dict[str, Any]:
    outcome = graph.simulate([(asked["pack"], 1)], asked["now"])
    moved = [_moved(graph, each) for each in outcome if each.type == EXTERNAL_ID]
    told = sorted(
        (each for each in moved if each.get("from") != each["to"]), key=lambda each: (each["type"], each["id"])
    )
    return {
        "profileId": next((each.profile_id for each in outcome if each.type != EXTERNAL_ID), None),
        "moved": told[:_MOST_MOVED],
    }


def _moved(graph: Graph, record: Record) -> dict[str, Any]:
    told = msgspec.json.decode(record.payload)
    before = graph.profile_id_of(told["type"], told["id"])
    return {
        "type": told["type"],
        "id": told["id"],
        **({} if before is None else {"from": before}),
        "to": told["canonical_segment_id"],
    }


def _rules(graph: Graph, _asked: Arguments) -> dict[str, Any]:
    return {"rules": written_rules(graph.rules), "own": graph.own_rules() is not None}


def _propose_rules(graph: Graph, asked: Arguments) -> dict[str, Any]:
    found = graph.revisions.propose_rules(read_rules(asked["rules"]))
    return {
        "profilesBefore": found.profiles_before,
        "profilesAfter": found.profiles_after,
        "idsMoved": found.ids_moved,
        "examples": [{"type": kind, "id": value, "to": to} for kind, value, to in found.examples],
    }


def _computations(graph: Graph, _asked: Arguments) -> dict[str, Any]:
    return {"computations": [_computation(each) for each in graph.computations.all()]}


def _computation(each: Computation) -> dict[str, Any]:
    # Where events of before are counted, the values are there when every profile has been looked at.
    filling = each.filling or (each.looking and each.filled >= 0)
    return {
        "id": each.computation_id,
        "definition": msgspec.to_builtins(each.definition),
        "since": iso(each.since),
        "declared": each.declared,
        "filling": filling,
        **({"filled": each.filled + 1, "target": each.target} if filling else {}),
    }


def _set_computation(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    graph.computations.put(read_definition(asked["definition"]), asked["by"], backfill=asked.get("backfill", False))
    return _computations(graph, {})


def _delete_computation(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    graph.computations.delete(asked["key"], asked["by"])
    return {"deleted": asked["key"]}


def _unmerge(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    graph.revisions.unmerge(asked["bond"], asked["by"])
    return {"bond": asked["bond"]}


def _merge(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    one, other = (named_id(each) for each in asked["ids"])
    graph.revisions.merge(one, other, asked["by"])
    return {"profileId": graph.profile_id_of(*one)}


def _split(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    ids = [named_id(each) for each in asked["ids"]]
    graph.revisions.split(ids, asked["by"])
    return {"profileIds": {each: graph.profile_id_of(*one) for each, one in zip(asked["ids"], ids, strict=True)}}


def _delete_id(graph: Graph, asked: Arguments, _defaults: Rules) -> dict[str, Any]:
    """Take one id out of a profile, by the rules of Segment's Profile API; ``id`` is the one it was looked up by."""
    lookup, gone = named_id(asked["id"]), named_id(asked["delete"])
    ids = _found(graph.find(lookup)).external_ids
    name = f"{gone[0]}:{gone[1]}"
    accepted = (gone[0], graph.rules.accepted(*gone))
    if gone[0] in ACCOUNT_TYPES:
        raise InvalidRequest("A group_id cannot be deleted.", code="validation_error")
    if accepted not in [(each.kind, each.value) for each in ids]:
        raise InvalidRequest(f"The profile has no external id {name[:600]}.", code="validation_error")
    if accepted == (lookup[0], graph.rules.accepted(*lookup)):
        raise InvalidRequest("The id that the profile is looked up by cannot be deleted.", code="validation_error")
    if gone[0] == "user_id" and sum(each.kind == "user_id" for each in ids) == 1:
        raise InvalidRequest("The last user_id of a profile cannot be deleted.", code="validation_error")
    graph.revisions.delete_id(lookup, gone, asked["by"])
    return {"type": gone[0], "id": gone[1]}


def _set_rules(graph: Graph, asked: Arguments, defaults: Rules) -> dict[str, Any]:
    given = asked["rules"]
    graph.revisions.set_rules(None if given is None else read_rules(given), defaults, asked["by"])
    return _rules(graph, {})


def _found(profile: Profile | None) -> Profile:
    if profile is None:
        raise NotFound("Profile was not found.")
    return profile


def _id(graph: Graph, text: str) -> Id:
    """An id as it is named; of a profile that is named by its profile id, the one that names it."""
    named = named_profile(text)
    if not isinstance(named, str):
        return named
    first = _found(graph.find(named)).external_ids[0]
    return first.kind, first.value


def _ids(ids: Iterable[ExternalId]) -> list[dict[str, Any]]:
    return [
        {
            "type": each.kind,
            "id": each.value,
            "firstSeen": iso(each.first_seen),
            "lastSeen": iso(max(each.last_seen, each.first_seen)),
            "sourceId": each.source,
            "messageId": each.message_id,
        }
        for each in ids
    ]


def _computed(profile: Profile) -> dict[str, Any]:
    return {
        key: {"value": each.value, "class": each.trait_class, "updatedAt": iso(each.updated_at)}
        for key, each in profile.computed.items()
    }


def _collection(ids: Iterable[ExternalId]) -> str:
    return "accounts" if any(each.kind in ACCOUNT_TYPES for each in ids) else "users"


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "bond": edge.bond,
        "rule": edge.rule,
        "timestamp": iso(edge.timestamp),
        "messageId": edge.message_id,
        "sourceId": edge.source,
        "ids": _names(edge.ids),
    }


def _names(ids: Iterable[Id]) -> list[str]:
    return [text_of(each) for each in ids]


READS: Final[dict[str, Callable[[Graph, Arguments], dict[str, Any]]]] = {
    "profile": _profile,
    "traits": _traits,
    "trait_history": _trait_history,
    "links": _links,
    "why": _why,
    "history": _history,
    "audit": _audit,
    "simulate": _simulate,
    "rules": _rules,
    "propose_rules": _propose_rules,
    "computations": _computations,
    **SHARD_READS,
}
"""What changes nothing."""

CHANGES: Final[dict[str, Callable[[Graph, Arguments, Rules], dict[str, Any]]]] = {
    "unmerge": _unmerge,
    "merge": _merge,
    "split": _split,
    "delete_id": _delete_id,
    "set_rules": _set_rules,
    "set_computation": _set_computation,
    "delete_computation": _delete_computation,
    **SHARD_CHANGES,
}
"""What leaves a line in the audit."""
