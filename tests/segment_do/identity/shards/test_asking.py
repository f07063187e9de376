"""Every question has the answer that one graph gives, over any number of shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from segment_do.errors import InvalidRequest, NotFound, NotReady, SegmentDoError
from segment_do.events.record import Record, encode_pack
from segment_do.identity import DEFAULT_RULES, profile_id, read_rules
from segment_do.identity.questions import CHANGES, answer
from segment_do.identity.rules import Rules
from segment_do.identity.shards import Layout
from segment_do.identity.shards import asking as asking_module
from segment_do.identity.shards.asking import ask_shards
from segment_do.identity.shards.layout import order
from segment_do.units import identity_of, shard_of
from tests.segment_do.identity.events import HOUR, NOON, apply, identify, open_graph, record
from tests.segment_do.identity.shards.sharded import Sharded
from tests.segment_do.identity.test_orders import some_events

LAYOUTS = [Layout(3), Layout(granularity="profile")]
COUNT = {"class": "trait", "key": "tested", "kind": "event_count", "event": "Tested"}


class Asked:
    """One graph and many shards that saw the same events; both are asked."""

    def __init__(self, folder: Path, layout: Layout, *, delivering: bool = True, rules: Rules = DEFAULT_RULES) -> None:
        self.rules = rules
        self.one = open_graph(folder / "one", rules=rules)
        self.many = Sharded(folder / "many", layout, rules=rules)
        self.delivering = delivering

    def apply(self, *records: Record) -> None:
        apply(self.one, *records)
        self.many.apply(*records)
        if self.delivering:
            self.many.settle()

    def alone(self, question: str, **arguments: Any) -> Any:
        return answer(self.one, question, arguments, self.rules)

    async def shards(self, question: str, **arguments: Any) -> Any:
        return await ask_shards(self.many.layout, "tom", self.rules, self.call, question, arguments)

    async def call(self, unit: str, question: str, arguments: dict[str, Any]) -> Any:
        assert identity_of(unit) == "tom"
        shard = shard_of(unit)
        if self.many.layout.all_shards is None and shard not in self.many.graphs:
            raise NotFound("Profile was not found.")
        told = answer(self.many.graph(shard), question, arguments, self.rules)
        if question in CHANGES and self.delivering:
            self.many.settle()
        return told

    async def both(self, question: str, **arguments: Any) -> Any:
        """The same answer, or the same refusal."""
        expected = refusal(lambda: self.alone(question, **arguments))
        try:
            found = await self.shards(question, **arguments)
        except SegmentDoError as error:
            found = said(error)
        assert bare(found) == bare(expected)
        return found


def refusal(ask: Callable[[], Any]) -> Any:
    """The answer, or what was said instead."""
    try:
        return ask()
    except SegmentDoError as error:
        return said(error)


def said(error: SegmentDoError) -> str:
    return "not found" if isinstance(error, NotFound) else str(error)


def bare(told: Any) -> Any:
    """Without what graphs number as they like, and without order where there is none."""
    if isinstance(told, dict):
        return {name: bare(each) for name, each in told.items() if name not in ("bond", "line", "since")}
    return [bare(each) for each in told] if isinstance(told, list | tuple) else told


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.text)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Asked:
    return Asked(tmp_path, request.param)


def a_family() -> list[Record]:
    return [
        record("m1", anonymous="phone", at=NOON),
        identify("m2", {"email": "Ada@Example.com", "plan": "pro"}, user="ada", anonymous="phone", at=NOON + HOUR),
        identify("m3", {"email": "ada@example.com"}, anonymous="laptop", at=NOON + 2 * HOUR),
        identify("m4", {"email": "ada@example.com"}, user="bob", at=NOON + 3 * HOUR),
        record("m5", "group", user="ada", body={"groupId": "g1", "traits": {"name": "Home"}}, at=NOON + 4 * HOUR),
        record("m6", "group", user="bob", body={"groupId": "g1"}, at=NOON + 5 * HOUR),
    ]


async def test_about_a_profile(asked: Asked) -> None:
    """The profile, its traits, links and history; an id as it was sent, a profile id, an account; what nobody carried."""
    asked.apply(*a_family())
    ids = ["user_id:ada", "anonymous_id:laptop", "email:ADA@example.com", "group_id:g1", "user_id:nobody", "user_id:0"]
    for one in [*ids, asked.alone("profile", id="user_id:bob")["profileId"]]:
        for question in ("profile", "traits", "trait_history", "links"):
            await asked.both(question, id=one)
    for one in ids[:3]:
        await asked.both("history", id=one)
    for ends in (("phone", "laptop"), ("phone", "nobody")):
        await asked.both("why", **{"from": f"anonymous_id:{ends[0]}", "to": f"anonymous_id:{ends[1]}"})
    await asked.both("why", **{"from": "user_id:ada", "to": "user_id:bob"})
    assert (await asked.shards("why", **{"from": "user_id:ada", "to": "user_id:bob"})) == {"chain": None}


async def test_what_made_a_profile_is_told_by_its_profile_id_too(asked: Asked) -> None:
    """The one it has, and one that it had before."""
    asked.apply(*a_family())
    now = asked.alone("profile", id="user_id:ada")["profileId"]
    before = profile_id("anonymous_id", "phone")
    for one in (now, before):
        assert (await asked.both("history", id=one))["steps"]
        assert (await asked.both("why", **{"from": one, "to": "anonymous_id:laptop"}))["chain"]
        assert (await asked.both("why", **{"from": "anonymous_id:laptop", "to": one}))["chain"]
    await asked.both("history", id=profile_id("user_id", "nobody"))


@pytest.mark.parametrize("wrong", ["", "ada", "user_id", "user_id:", ":ada"])
async def test_what_names_no_id_is_refused_before_anybody_is_asked(asked: Asked, wrong: str) -> None:
    asked.apply(*a_family())
    for question in ("profile", "traits", "trait_history", "links", "history"):
        assert "is named by" in await asked.both(question, id=wrong)
    assert "is named by" in await asked.both("why", **{"from": "user_id:ada", "to": wrong})
    assert "is named by" in await asked.both("merge", ids=["user_id:ada", wrong], by="tester")


async def test_who_is_not_there_is_named(asked: Asked) -> None:
    asked.apply(*a_family())
    for question, arguments in (
        ("why", {"from": "user_id:ada", "to": "user_id:nobody"}),
        ("merge", {"ids": ["user_id:nobody", "user_id:ada"], "by": "tester"}),
        ("split", {"ids": ["user_id:nobody"], "by": "tester"}),
    ):
        with pytest.raises(NotFound, match=r"No event carried the user_id 'nobody'\."):
            await asked.shards(question, **arguments)


async def test_old_profile_ids_resolve(asked: Asked) -> None:
    """A profile id from before its id moved to another shard."""
    asked.apply(record("m1", anonymous="phone"))
    old = asked.alone("profile", id="anonymous_id:phone")["profileId"]
    asked.apply(record("m2", user="ada", anonymous="phone"))
    found = await asked.both("profile", id=old)
    assert {each["id"] for each in found["externalIds"]} == {"ada", "phone"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.text)
@pytest.mark.parametrize("previous", ["ada", "ADA"])
async def test_an_alias_of_oneself_joins_nobody(tmp_path: Path, layout: Layout, previous: str) -> None:
    """Browsers send it of a user who is known already, be it by this very event."""
    rules = read_rules({"types": {"user_id": {"normalise": ["lowercase"]}}, "alias": "merge"})
    asked = Asked(tmp_path, layout, rules=rules)
    for number in range(2):
        asked.apply(record(f"m{number}", "alias", user="ada", body={"previousId": previous}))
        found = await asked.both("profile", id="user_id:ada")
        assert [each["id"] for each in found["externalIds"]] == ["ada"]


async def test_simulated(asked: Asked) -> None:
    """What an event would join, over shards, and nothing of it stays."""
    asked.apply(
        record("m1", user="ada"), record("m2", anonymous="phone"), identify("m3", {"email": "e"}, anonymous="laptop")
    )
    before = await asked.shards("profile", id="anonymous_id:phone")
    event = identify("m9", {"email": "e"}, user="ada", anonymous="phone")
    pack = {"pack": encode_pack([event]), "now": NOON}
    told = await asked.both("simulate", **pack)
    assert {each["id"] for each in told["moved"]} == {"phone", "laptop", "e"}
    assert await asked.shards("profile", id="anonymous_id:phone") == before


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.text)
async def test_a_simulated_alias_knows_whom_it_joins(tmp_path: Path, layout: Layout) -> None:
    """A device, a user, nobody yet, oneself; as one graph says it."""
    asked = Asked(tmp_path, layout, rules=read_rules({"alias": "merge"}))
    asked.apply(record("m1", anonymous="phone"), record("m2", user="ada", anonymous="laptop"), record("m3", user="bob"))
    for previous in ("phone", "ada", "nobody", "bob", 7):
        for user in ("bob", "new"):
            event = record("m9", "alias", user=user, body={"previousId": previous})
            await asked.both("simulate", pack=encode_pack([event]), now=NOON)


async def test_taken_apart_and_joined_by_hand(asked: Asked) -> None:
    """Split, merge over shards whatever the limits say, an id deleted: the same profiles, then and after the events come again."""
    asked.apply(*a_family())
    everyone = ["user_id:ada", "user_id:bob", "anonymous_id:phone", "anonymous_id:laptop", "email:ada@example.com"]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("split", {"ids": ["anonymous_id:phone"]}),
        ("split", {"ids": ["user_id:ada", "user_id:bob"]}),
        ("merge", {"ids": ["user_id:ada", "user_id:bob"]}),
        ("merge", {"ids": ["anonymous_id:phone", "user_id:nobody"]}),
        ("merge", {"ids": ["user_id:ada", "group_id:g1"]}),
        ("delete_id", {"id": "user_id:ada", "delete": "anonymous_id:laptop"}),
    ]
    for question, arguments in changes:
        await asked.both(question, **arguments, by="tester")
        asked.apply(*a_family())
        for one in everyone:
            await asked.both("profile", id=one)


async def test_a_bond_undone(tmp_path: Path) -> None:
    """`why` names a bond by a number that holds over all shards; undone, it stays undone."""
    asked = Asked(tmp_path, Layout(5))
    asked.apply(*a_family())
    (edge,) = (await asked.shards("why", **{"from": "anonymous_id:laptop", "to": "email:ada@example.com"}))["chain"]
    bond = edge["bond"]
    await asked.shards("unmerge", bond=bond, by="tester")
    (edge,) = asked.alone("why", **{"from": "anonymous_id:laptop", "to": "email:ada@example.com"})["chain"]
    asked.alone("unmerge", bond=edge["bond"], by="tester")
    asked.apply(*a_family())
    for one in ("user_id:ada", "anonymous_id:laptop", "email:ada@example.com"):
        await asked.both("profile", id=one)
    (line,) = (await asked.shards("audit", limit=10))["lines"]
    assert (line["action"], line["detail"]) == ("unmerge", {"bond": bond, "by": "tester"})
    with pytest.raises(NotFound, match=r"There is no bond 999999\."):
        await asked.shards("unmerge", bond=999_999, by="tester")


async def test_lines_of_the_audit_have_numbers_of_their_own(tmp_path: Path) -> None:
    asked = Asked(tmp_path, Layout(3))
    asked.apply(*(record(f"m{number}", user=f"u{number}", anonymous=f"a{number}") for number in range(9)))
    for number in range(9):
        await asked.shards("split", ids=[f"anonymous_id:a{number}"], by="tester")
    lines = (await asked.shards("audit", limit=10))["lines"]
    assert len({line["line"] for line in lines}) == len(lines) == 9


async def test_about_all_profiles(tmp_path: Path) -> None:
    """Rules, with a dry run, and computations are every shard's."""
    asked = Asked(tmp_path, Layout(3))
    asked.apply(*a_family(), *(record(f"n{number}", user=f"u{number}") for number in range(20)))
    rules = {"types": {"email": {"blocked": ["ada@example.com"]}}}
    told = await asked.both("propose_rules", rules=rules)
    assert told["profilesAfter"] > told["profilesBefore"]
    await asked.both("set_rules", rules=rules, by="tester")
    await asked.both("rules")
    for one in ("user_id:ada", "anonymous_id:laptop"):
        await asked.both("profile", id=one)
    await asked.shards("set_computation", definition=COUNT, by="tester")
    asked.alone("set_computation", definition=COUNT, by="tester")
    await asked.both("computations")
    asked.apply(*(record(f"late{number}", user=f"u{number % 3}", anonymous=f"a{number}") for number in range(10)))
    for number in range(4):
        found = await asked.both("profile", id=f"user_id:u{number}")
        assert [each["value"] for each in found["computed"].values()] == ([["4"], ["3"], ["3"], []][number])


async def test_a_shard_for_every_person_has_no_questions_about_all(tmp_path: Path) -> None:
    """They are refused with a reason."""
    asked = Asked(tmp_path, Layout(granularity="profile"))
    asked.apply(record("m1", user="ada"))
    for question, arguments in (("audit", {"limit": 1}), ("set_rules", {"rules": {}, "by": ""}), ("rules", {})):
        with pytest.raises(InvalidRequest, match="a shard for every person"):
            await asked.shards(question, **arguments)


async def test_what_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that left one shard and have not come to the other are waited for, and after that it is said so."""
    monkeypatch.setattr(asking_module, "_ON_ITS_WAY_SECONDS", 0.0)
    layout = Layout(2)
    asked = Asked(tmp_path, layout, delivering=False)
    user = next(name for name in map(str, range(100, 200)) if layout.owner(("user_id", name)) == "0")
    phone = next(name for name in map(str, range(100, 200)) if layout.owner(("anonymous_id", name)) == "1")
    asked.apply(record("m1", anonymous=phone))
    asked.apply(record("m2", user=user, anonymous=phone))
    assert (await asked.shards("profile", id=f"anonymous_id:{phone}"))["externalIds"][0]["id"] == phone
    asked.many.hand_over("0", "1")  # the link: the phone's facts leave for the user's shard
    found = await asked.shards("profile", id=f"anonymous_id:{phone}")
    assert len(found["externalIds"]) == 2, "the event itself is there already"
    (letter,) = asked.many.post("1").read("0", 1)
    assert b"m1" in letter.body
    asked.many.graph("0").bring(("user_id", user), ("user_id", "never seen"))
    with pytest.raises(NotReady, match="on its way"):
        for name in (user, "never seen"):
            await asked.shards("profile", id=f"user_id:{name}")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.text)
async def test_any_events(tmp_path: Path, layout: Layout) -> None:
    """Of random events: every answer about every id."""
    for seed in range(4):
        asked = Asked(tmp_path / str(seed), layout)
        events = some_events(Random(seed))
        asked.apply(*events)
        ids = {f"anonymous_id:{each.anonymous_id}" for each in events if each.anonymous_id}
        ids |= {f"user_id:{each.user_id}" for each in events if each.user_id}
        for one in sorted(ids):
            for question in ("profile", "traits", "trait_history", "history", "links"):
                await asked.both(question, id=one)
            for other in sorted(ids):
                await asked.both("why", **{"from": one, "to": other})


async def test_a_bond_that_moved_away_leaves_its_number(tmp_path: Path) -> None:
    """Who noted a number undoes that bond or none, also after rules were set and processes ended."""
    asked = Asked(tmp_path, Layout(2))
    owner = asked.many.layout.owner
    user = next(f"u{number}" for number in range(30) if owner(("user_id", f"u{number}")) == "0")
    phones = [f"p{number}" for number in range(60) if owner(("anonymous_id", f"p{number}")) == "1"][:4]
    root = min(phones, key=lambda each: order(("anonymous_id", each)))
    others = [each for each in phones if each != root]
    external = {"context": {"externalIds": [{"id": "c", "type": "card", "collection": "users", "encoding": "none"}]}}
    asked.apply(*(record(f"m{each}", anonymous=each, body=external) for each in [root, *others[:2]]))
    noted = [step["edge"]["bond"] for step in (await asked.shards("history", id=f"anonymous_id:{root}"))["steps"]]
    asked.apply(record("m9", user=user, anonymous=root))
    await asked.shards("set_rules", rules={}, by="tester")
    for shard in ("0", "1"):
        asked.many.kill(shard)
    asked.apply(
        record(
            "n1",
            anonymous=others[2],
            body={"context": {"externalIds": [{"id": "d", "type": "card", "collection": "users", "encoding": "none"}]}},
        )
    )
    found = [step["edge"]["bond"] for step in (await asked.shards("history", id=f"anonymous_id:{others[2]}"))["steps"]]
    assert found
    assert not set(noted) & set(found)
