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

from segment_do.computed import COMPUTED_SOURCE
from segment_do.errors import InvalidRequest, NotFound, StorageFailed
from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph, profile_id
from segment_do.identity.rules import Rules
from tests.segment_do.computed.test_folds import plain
from tests.segment_do.identity.computing import (
    BLANK,
    BUYERS,
    COUNT,
    define,
    ordered,
    said,
    settle,
    some_events,
    told,
    values,
)
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
    partition,
    record,
)

SEEDS = int(os.environ.get("SEEDS", "120"))
KINDS = ["event_count", "sum", "most_frequent", "first", "last", "unique_list", "unique_count"]
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
