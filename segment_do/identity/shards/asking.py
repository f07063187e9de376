"""Asking an identity that is laid out over shards: the questions of :mod:`segment_do.identity.questions`, with the same answers.

What concerns a profile is asked where the profile lies: the shard that owns an id answers, or says where it went. What concerns all
profiles is asked of every shard. Bonds are numbered over all shards, and so are lines of the audit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from segment_do.errors import InvalidRequest, NotFound, NotReady
from segment_do.identity.about import MAX_LINKS
from segment_do.identity.identifiers import Reader, people_of
from segment_do.identity.names import named_id, named_profile, text_of
from segment_do.identity.packs import decode_packs
from segment_do.identity.questions import answer
from segment_do.identity.revisions import check_one_collection
from segment_do.identity.rules import ACCOUNT_TYPES, Rules, read_rules
from segment_do.identity.shards.layout import Layout
from segment_do.identity.shards.scratch import scratch_graph
from segment_do.identity.shards.shard import previous_id
from segment_do.units import unit_name

__all__ = ["Call", "ask_shards"]

Call = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Asks one shard's graph: (unit, question, arguments)."""

_OF_ONE_PROFILE: Final = {
    "profile": "id",
    "traits": "id",
    "trait_history": "id",
    "history": "id",
    "delete_id": "id",
    "why": "from",
}
"""Questions about one profile, and the argument that names it."""
_MOST_HOPS: Final = 64
_ON_ITS_WAY_SECONDS: Final = 5.0
"""How long an answer waits for facts that are on their way from one shard to another."""
_AGAIN_SECONDS: Final = 0.02


async def ask_shards(
    layout: Layout, identity: str, rules: Rules, call: Call, question: str, arguments: Mapping[str, Any]
) -> Any:
    """Ask; ``rules`` are those of the settings for this identity.

    Raises:
        NotReady: facts that were asked for are still on their way between shards.
        InvalidRequest: this cannot be asked of an identity with a shard for every person.
        SegmentDoError: what the question raises.
    """
    asking = _Asking(layout, identity, rules, call)
    if question in _OF_ONE_PROFILE:
        return await asking.of_one_profile(question, dict(arguments))
    other = {
        "links": asking.links,
        "unmerge": asking.unmerge,
        "merge": asking.merge,
        "split": asking.split,
        "simulate": asking.simulate,
        "audit": asking.audit,
        "rules": asking.of_any,
        "propose_rules": asking.propose_rules,
        "computations": asking.of_any,
    }.get(question)
    return await (asking.of_all(question, dict(arguments)) if other is None else other(question, dict(arguments)))


class _Asking:
    def __init__(self, layout: Layout, identity: str, rules: Rules, call: Call) -> None:
        self._layout = layout
        self._identity = identity
        self._rules = rules
        self._call = call

    async def of_one_profile(self, question: str, arguments: dict[str, Any]) -> Any:
        name = _OF_ONE_PROFILE[question]
        if question == "why":
            # An id of another shard is of another profile; one that nobody ever carried is an error as elsewhere.
            (one, _), (other, _) = await self._find(arguments["from"]), await self._find(arguments["to"])
            if one != other:
                return {"chain": None}
        shard, told = await self._follow(question, arguments, name)
        if question in ("why", "history"):
            self._number(shard, told)
        return told

    async def links(self, _question: str, arguments: dict[str, Any]) -> Any:
        _shard, told = await self._follow("linked", arguments, "id")
        found: dict[str, Any] = {}
        for one in told["ids"]:
            try:
                profile = await self.of_one_profile("profile", {"id": one})
            except NotFound:
                continue  # an account whose only event is on its way
            found.setdefault(profile["profileId"], profile)
            if len(found) >= MAX_LINKS:
                break
        ordered = sorted(found.values(), key=lambda each: str(each["firstSeen"]))
        return {
            "collection": told["collection"],
            "links": [{"collection": each["collection"], "externalIds": each["externalIds"]} for each in ordered],
        }

    async def unmerge(self, question: str, arguments: dict[str, Any]) -> Any:
        shards = self._shards(question)
        bond, at = divmod(arguments["bond"], len(shards))
        try:
            await self._ask(shards[at], question, {**arguments, "bond": bond})
        except NotFound as error:  # which knows its own number only
            raise NotFound(f"There is no bond {arguments['bond']}.", hint=error.hint) from None
        return {"bond": arguments["bond"]}

    async def merge(self, question: str, arguments: dict[str, Any]) -> Any:
        one, other = arguments["ids"]
        ids = named_id(one), named_id(other)
        check_one_collection(*ids)
        if ids[0][0] in ACCOUNT_TYPES:
            raise InvalidRequest("Accounts of an identity in shards cannot be joined.", code="not_in_shards")
        deadline = asyncio.get_running_loop().time() + _ON_ITS_WAY_SECONDS
        while True:
            (shard, first), (second_shard, second) = await self._find(one), await self._find(other)
            if shard == second_shard:
                _shard, told = await self._follow(question, {**arguments, "ids": [first, second]}, "ids")
                return told
            await self._ask(shard, "bring", {"at": first, "ids": [first, second]})
            await self._wait(deadline)

    async def split(self, question: str, arguments: dict[str, Any]) -> Any:
        places = [await self._find(one) for one in arguments["ids"]]
        if len({shard for shard, _one in places}) > 1:
            raise InvalidRequest("The ids are of different profiles already.", code="nothing_to_split")
        _shard, told = await self._follow(question, {**arguments, "ids": [one for _shard, one in places]}, "ids")
        return told

    async def simulate(self, question: str, arguments: dict[str, Any]) -> Any:
        rules = self._rules
        if self._layout.all_shards is not None:
            rules = read_rules((await self.of_any("rules", {}))["rules"])
        (record,) = decode_packs([(arguments["pack"], 1)])
        named = people_of(record, Reader(rules).read(record), rules)
        if record.type == "alias" and rules.alias == "merge" and (previous := previous_id(record)) is not None:
            named += [("user_id", previous), ("anonymous_id", previous)]  # whichever it is
        facts = []
        for one in named:
            try:
                facts.append((await self._follow("facts", {"id": text_of(one)}, "id"))[1]["facts"])
            except NotFound:
                continue

        def try_it() -> Any:
            with scratch_graph(rules, facts, arguments["now"]) as graph:
                return answer(graph, question, arguments, rules)

        return await asyncio.to_thread(try_it)

    async def audit(self, question: str, arguments: dict[str, Any]) -> Any:
        shards = self._shards(question)
        told = await asyncio.gather(*(self._ask(shard, question, arguments) for shard in shards))
        for at, each in enumerate(told):
            for line in each["lines"]:
                line["line"] = line["line"] * len(shards) + at
                if "bond" in line["detail"]:
                    line["detail"]["bond"] = line["detail"]["bond"] * len(shards) + at
        lines = sorted((line for each in told for line in each["lines"]), key=lambda line: line["at"], reverse=True)
        return {"lines": lines[: arguments["limit"]]}

    async def propose_rules(self, question: str, arguments: dict[str, Any]) -> Any:
        told = await asyncio.gather(*(self._ask(shard, question, arguments) for shard in self._shards(question)))
        return {
            **{name: sum(each[name] for each in told) for name in ("profilesBefore", "profilesAfter", "idsMoved")},
            "examples": [example for each in told for example in each["examples"]][:100],
        }

    async def of_any(self, question: str, arguments: dict[str, Any]) -> Any:
        return await self._ask(self._shards(question)[0], question, arguments)

    async def of_all(self, question: str, arguments: dict[str, Any]) -> Any:
        told = [await self._ask(shard, question, arguments) for shard in self._shards(question)]
        return told[0]

    def _shards(self, question: str) -> list[str]:
        shards = self._layout.all_shards
        if shards is None:
            raise InvalidRequest(
                f"The identity {self._identity!r} has a shard for every person: it cannot be asked for {question!r}.",
                hint="Its rules and computations come from the files that identity.rules_file and identity.computations_file name;"
                " profiles can be asked one by one.",
                code="not_in_shards",
            )
        return shards

    async def _ask(self, shard: str, question: str, arguments: dict[str, Any]) -> Any:
        return await self._call(unit_name(self._identity, shard), question, arguments)

    async def _find(self, one: str) -> tuple[str, str]:
        """The shard in which an id lies, and the id as the rules make it."""
        try:
            shard, told = await self._follow("lies", {"id": one}, "id")
        except NotFound:
            named = named_profile(one)
            if isinstance(named, str):
                raise
            raise NotFound(f"No event carried the {named[0]} {named[1]!r}.") from None  # as one graph has it
        return shard, told["id"]

    async def _follow(self, question: str, arguments: dict[str, Any], name: str) -> tuple[str, Any]:
        """Ask the shard that has the profile named by an argument; which one that was, and its answer."""
        deadline = asyncio.get_running_loop().time() + _ON_ITS_WAY_SECONDS
        named = arguments[name][0] if name == "ids" else arguments[name]
        while True:
            one, shard = self._owned(named)
            at = one
            for _ in range(_MOST_HOPS):
                given = arguments if name == "ids" else {**arguments, name: one}
                try:
                    told = await self._ask(shard, question, {**given, "at": at})
                except NotFound:
                    if at != one:  # its facts are on their way
                        break
                    raise
                if "elsewhere" not in told:
                    return shard, told
                known, further = told["elsewhere"]
                if at == one:  # now it is known which id a profile id is, and how the rules write it
                    one = known
                at, shard = self._owned(further)
            await self._wait(deadline)

    def _owned(self, named: str) -> tuple[str, str]:
        """An id as the rules of the settings make it, and the shard that owns it."""
        found = named_profile(named)
        if isinstance(found, str):
            shard = self._layout.owner_of_profile(found)
            if shard is None:
                raise NotFound("Profile was not found.")
            return named, shard
        kind, value = found
        value = self._rules.accepted(kind, value) or value
        return f"{kind}:{value}", self._layout.owner((kind, value))

    async def _wait(self, deadline: float) -> None:
        if asyncio.get_running_loop().time() > deadline:
            raise NotReady("The profile is on its way from one shard to another.", retry_after=1)
        await asyncio.sleep(_AGAIN_SECONDS)

    def _number(self, shard: str, told: Any) -> None:
        shards = self._layout.all_shards
        if shards is None:
            return
        for each in [*(told.get("chain") or ()), *(step["edge"] for step in told.get("steps", ()))]:
            each["bond"] = each["bond"] * len(shards) + shards.index(shard)
