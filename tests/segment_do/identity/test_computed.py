"""Computed traits and audiences in the graph: the same values in any order, told once, through merges, splits, crashes and days."""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from segment_do.computed import COMPUTED_SOURCE, read_definition
from segment_do.errors import InvalidRequest, NotFound, StorageFailed
from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph, profile_id
from segment_do.identity.computation import Declared
from segment_do.identity.questions import answer
from segment_do.identity.rules import DEFAULT_RULES, Rules
from segment_do.identity.shards import Layout
from segment_do.units import unit_name
from tests.segment_do.computed.test_folds import plain
from tests.segment_do.identity.events import (
    DAY,
    LIMITS,
    NOON,
    TIGHT,
    TIGHT_LIMITS,
    apply,
    identify,
    ids_of,
    open_graph,
    outbox_records,
    partition,
    record,
)

SEEDS = int(os.environ.get("SEEDS", "120"))
KINDS = ["event_count", "sum", "most_frequent", "first", "last", "unique_list", "unique_count"]
BLANK: list[Any] = [0, None, [], False]
COUNT = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested", "destinations": ["Braze"]}
BUYERS = {
    "class": "audience",
    "key": "buyers",
    "members": {"all": [{"event": "Tested", "at_least": 2}, {"trait": "plan", "is": "equals", "value": "pro"}]},
    "output": "track",
}


def ordered(message_id: str, price: Any = None, **given: Any) -> Record:
    return record(message_id, body={"properties": {"p": price}}, **given)


def told(graph: Graph) -> list[Record]:
    return [each for each in outbox_records(graph) if each.source_id == COMPUTED_SOURCE]


def said(each: Record) -> dict[str, Any]:
    """What an announcement says: key → value."""
    body = msgspec.json.decode(each.payload)
    return {name: value for name, value in body.get("traits", body.get("properties", {})).items() if "_key" not in name}


def values(graph: Graph, kind: str, value: str) -> dict[str, Any]:
    found = graph.profile(kind, value)
    assert found is not None
    return {key: msgspec.json.decode(each.value) for key, each in found.computed.items()}


def define(graph: Graph, *definitions: dict[str, Any], **given: Any) -> None:
    for each in definitions:
        graph.computations.put(read_definition(each), "test", **given)


def settle(graph: Graph) -> None:
    """All that maintenance has to do, in its bounded steps."""
    for _ in range(1_000):
        if graph.maintain(30):
            return
    raise AssertionError("maintenance never ends")


# A function of the set of events.


def many_definitions() -> list[dict[str, Any]]:
    kinds = [
        {
            "class": "trait",
            "key": kind,
            "kind": kind,
            "event": "Tested",
            **({"property": "p"} if kind != "event_count" else {}),
        }
        for kind in KINDS
    ]
    window = {"class": "trait", "key": "week", "kind": "sum", "event": "Tested", "property": "p", "window_days": 2}
    members = {"all": [{"computed": "event_count", "is": ">=", "value": 2}, {"trait": "plan", "is": "exists"}]}
    return [*kinds, window, {"class": "audience", "key": "regulars", "members": members}]


def some_events(random: Random) -> list[Record]:
    users, ids, others = random.choice([(2, 2, 1), (2, 3, 2), (4, 6, 3), (3, 12, 4)])
    events = []
    for number in range(random.choice([5, 15, 40])):
        user = f"u{random.randrange(users)}" if random.random() < 0.5 else None
        anonymous = f"a{random.randrange(ids)}" if user is None or random.random() < 0.6 else None
        traits = {"email": f"e{random.randrange(others)}"} if random.random() < 0.5 else {"plan": "pro"}
        cards = [
            {"id": str(random.randrange(1, others + 1)), "type": "card", "collection": "users", "encoding": "none"}
            for _ in range(random.choice([0, 0, 1, 2]))
        ]
        kind = random.choice(["identify", "track", "track"])
        body: dict[str, Any] = {"properties": {"p": random.choice([1, 2.5, "red", "blue", None])}}
        body = {**(body if kind == "track" else {"traits": traits}), "context": {"externalIds": cards}}
        at = NOON + random.randrange(-3 * DAY, DAY)
        events.append(record(f"m{number:02}", kind, user=user, anonymous=anonymous, at=at, body=body))
    return events


def expected_values(events: list[Record], limits: dict[str, int]) -> dict[tuple[str, str], dict[str, Any]]:
    """Id → values of its profile that say something, from lists."""
    found = {}
    for one, inside in partition(events, limits).items():
        own = [each for each in events if ids_of(each)[0] in inside]
        tracked = [each for each in own if each.type == "track"]
        recent = [each for each in tracked if each.timestamp // DAY > NOON // DAY - 2]
        plans = [each for each in own if each.type == "identify" and b'"plan"' in each.payload]
        all_values = {kind: plain(kind, tracked) for kind in KINDS}
        all_values |= {"week": plain("sum", recent), "regulars": len(tracked) >= 2 and bool(plans)}
        found[one] = {
            key: value
            for key, value in all_values.items()
            if not any(value == blank for blank in BLANK) or value is True
        }
    return found


@pytest.mark.parametrize("tight", [False, True])
def test_values_are_a_function_of_the_events(tmp_path: Path, tight: bool) -> None:
    """In any order and batches, through contested ids and reopened files: what lists say, and what was last told says it, too."""
    limits = TIGHT_LIMITS if tight else LIMITS
    rules = TIGHT if tight else Rules()
    for seed in range(SEEDS // 2):
        random = Random(f"{seed} {tight}")
        events = some_events(random)
        arriving = [*events, *random.choices(events, k=random.randrange(4))]
        random.shuffle(arriving)
        graph = open_graph(tmp_path / str(seed), rules=rules)
        define(graph, *many_definitions())
        while arriving:
            size = random.choice([1, 1, 2, 5, len(arriving)])
            apply(graph, *arriving[:size])
            arriving = arriving[size:]
            if random.random() < 0.1:
                graph.close()
                graph = open_graph(tmp_path / str(seed), rules=rules)
        expected = expected_values(events, limits)
        assert {ids: values(graph, *ids) for ids in expected} == expected, seed
        last: dict[tuple[str | None, str], Any] = {}
        for each in told(graph):
            last.update({(each.profile_id, key): value for key, value in said(each).items()})
        for ids, wanted in expected.items():
            profile = graph.profile(*ids)
            assert profile is not None
            heard = {key: value for (whose, key), value in last.items() if whose == profile.profile_id}
            assert {key: value for key, value in heard.items() if key in wanted} == wanted, seed
            assert all(heard[key] in BLANK for key in heard if key not in wanted), seed
        assert len({each.message_id for each in told(graph)}) == len(told(graph))
        graph.close()


# What is told.


def test_a_change_is_told_as_identify(tmp_path: Path) -> None:
    """Once a batch, to the destinations named and no others, with Segment's context; a value that stays is not told again."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    applied = apply(graph, ordered("m1", user="u"), ordered("m2", user="u"))
    assert applied.accepted == 2
    [each] = told(graph)
    body = msgspec.json.decode(each.payload)
    assert (each.type, each.user_id, each.anonymous_id, each.profile_id) == (
        "identify",
        "u",
        None,
        profile_id("user_id", "u"),
    )
    assert body["traits"] == {"orders": 2}
    assert body["integrations"] == {"All": False, "Braze": True}
    personas = body["context"]["personas"]
    assert personas | {"computation_id": "", "space_id": ""} == {
        "computation_class": "trait",
        "computation_id": "",
        "computation_key": "orders",
        "namespace": "tom",
        "space_id": "",
    }
    assert (personas["computation_id"][:4], personas["space_id"][:4]) == ("cmp_", "spa_")
    apply(graph, identify("m3", {"a": 1}, user="u"), record("m4", "page", user="u"))
    apply(graph, ordered("m1", user="u"))
    assert len(told(graph)) == 1
    found = graph.profile("user_id", "u")
    assert found is not None
    assert (found.computed["orders"].value, found.computed["orders"].trait_class, found.traits) == (
        "2",
        "computed_trait",
        {"a": "1"},
    )


def test_an_audience_is_told_as_track(tmp_path: Path) -> None:
    """Entered, then exited, by the trait and by the events."""
    graph = open_graph(tmp_path)
    define(graph, BUYERS)
    apply(graph, ordered("m1", user="u"), ordered("m2", user="u"))
    assert told(graph) == []
    apply(graph, identify("m3", {"plan": "pro"}, user="u"))
    found = graph.profile("user_id", "u")
    assert found is not None
    assert (found.computed["buyers"].value, found.computed["buyers"].trait_class) == ("true", "audience")
    apply(graph, identify("m4", {"plan": "free"}, user="u", at=NOON + 1))
    assert [each.event for each in told(graph)] == ["Audience Entered", "Audience Exited"]
    bodies = [msgspec.json.decode(each.payload) for each in told(graph)]
    assert [body["properties"] for body in bodies] == [
        {"audience_key": "buyers", "buyers": True},
        {"audience_key": "buyers", "buyers": False},
    ]
    assert bodies[0]["context"]["personas"]["computation_class"] == "audience"
    assert bodies[0]["integrations"] == {"All": False}
    define(graph, {**COUNT, "output": "track"})
    apply(graph, ordered("m5", user="u"))
    assert told(graph)[-1].event == "Trait Computed"
    assert msgspec.json.decode(told(graph)[-1].payload)["properties"] == {"trait_key": "orders", "orders": 1}


def test_whoever_has_no_user_id_is_told_by_what_there_is(tmp_path: Path) -> None:
    """An anonymous id; else the profile id, with the email where destinations look for it."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    apply(graph, ordered("m1", anonymous="a"))
    body = {"context": {"traits": {"email": "e@example.com"}}}
    apply(graph, record("m2", body=body))
    one, other = told(graph)
    assert (one.user_id, one.anonymous_id) == (None, "a")
    assert other.anonymous_id == profile_id("email", "e@example.com")
    context = msgspec.json.decode(other.payload)["context"]
    assert context["traits"] == {"email": "e@example.com"}
    assert context["externalIds"] == [
        {"id": "e@example.com", "type": "email", "collection": "users", "encoding": "none"}
    ]


def test_what_is_told_is_not_counted(tmp_path: Path) -> None:
    """Applying every announcement of a graph to it again, as a webhook that points back would: the same values, no more to tell."""
    graph = open_graph(tmp_path)
    define(graph, COUNT, BUYERS)
    apply(graph, ordered("m1", user="u"), ordered("m2", user="u"), identify("m3", {"plan": "pro"}, user="u"))
    before, known = values(graph, "user_id", "u"), len(told(graph))
    assert known == 2
    again = told(graph)
    assert apply(graph, *again).accepted == 2
    assert values(graph, "user_id", "u") == before == {"orders": 2, "buyers": True}
    assert len(told(graph)) == known + len(again)


def test_simulating_tells_and_keeps_nothing(tmp_path: Path) -> None:
    """What an event would do to the values is among what it would put into the outbox."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    would = graph.simulate([(encode_pack([ordered("m1", user="u")]), 1)], NOON)
    assert [each.source_id for each in would] == ["src", COMPUTED_SOURCE]
    assert graph.profile("user_id", "u") is None
    apply(graph, ordered("m1", user="u"))
    assert values(graph, "user_id", "u") == {"orders": 1}
    assert told(graph)[0].message_id == would[1].message_id


# Who belongs together.


def test_merge_and_unmerge(tmp_path: Path) -> None:
    """Values of both add up under the name of the one, and part again; each side is told."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    apply(graph, ordered("m1", anonymous="a"), ordered("m2", user="u"), ordered("m3", user="u"))
    apply(graph, identify("m4", {}, user="u", anonymous="a"))
    assert values(graph, "anonymous_id", "a") == {"orders": 3}
    [edge] = graph.why(("user_id", "u"), ("anonymous_id", "a")) or []
    graph.revisions.unmerge(edge.bond, "test")
    assert values(graph, "anonymous_id", "a") == {"orders": 1}
    assert values(graph, "user_id", "u") == {"orders": 2}
    apply(graph, ordered("m5", user="v"))
    graph.revisions.merge(("user_id", "v"), ("user_id", "u"), "test")
    assert values(graph, "user_id", "v") == values(graph, "user_id", "u") == {"orders": 3}
    graph.revisions.split([("user_id", "v")], "test")
    assert values(graph, "user_id", "v") == {"orders": 1}
    user = [said(each)["orders"] for each in told(graph) if each.user_id == "u"]
    assert user == [2, 3, 2, 3, 2]
    # By itself again it counts what was last told of it.
    assert [said(each)["orders"] for each in told(graph) if each.anonymous_id == "a"] == [1]


def test_what_was_told_of_a_profile_is_put_right_when_it_parts_again(tmp_path: Path) -> None:
    """An email that had an order's buyer with it, became part of a user, and is alone then: it has no orders, which is told."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    apply(graph, identify("m1", {"email": "e"}, anonymous="b"), ordered("m2", anonymous="b"))
    apply(graph, identify("m3", {"email": "e"}, user="u", at=NOON + 1))
    graph.revisions.split([("email", "e")], "test")
    last = {each.profile_id: said(each)["orders"] for each in told(graph)}
    assert last == {
        profile_id("email", "e"): 0,
        profile_id("anonymous_id", "b"): 1,
        profile_id("user_id", "u"): 0,
    }


def test_an_earlier_event_takes_ids_and_their_values_away(tmp_path: Path) -> None:
    """A shared email that turns out to be another's: whoever loses it, without being named anew, loses its orders, too."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    by_email = record("m1", body={"context": {"traits": {"email": "e"}}})
    apply(graph, by_email, identify("m2", {"email": "e"}, user="bob", at=NOON + 2), ordered("m3", user="bob"))
    assert values(graph, "user_id", "bob") == {"orders": 2}
    apply(graph, identify("m4", {"email": "e"}, user="ada", at=NOON + 1))
    assert (values(graph, "user_id", "bob"), values(graph, "user_id", "ada")) == ({"orders": 1}, {"orders": 1})
    last = {each.user_id: said(each) for each in told(graph)[-2:]}
    assert last == {"bob": {"orders": 1}, "ada": {"orders": 1}}


def test_other_rules_make_other_values(tmp_path: Path) -> None:
    """Where rules of its own part an identity's profiles, values part with them."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    for number in range(3):
        apply(graph, ordered(f"m{number}", user="u", anonymous=f"a{number}", at=NOON + number))
        apply(graph, ordered(f"n{number}", anonymous=f"a{number}", at=NOON + number))
    assert values(graph, "user_id", "u") == {"orders": 6}
    graph.revisions.set_rules(msgspec.convert({"types": {"anonymous_id": {"limit": 2}}}, Rules), Rules(), "test")
    assert values(graph, "user_id", "u") == {"orders": 5}
    assert values(graph, "anonymous_id", "a2") == {"orders": 1}
    apply(graph, ordered("m9", user="u"))
    assert values(graph, "user_id", "u") == {"orders": 6}


# Crashes.


def test_a_crash_before_the_commit_changes_nothing(tmp_path: Path) -> None:
    """A folder as it lay before a batch, opened in its place: the batch again gives the same values, told under the same ids."""
    graph = open_graph(tmp_path / "live")
    define(graph, COUNT, BUYERS)
    apply(graph, ordered("m1", user="u"), identify("m2", {"plan": "pro"}, user="u"))
    shutil.copytree(tmp_path / "live", tmp_path / "image")
    batch = [ordered("m3", user="u"), ordered("m4", anonymous="a"), identify("m5", {}, user="u", anonymous="a")]
    apply(graph, *batch)
    image = open_graph(tmp_path / "image")
    assert values(image, "user_id", "u") == {"orders": 1}
    apply(image, *batch)
    assert values(image, "user_id", "u") == values(graph, "user_id", "u") == {"orders": 3, "buyers": True}
    assert [each.message_id for each in told(image)] == [each.message_id for each in told(graph)]


def test_a_batch_that_fails_counts_nothing(tmp_path: Path) -> None:
    """The disk is full a page later each time, at last within the states: the same batch then counts once, and is told once."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    apply(graph, ordered("m1", user="u"))
    execute = graph._database.connection.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    batch = [ordered(f"n{number}", user=f"u{number % 1_000}") for number in range(2_000)]
    failed_in = ""
    while failed_in != "computed.py":
        execute(f"PRAGMA max_page_count = {pages}")
        pages += 1
        with pytest.raises(StorageFailed) as error:
            apply(graph, *batch)
        assert values(graph, "user_id", "u") == {"orders": 1}
        assert error.value.__cause__ is not None
        failed_in = Path(traceback.extract_tb(error.value.__cause__.__traceback__)[-1].filename).name
    execute("PRAGMA max_page_count = 1073741823")
    apply(graph, *batch)
    assert [values(graph, "user_id", f"u{number}") for number in range(1_000)] == [{"orders": 2}] * 1_000
    assert len(told(graph)) == 1_001


# Days.


def test_a_window_moves_on(tmp_path: Path) -> None:
    """Days fall out of it without any event; the change is told; what fell out is not kept."""
    now = NOON
    graph = Graph.open(tmp_path, "tom", dedupe_days=7, clock=lambda: now)
    define(graph, {**COUNT, "window_days": 2}, {**BUYERS, "members": {"event": "Tested", "window_days": 3}})
    apply(
        graph,
        ordered("m1", user="u", at=NOON - DAY),
        ordered("m2", user="u"),
        ordered("m3", user="u", at=NOON - 5 * DAY),
    )
    settle(graph)
    assert values(graph, "user_id", "u") == {"orders": 2, "buyers": True}
    for expected in ({"orders": 1, "buyers": True}, {"buyers": True}, {}):
        now += DAY
        assert not graph.maintain()  # one step
        settle(graph)
        assert values(graph, "user_id", "u") == expected
    assert [said(each) for each in told(graph)] == [
        {"orders": 2},
        {"buyers": True},
        {"orders": 1},
        {"orders": 0},
        {"buyers": False},
    ]
    assert graph._database.connection.execute("SELECT count(*) FROM computed_state").fetchone() == (0,)


def test_a_day_that_is_over_does_not_count_before_maintenance_comes_by(tmp_path: Path) -> None:
    """An event of the new day is told with the window as it is then."""
    now = NOON
    graph = Graph.open(tmp_path, "tom", dedupe_days=7, clock=lambda: now)
    define(graph, {**COUNT, "window_days": 1})
    apply(graph, ordered("m1", user="u"), ordered("m2", user="u"))
    now += DAY
    apply(graph, ordered("m3", user="u", at=now), now=now)
    settle(graph)
    assert [said(each)["orders"] for each in told(graph)] == [2, 1]


def test_a_sweep_is_bounded(tmp_path: Path) -> None:
    """A thousand profiles whose day is over take several steps, each a transaction; none is left out."""
    now = NOON
    graph = Graph.open(tmp_path, "tom", dedupe_days=7, clock=lambda: now)
    define(graph, {**COUNT, "window_days": 1})
    apply(graph, *(ordered(f"m{number}", user=f"u{number}") for number in range(1_000)))
    now += DAY
    steps = 0
    while not graph.maintain():
        steps += 1
    assert steps >= 5
    assert [said(each)["orders"] for each in told(graph)] == [1] * 1_000 + [0] * 1_000


# Definitions.


def test_definitions_last_and_are_audited(tmp_path: Path) -> None:
    """They are in the graph's file; each change has its line; deleting is telling no more."""
    graph = open_graph(tmp_path)
    define(graph, COUNT, BUYERS)
    graph.close()
    graph = open_graph(tmp_path)
    assert [each.definition.key for each in graph.computations.all()] == ["orders", "buyers"]
    apply(graph, ordered("m1", user="u"))
    graph.computations.delete("orders", "test")
    assert values(graph, "user_id", "u") == {}
    settle(graph)
    apply(graph, ordered("m2", user="u"))
    assert len(told(graph)) == 1
    assert [line.action for line in graph.revisions.audit(10)] == ["computation deleted", "computation", "computation"]
    tables = ("computation", "computed_state")
    counts = [graph._database.connection.execute(f"SELECT count(*) FROM {each}").fetchone()[0] for each in tables]
    assert counts == [1, 1]
    with pytest.raises(NotFound):
        graph.computations.delete("orders", "test")


def test_another_name_keeps_what_was_counted_another_meaning_does_not(tmp_path: Path) -> None:
    """A definition that counts the same goes on; one that counts otherwise begins anew."""
    graph = open_graph(tmp_path)
    define(graph, COUNT)
    apply(graph, ordered("m1", user="u"))
    define(graph, {**COUNT, "name": "Orders", "output": "track"})
    apply(graph, ordered("m2", user="u"))
    assert values(graph, "user_id", "u") == {"orders": 2}
    define(graph, {**COUNT, "where": {"all": [{"property": "p", "is": ">", "value": 5}]}})
    apply(graph, ordered("m3", 6, user="u"), ordered("m4", 4, user="u"))
    assert values(graph, "user_id", "u") == {"orders": 1}


def test_definitions_go_together_or_not_at_all(tmp_path: Path) -> None:
    """Fifty at most; a trait that an audience reads stays, and stays such that the audience means something."""
    graph = open_graph(tmp_path)
    reader = {**BUYERS, "members": {"computed": "orders", "is": ">", "value": 1}}
    with pytest.raises(InvalidRequest, match="no computed trait"):
        define(graph, reader)
    define(graph, COUNT, reader)
    with pytest.raises(InvalidRequest) as error:
        graph.computations.delete("orders", "test")
    assert error.value.code == "computation_in_use"
    define(graph, *({**COUNT, "key": f"k{number}"} for number in range(48)))
    with pytest.raises(InvalidRequest, match="50 already"):
        define(graph, {**COUNT, "key": "k48"})
    define(graph, {**COUNT, "key": "k47", "event": "Other"})
    apply(graph, ordered("m1", user="u"), ordered("m2", user="u"))
    assert values(graph, "user_id", "u") == {"orders": 2, "buyers": True} | {f"k{each}": 2 for each in range(47)}


def test_an_audience_finds_whom_it_holds_already(tmp_path: Path) -> None:
    """Traits that were set before it: maintenance looks at every profile once."""
    graph = open_graph(tmp_path)
    apply(
        graph, *(identify(f"m{each}", {"plan": "pro" if each % 2 else "free"}, user=f"u{each}") for each in range(500))
    )
    define(graph, {**BUYERS, "members": {"trait": "plan", "is": "equals", "value": "pro"}})
    settle(graph)
    assert len(told(graph)) == 250
    assert values(graph, "user_id", "u1") == {"buyers": True}
    assert values(graph, "user_id", "u2") == {}


# Accounts.


def named(message_id: str, *groups: str, price: int = 1, **given: Any) -> Record:
    """An event that names accounts in its context."""
    others = [{"id": each, "type": "group_id", "collection": "accounts", "encoding": "none"} for each in groups[1:]]
    context = {"groupId": groups[0], "externalIds": others} if groups else {}
    return record(message_id, body={"properties": {"p": price}, "context": context}, **given)


ACCOUNT_DEFINITIONS = [
    {**COUNT, "collection": "accounts"},
    {**COUNT, "key": "spent", "kind": "sum", "property": "p", "collection": "accounts", "output": "track"},
    {
        "class": "audience",
        "key": "big",
        "collection": "accounts",
        "members": {
            "all": [{"computed": "orders", "is": ">=", "value": 3}, {"trait": "plan", "is": "equals", "value": "pro"}]
        },
    },
    {**COUNT, "key": "own"},
]


def account_events() -> list[Record]:
    plan = record("g1", "group", user="u", body={"groupId": "acme", "traits": {"plan": "pro"}})
    return [
        named("m1", "acme", user="u", price=5),
        named("m2", "acme", "other", anonymous="a"),
        named("m3", user="u", price=100),
        identify("i1", {"plan": "pro"}, user="u", anonymous="a"),
        plan,
        named("m4", "acme", user="v"),
    ]


@pytest.mark.parametrize("backfilled", [False, True])
def test_accounts_have_what_their_events_say(tmp_path: Path, backfilled: bool) -> None:
    """Events that name an account count for it, whoever sent them, in any order; told as group and track calls."""
    for seed in range(20):
        random = Random(seed)
        events = account_events()
        random.shuffle(events)
        graph = open_graph(tmp_path / str(seed))
        if backfilled:
            apply(graph, *events)
        define(graph, *ACCOUNT_DEFINITIONS, backfill=backfilled)
        if backfilled:
            for each in graph.computations.all():
                if each.filling:
                    pack = (encode_pack(events), len(events))
                    graph.computations.backfill(each.computation_id, [pack], position=1, last=True)
        else:
            for each in events:
                apply(graph, each)
        settle(graph)
        assert values(graph, "group_id", "acme") == {"orders": 3, "spent": 7, "big": True}, seed
        assert values(graph, "group_id", "other") == {"orders": 1, "spent": 1}
        assert values(graph, "user_id", "u") == {"own": 3}
        assert values(graph, "user_id", "v") == {"own": 1}
        last = {(each.profile_id, *said(each).items()): each for each in told(graph)}
        account = profile_id("group_id", "acme")
        group = last[account, ("orders", 3)]
        body = msgspec.json.decode(group.payload)
        assert (group.type, group.user_id, group.anonymous_id) == ("group", None, account)
        assert (body["groupId"], body["traits"], body["integrations"]["Braze"]) == ("acme", {"orders": 3}, True)
        assert body["context"]["externalIds"] == [
            {"id": "acme", "type": "group_id", "collection": "accounts", "encoding": "none"}
        ]
        spent = msgspec.json.decode(last[account, ("spent", 7)].payload)
        assert (spent["type"], spent["event"], spent["context"]["groupId"]) == ("track", "Trait Computed", "acme")
        assert last[account, ("big", True)].type == "group"
        graph.close()


@pytest.mark.parametrize("layout", [None, Layout(1)], ids=["one graph", "a shard"])
def test_an_account_has_what_nobody_said_of_it(tmp_path: Path, layout: Layout | None) -> None:
    """A group call whose only id is blocked sets traits all the same, also where nothing else is in its batch."""
    graph = open_graph(tmp_path, layout=layout, identity="tom" if layout is None else unit_name("tom", "0"))
    members = {"trait": "plan", "is": "equals", "value": "pro"}
    define(graph, {"class": "audience", "key": "pros", "collection": "accounts", "members": members})
    settle(graph)
    apply(graph, record("m1", "group", anonymous="anonymous", body={"groupId": "acme", "traits": {"plan": "pro"}}))
    assert values(graph, "group_id", "acme") == {"pros": True}
    assert [said(each) for each in told(graph)] == [{"pros": True}]


@pytest.mark.parametrize("before", [False, True], ids=["the audience first", "the trait first"])
@pytest.mark.parametrize("unreadable", [b"1e400", b"9" * 5_000, b'{"tier":-1e999}'])
def test_a_trait_that_cannot_be_read_is_none(tmp_path: Path, unreadable: bytes, before: bool) -> None:
    """Such numbers come in by the door. An audience that reads them goes on, and so do those who have them."""
    graph = open_graph(tmp_path)
    sent = record("m1", "identify", user="u", body=b'{"type":"identify","traits":{"plan":' + unreadable + b"}}")
    if before:
        apply(graph, sent)
    define(graph, {"class": "audience", "key": "pros", "members": {"trait": "plan", "is": "equals", "value": "pro"}})
    settle(graph)
    if not before:
        assert apply(graph, sent).unusable == 0
    assert values(graph, "user_id", "u") == {}
    apply(graph, identify("m2", {"plan": "pro"}, user="u", at=NOON + 1))
    assert values(graph, "user_id", "u") == {"pros": True}


def test_an_audience_of_people_holds_no_account(tmp_path: Path) -> None:
    """Nor the other way round, also where both have the trait that it asks for; computed traits of the other kind are not read."""
    graph = open_graph(tmp_path)
    apply(graph, *account_events())
    pros = {"class": "audience", "members": {"trait": "plan", "is": "equals", "value": "pro"}}
    define(graph, {**pros, "key": "people"}, {**pros, "key": "firms", "collection": "accounts"})
    settle(graph)
    assert (values(graph, "user_id", "u"), values(graph, "group_id", "acme")) == ({"people": True}, {"firms": True})
    define(graph, COUNT)
    with pytest.raises(InvalidRequest, match="not of accounts"):
        define(graph, ACCOUNT_DEFINITIONS[2])
    graph.close()


def test_a_shard_has_no_past(tmp_path: Path) -> None:
    """An id may move to another shard while the past is counted."""
    graph = open_graph(tmp_path, identity=unit_name("tom", "0"), layout=Layout(2))
    past = Declared(read_definition({**COUNT, "key": "own"}), backfill=True)
    [refused] = graph.computations.declare([past, Declared(read_definition(ACCOUNT_DEFINITIONS[0]))])
    assert "several graphs" in refused
    with pytest.raises(InvalidRequest, match="of before"):
        define(graph, {**COUNT, "key": "own"}, backfill=True)
    assert [each.definition.key for each in graph.computations.all()] == ["orders"]
    graph.close()


# Backfill.


def backfill(graph: Graph, *records: Record, position: int, last: bool = False) -> int:
    [found] = graph.computations.all()
    pack = (encode_pack(records), len(records))
    return graph.computations.backfill(found.computation_id, [pack], position=position, last=last)


def test_what_was_before_is_counted_once(tmp_path: Path) -> None:
    """In parts, again after a crash, with what came meanwhile among it; told only at the end; nothing else is touched."""
    graph = open_graph(tmp_path)
    past = [ordered(f"p{number}", user="u", anonymous="a", received=NOON - DAY + number) for number in range(10)]
    apply(graph, *past)
    define(graph, COUNT, backfill=True)
    # Received before the definition, applied after it: counted as it came, and in the warehouse as well by then.
    waiting = ordered("w1", user="u", received=NOON - 1)
    live = ordered("l1", user="u", received=NOON + 3_600_000_000)
    apply(graph, waiting, live)
    assert told(graph) == []
    before = graph.profile("user_id", "u")
    entries = len(outbox_records(graph))
    assert backfill(graph, *past[:6], position=5) == 6
    shutil.copytree(tmp_path, tmp_path.with_name("image"))
    graph.close()
    graph = open_graph(tmp_path.with_name("image"))
    [found] = graph.computations.all()
    assert (found.filling, found.filled) == (True, 5)
    assert backfill(graph, *past[:6], position=5) == 0
    stranger = ordered("s1", user="stranger", received=NOON - DAY)
    assert backfill(graph, *past[6:], waiting, live, stranger, position=13, last=True) == 4
    assert backfill(graph, *past[6:], waiting, live, position=13, last=True) == 0
    assert (graph.profile("user_id", "u"), len(outbox_records(graph))) == (before, entries)
    assert graph.profile("user_id", "stranger") is None
    [shown] = answer(graph, "computations", {}, DEFAULT_RULES)["computations"]
    assert (shown["filling"], shown["filled"]) == (True, 14), "counted, but in no profile yet"
    settle(graph)
    [shown] = answer(graph, "computations", {}, DEFAULT_RULES)["computations"]
    assert (shown["filling"], "filled" in shown) == (False, False)
    assert values(graph, "user_id", "u") == {"orders": 12}
    assert [said(each) for each in told(graph)] == [{"orders": 12}]
    with pytest.raises(InvalidRequest) as error:
        backfill(graph, position=14)
    assert error.value.code == "not_filling"
    with pytest.raises(NotFound):
        graph.computations.backfill("nothing", [], position=1)


def test_backfill_ends_where_live_counting_began_in_any_order(tmp_path: Path) -> None:
    """Events before and after a definition, applied and filled in any order: the same as counting all."""
    for seed in range(SEEDS // 4):
        random = Random(seed)
        events = [each for each in some_events(random) if each.type == "track"]
        cut = random.randrange(len(events) + 1)
        past, live = events[:cut], events[cut:]
        for each in past:
            each.received_at = NOON - random.randrange(DAY)
        for each in live:
            each.received_at = NOON + random.randrange(-2, 200) * 1_000_000
        graph = open_graph(tmp_path / str(seed), rules=TIGHT)
        if past:
            apply(graph, *past)
        define(graph, COUNT, backfill=True)
        for each in live:
            apply(graph, each)
        warehouse = [*past, *random.sample(live, len(live) // 2)]
        random.shuffle(warehouse)
        middle = len(warehouse) // 2
        backfill(graph, *warehouse[:middle], position=1)
        backfill(graph, *warehouse[middle:], position=2, last=True)
        settle(graph)
        for ids, inside in partition(events, TIGHT_LIMITS).items():
            count = sum(ids_of(each)[0] in inside for each in events)
            assert values(graph, *ids) == ({"orders": count} if count else {}), seed
        graph.close()


# Cost.


def test_an_identity_without_definitions_pays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is called, and no statement names its tables, through batches and maintenance."""
    graph = open_graph(tmp_path)
    statements: list[str] = []
    graph._database.connection.set_trace_callback(statements.append)
    computed = graph._resolution.computed
    for name in ("stage", "write", "sweep"):
        monkeypatch.setattr(computed, name, lambda *given: pytest.fail("called"))
    for number in range(20):
        apply(
            graph,
            ordered(f"m{number}", user="u", anonymous=f"a{number % 3}"),
            identify(f"i{number}", {"a": 1}, user="u"),
        )
        graph.maintain()
    assert statements
    assert [each for each in statements if "comput" in each] == []
