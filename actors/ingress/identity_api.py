"""The control API's part for identities: why ids are one profile, what made it, and changes by hand, below ``/api/identities/{identity}``.

An id is named ``type:value``. Every change leaves a line in the audit, with ``by`` = ``api``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec
import uuid_utils
from fastapi import FastAPI, Query, Response
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field

from actors.ingress.path_names import Name
from segment_do.computed import read_definition, wrong
from segment_do.errors import InvalidEvent
from segment_do.events.intake import Caller, Limits, made_intake
from segment_do.identity.rules import read_rules
from segment_do.profile_api import EventsWanted, event_items, links_data

__all__ = ["IdentityPlatform", "add_identity_paths", "shown_profile"]

_BY = "api"


class IdentityPlatform(Protocol):
    """What stands behind these paths."""

    async def ask(self, identity: str, question: str, arguments: dict[str, Any]) -> Any: ...
    async def profile_events(self, wanted: EventsWanted) -> list[list[Any]]: ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


_Name = Annotated[str, Field(min_length=3, max_length=1_000)]


class Unmerged(_Body):
    """Body of ``POST …/unmerge``: the ``bond`` of an edge."""

    bond: int = Field(ge=1, lt=2**63)


class Merged(_Body):
    """Body of ``POST …/merge``: two ids."""

    ids: list[_Name] = Field(min_length=2, max_length=2)


class Split(_Body):
    """Body of ``POST …/split``: the ids to take out of their profile, together."""

    ids: list[_Name] = Field(min_length=1, max_length=1_000)


class Simulated(_Body):
    """Body of ``POST …/simulate``: an event as it would be sent."""

    event: dict[str, Any]


Limit = Annotated[int, Query(ge=1, le=10_000)]


def add_identity_paths(api: FastAPI, platform: IdentityPlatform, guarded: Sequence[Depends]) -> None:
    """Add the paths; ``guarded`` lets only the admin in."""
    below = "/api/identities/{identity}"

    async def ask(identity: str, question: str, **arguments: Any) -> Response:
        return _json(await platform.ask(identity, question, arguments))

    @api.get(below + "/why", dependencies=guarded)
    async def why(identity: Name, given: Annotated[str, Query(alias="from")], to: str) -> Response:
        return await ask(identity, "why", **{"from": given, "to": to})

    @api.get(below + "/history", dependencies=guarded)
    async def history(identity: Name, given: Annotated[str, Query(alias="id")]) -> Response:
        return await ask(identity, "history", id=given)

    @api.get(below + "/trait-history", dependencies=guarded)
    async def trait_history(
        identity: Name,
        given: Annotated[str, Query(alias="id")],
        name: Annotated[str | None, Query(max_length=1_000)] = None,
    ) -> Response:
        told = await platform.ask(identity, "trait_history", {"id": given, "name": name})
        for values in (each["values"] for each in told["traits"]):
            for value in values:
                value["value"] = msgspec.Raw(value["value"].encode())  # the text in which it came
        return _json(told)

    @api.get(below + "/audit", dependencies=guarded)
    async def audit(identity: Name, limit: Limit = 100) -> Response:
        return await ask(identity, "audit", limit=limit)

    @api.get(below + "/events", dependencies=guarded)
    async def events(
        identity: Name, given: Annotated[str, Query(alias="id")], limit: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Response:
        profile = await platform.ask(identity, "profile", {"id": given})
        wanted = EventsWanted.of(identity, profile, time.time_ns() // 1000, limit=limit)
        return _json({"events": event_items(await platform.profile_events(wanted))})

    @api.get(below + "/links", dependencies=guarded)
    async def links(identity: Name, given: Annotated[str, Query(alias="id")]) -> Response:
        return _json({"links": links_data(await platform.ask(identity, "links", {"id": given}))})

    @api.post(below + "/unmerge", dependencies=guarded)
    async def unmerge(identity: Name, wanted: Unmerged) -> Response:
        return await ask(identity, "unmerge", bond=wanted.bond, by=_BY)

    @api.post(below + "/merge", dependencies=guarded)
    async def merge(identity: Name, wanted: Merged) -> Response:
        return await ask(identity, "merge", ids=wanted.ids, by=_BY)

    @api.post(below + "/split", dependencies=guarded)
    async def split(identity: Name, wanted: Split) -> Response:
        return await ask(identity, "split", ids=wanted.ids, by=_BY)

    @api.post(below + "/simulate", dependencies=guarded)
    async def simulate(identity: Name, wanted: Simulated) -> Response:
        now = time.time_ns() // 1000
        return await ask(identity, "simulate", pack=_pack(wanted.event, now), now=now)

    @api.get(below + "/rules", dependencies=guarded)
    async def rules(identity: Name) -> Response:
        return await ask(identity, "rules")

    @api.put(below + "/rules", dependencies=guarded)
    async def set_rules(
        identity: Name, rules: dict[str, Any], dry_run: Annotated[bool, Query(alias="dryRun")] = False
    ) -> Response:
        read_rules(rules)  # told here, whatever becomes of the identity
        if dry_run:
            return await ask(identity, "propose_rules", rules=rules)
        return await ask(identity, "set_rules", rules=rules, by=_BY)

    @api.delete(below + "/rules", dependencies=guarded)
    async def delete_rules(identity: Name) -> Response:
        return await ask(identity, "set_rules", rules=None, by=_BY)

    @api.get(below + "/computations", dependencies=guarded)
    async def computations(identity: Name) -> Response:
        return await ask(identity, "computations")

    @api.post(below + "/computations", dependencies=guarded)
    async def add_computation(identity: Name, definition: dict[str, Any]) -> Response:
        return await ask(identity, "set_computation", **_computation(definition), by=_BY)

    @api.put(below + "/computations/{key}", dependencies=guarded)
    async def set_computation(identity: Name, key: Name, definition: dict[str, Any]) -> Response:
        return await ask(identity, "set_computation", **_computation({**definition, "key": key}), by=_BY)

    @api.delete(below + "/computations/{key}", dependencies=guarded)
    async def delete_computation(identity: Name, key: Name) -> Response:
        return await ask(identity, "delete_computation", key=key, by=_BY)


def shown_profile(found: dict[str, Any]) -> dict[str, Any]:
    """A profile as the control API tells it; traits keep the text in which they came."""
    return {
        "profileId": found["profileId"],
        "externalIds": [{"type": one["type"], "id": one["id"]} for one in found["externalIds"]],
        "traits": {name: msgspec.Raw(text.encode()) for name, text in found["traits"].items()},
        "computed": {
            key: {**each, "value": msgspec.Raw(each["value"].encode())} for key, each in found["computed"].items()
        },
        "groups": found["groups"],
        "firstSeen": found["firstSeen"],
        "lastSeen": found["lastSeen"],
    }


def _computation(given: dict[str, Any]) -> dict[str, Any]:
    """What is asked of the identity: the definition, and whether events of before are to be counted.

    Raises:
        InvalidRequest: told here, whatever becomes of the identity.
    """
    backfill = given.get("backfill", False)
    if not isinstance(backfill, bool):
        raise wrong("`backfill` has to be true or false")
    definition = {name: value for name, value in given.items() if name != "backfill"}
    read_definition(definition)
    return {"definition": definition, "backfill": backfill}


def _pack(event: dict[str, Any], now: int) -> bytes:
    """The event's record, made as the door makes it.

    Raises:
        InvalidEvent: the door would set it aside.
    """
    intake = made_intake(
        [json.dumps(event).encode()], Caller("simulated"), now, lambda: str(uuid_utils.uuid7()), Limits()
    )
    for refused in intake.refused:
        raise InvalidEvent(refused.message, code=refused.code)
    return intake.pack


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")
