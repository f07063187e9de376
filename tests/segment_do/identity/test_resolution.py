"""Who an event belongs to, and that the order of arrival never decides."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.events.record import Record
from segment_do.identity import Graph, profile_id, read_rules
from segment_do.identity import ids as ids_module
from segment_do.identity.rules import IdType, Rules
from tests.segment_do.identity.events import (
    HOUR,
    LIMITS,
    NOON,
    TIGHT,
    TIGHT_LIMITS,
    apply,
    identify,
    meaning,
    open_graph,
    outbox_records,
    record,
    shown,
)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return open_graph(tmp_path)


def test_an_event_with_both_ids_links_them(graph: Graph) -> None:
    """The anonymous id then resolves to the user's profile, with its own earlier traits."""
    apply(graph, identify("m1", {"plan": "free"}, anonymous="a", at=NOON - 1), record("m2", anonymous="a", user="u"))
    found = graph.profile("anonymous_id", "a")
    assert found == graph.profile("user_id", "u")
    assert found is not None
    assert found.profile_id == profile_id("user_id", "u")
    assert [(each.kind, each.value) for each in found.external_ids] == [("user_id", "u"), ("anonymous_id", "a")]
    assert found.traits == {"plan": '"free"'}


def test_the_earliest_link_by_event_time_decides(graph: Graph) -> None:
    """A link that arrives later but happened earlier takes the anonymous id; two users never merge."""
    apply(graph, record("m1", anonymous="a", user="late", at=NOON))
    apply(graph, record("m2", anonymous="a", user="early", at=NOON - 1))
    apply(graph, record("m3", anonymous="a", user="latest", at=NOON + 1))
    for user, ids in {"early": ["early", "a"], "late": ["late"], "latest": ["latest"]}.items():
        found = graph.profile("user_id", user)
        assert found is not None
        assert [each.value for each in found.external_ids] == ids


def test_equal_times_are_decided_by_message_id(graph: Graph) -> None:
    """Of two links at the same moment the smaller message id counts."""
    apply(graph, record("m2", anonymous="a", user="two"))
    apply(graph, record("m1", anonymous="a", user="one"))
    found = graph.profile("anonymous_id", "a")
    assert found is not None
    assert found.external_ids[0].value == "one"


@pytest.mark.parametrize("order", [("u1", "u2"), ("u2", "u1")])
@pytest.mark.parametrize("reopened", [False, True])
def test_one_message_id_with_two_users_is_decided_by_the_user(
    tmp_path: Path, order: tuple[str, str], reopened: bool
) -> None:
    """Sent so far apart that both count, under one message id and time: the smaller user id, whichever came first."""
    graph = open_graph(tmp_path)
    apply(graph, record("m", anonymous="a", user=order[0]))
    later = NOON + 9 * 24 * HOUR
    if reopened:
        graph.close()
        graph = open_graph(tmp_path, now=later)
    counted = apply(graph, record("m", anonymous="a", user=order[1], received=later), now=later)
    assert counted.accepted == 1
    found = graph.profile("anonymous_id", "a")
    assert found is not None
    assert found.profile_id == profile_id("user_id", "u1")
    graph.close()


def test_an_event_with_both_ids_belongs_to_its_own_user(graph: Graph) -> None:
    """Also where the anonymous id belongs to somebody else."""
    apply(graph, record("m1", anonymous="a", user="owner", at=NOON - 1))
    apply(graph, record("m2", anonymous="a", user="visitor"), record("m3", anonymous="a"))
    owner, visitor = profile_id("user_id", "owner"), profile_id("user_id", "visitor")
    assert [each.profile_id for each in outbox_records(graph)] == [owner, visitor, owner]


def test_alias_joins_nothing(graph: Graph) -> None:
    """An alias is an event like any other, a self-alias too."""
    alias = record("m1", "alias", user="u2", body={"userId": "u2", "previousId": "u1"})
    own = record("m2", "alias", user="u1", body={"userId": "u1", "previousId": "u1"})
    assert apply(graph, alias, own).unusable == 0
    for user in ("u1", "u2"):
        found = graph.profile("user_id", user)
        assert found is not None
        assert [each.value for each in found.external_ids] == [user]


def test_group_calls_make_accounts_and_members(graph: Graph) -> None:
    """Traits go to the group; the group is listed with whoever called, linked ids included; numbers become text."""
    apply(
        graph,
        record("m1", "group", anonymous="a", body={"groupId": "g", "traits": {"seats": 3}}),
        record("m2", "group", user="u", body={"groupId": 7}),
        record("m3", anonymous="a", user="u"),
    )
    person, account = graph.profile("user_id", "u"), graph.profile("group_id", "g")
    assert person is not None
    assert account is not None
    assert (person.groups, person.traits) == (["7", "g"], {})
    assert (account.profile_id[:4], account.traits) == ("acc_", {"seats": "3"})
    assert graph.profile("group_id", "7") is not None


def test_groups_go_by_the_rules(tmp_path: Path) -> None:
    """A group call's id is blocked and written like the same group in a context, so that both are one account, and found."""
    rules = Rules(types={"group_id": IdType(normalise=("lowercase",), blocked=("test",))})
    graph = open_graph(tmp_path, rules=rules)
    apply(
        graph,
        record("m1", "group", user="u", body={"groupId": "ACME", "traits": {"seats": 3}}),
        record("m2", user="v", body={"context": {"groupId": "Acme"}}),
        *(record(f"n{at}", "group", user="u", body={"groupId": bad}) for at, bad in enumerate(["-1", "0000", "Test"])),
    )
    person, account = graph.profile("user_id", "u"), graph.profile("group_id", "ACME")
    assert person is not None
    assert account is not None
    assert person.groups == ["acme"]
    assert account.traits == {"seats": "3"}
    assert [each.value for linked in graph.links(("group_id", "acme")) or () for each in linked] == ["u", "v"]
    assert graph.linked(("user_id", "u")) == [("group_id", "acme")]


def test_what_cannot_be_used_is_told_by_the_rules_as_well(tmp_path: Path) -> None:
    """Such an event has the profile of its ids as the rules write them, whether they are in memory or not, and none of blocked ones."""
    graph = open_graph(tmp_path, rules=Rules(types={"user_id": IdType(normalise=("lowercase",), priority=1)}))
    apply(graph, record("m1", user="ada"))
    useless = {"traits": [1]}
    apply(graph, record("m2", "identify", user="ADA", body=useless), record("m3", "identify", user="-1", body=useless))
    assert [each.profile_id for each in outbox_records(graph)] == [*[profile_id("user_id", "ada")] * 2, None]


def test_people_are_never_joined_by_an_account(tmp_path: Path) -> None:
    """Not where an external id calls a group a user's, nor where the rules look for groups in traits; nor is an account made of another type."""
    graph = open_graph(tmp_path, rules=read_rules({"types": {"group_id": {"keys": ["companyId"]}}}))

    def external(kind: str, collection: str) -> dict[str, Any]:
        return {"context": {"externalIds": [{"id": "g", "type": kind, "collection": collection, "encoding": "none"}]}}

    for number, body in enumerate(
        [{"traits": {"company_id": "c"}}, external("group_id", "users"), external("account_no", "accounts")]
    ):
        apply(graph, record(f"a{number}", "identify", user="ada", body=body))
        apply(graph, record(f"b{number}", "identify", user="bob", body=body))
    for user in ("ada", "bob"):
        found = graph.profile("user_id", user)
        assert found is not None
        assert ([each.value for each in found.external_ids], found.groups) == ([user], ["c"])
    assert graph.profile("account_no", "g") is None
    assert graph.profile("group_id", "g") is None
    graph.close()


def test_an_id_that_no_event_carried_has_no_profile(graph: Graph) -> None:
    """Also one that no event can carry, and a kind that does not exist."""
    assert graph.profile("user_id", "nobody") is None
    assert graph.profile("user_id", "\ud800") is None
    assert graph.profile("shoe_size", "44") is None


def test_first_and_last_seen_are_of_events_not_of_arrival(graph: Graph) -> None:
    """First to the microsecond, last to the hour, in whatever order they come."""
    for message_id, at in (("m1", NOON), ("m2", NOON + 3 * HOUR + 5), ("m3", NOON - 7), ("m4", NOON + HOUR)):
        apply(graph, record(message_id, user="u", at=at))
    found = graph.profile("user_id", "u")
    assert found is not None
    assert (found.first_seen, found.last_seen) == (NOON - 7, NOON + 3 * HOUR)


def test_a_sixth_anonymous_id_is_left_out(graph: Graph) -> None:
    """The five that were first seen with the user are his, whichever came in first; the sixth's own events are its own."""
    for minute in (3, 1, 2, 6, 4, 5):
        apply(graph, identify(f"m{minute}", {f"t{minute}": 1}, anonymous=f"a{minute}"))
        apply(graph, record(f"l{minute}", anonymous=f"a{minute}", user="u", at=NOON + minute))
    found = graph.profile("user_id", "u")
    assert found is not None
    assert [each.value for each in found.external_ids] == ["u", "a1", "a2", "a3", "a4", "a5"]
    assert set(found.traits) == {"t1", "t2", "t3", "t4", "t5"}
    sixth = graph.profile("anonymous_id", "a6")
    assert sixth is not None
    assert (sixth.profile_id, set(sixth.traits)) == (profile_id("anonymous_id", "a6"), {"t6"})


def test_a_profile_of_before_that_grows_in_the_batch_in_which_a_limit_is_met(tmp_path: Path) -> None:
    """What is in the file of it is not all: the event that came first in the batch happened last, and is the one that is left out."""
    events = [
        record("m1", user="u", anonymous="a1", at=NOON),
        record("m2", user="u", anonymous="a2", at=NOON + 2),
        record("m3", user="u", anonymous="a3", at=NOON + 1),
    ]
    graph = open_graph(tmp_path, rules=TIGHT)
    apply(graph, events[0])
    graph.close()
    graph = open_graph(tmp_path, rules=TIGHT)  # nothing in memory knows its last bond
    apply(graph, *events[1:])
    found = graph.profile("user_id", "u")
    assert found is not None
    assert [each.value for each in found.external_ids] == ["u", "a1", "a3"]
    graph.close()


def test_caches_are_bounded_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two ids a kind, profiles come out as with room for thousands."""
    monkeypatch.setattr(ids_module, "GENERATION_IDS", {"user_id": 2, "anonymous_id": 2, "other": 2})
    random = Random(3)
    events = [
        record(f"m{n}", user=random.choice(["u1", "u2", "u3", "u4", None]), anonymous=f"a{random.randrange(6)}", at=n)
        for n in range(300)
    ]
    graph = open_graph(tmp_path)
    for start in range(0, 300, 5):
        apply(graph, *events[start : start + 5])
        nodes = graph._resolution._nodes
        assert all(len(nodes.young[kind]) + len(nodes._old[kind]) <= 2 * (2 + 5) for kind in nodes.young)
    for (kind, value), expected in meaning(events).items():
        assert shown(graph.profile(kind, value)) == expected
    graph.close()


def test_what_a_change_has_read_goes_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rules may rename any number of ids; those that no event carries meanwhile are not kept."""
    monkeypatch.setattr(ids_module, "_MOST_ALIVE", 20)
    graph = open_graph(tmp_path)
    people = [identify(f"m{n}", {"email": f"{n}@example.com"}, anonymous=f"a{n}") for n in range(100)]
    apply(graph, *people)
    rules = Rules(types={"anonymous_id": IdType(priority=1)})
    graph.revisions.set_rules(rules, Rules(), "tester")
    assert graph._resolution.held >= 100
    apply(graph, record("n1", anonymous="a1", at=NOON + 1))
    assert graph._resolution.held <= 2
    apply(graph, record("n2", user="u2", anonymous="a2", at=NOON + 2))
    found = graph.profile("user_id", "u2")
    assert found is not None
    assert {each.value for each in found.external_ids} == {"u2", "a2", "2@example.com"}
    graph.close()


USERS, ANONYMOUS = st.sampled_from([None, "u1", "u2"]), st.sampled_from([None, "a1", "a2", "a3"])


EXTERNAL_IDS = st.builds(
    lambda kind, value: {"id": value, "type": kind, "collection": "users", "encoding": "none"},
    st.sampled_from(["card", "phone"]),
    st.sampled_from(["1", "2"]),
)


@st.composite
def any_event(draw: st.DrawFn, message_id: str) -> Record:
    user, anonymous = draw(USERS), draw(ANONYMOUS)
    if user is None and anonymous is None:
        user = "u3"
    kind = draw(st.sampled_from(["track", "identify", "group", "alias"]))
    traits = draw(st.none() | st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 3), max_size=2))
    if traits is not None:
        traits |= draw(st.sampled_from([{}, {}, {"email": "e1"}, {"email": "e2"}]))
    context = {"traits": {"never": 1}, "externalIds": draw(st.lists(EXTERNAL_IDS, max_size=2))}
    body = {"groupId": draw(st.sampled_from(["g1", "g2"])), "traits": traits, "context": context}
    return record(
        message_id, kind, user=user, anonymous=anonymous, at=NOON + draw(st.integers(-2, 2)) * HOUR // 2, body=body
    )


@settings(max_examples=60)
@given(data=st.data())
def test_any_order_any_repetition_any_split_gives_the_same_profiles(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Profiles are a function of the set of events."""
    events = [data.draw(any_event(f"m{number}")) for number in range(data.draw(st.integers(1, 12)))]
    arriving = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    tight = data.draw(st.booleans())
    graph = open_graph(tmp_path_factory.mktemp("graph"), **({"rules": TIGHT} if tight else {}))
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        apply(graph, *arriving[:size])
        arriving = arriving[size:]
    expected = meaning(events, TIGHT_LIMITS if tight else LIMITS)
    assert {ids: shown(graph.profile(*ids)) for ids in expected} == expected
    graph.close()


def test_ids_that_no_cache_has_are_read_together(tmp_path: Path) -> None:
    """A batch of a hundred people, after a restart, asks the file a few times and not a few hundred times, and writes no bond anew."""
    events = [record(f"m{number}", user=f"u{number}", anonymous=f"a{number}") for number in range(100)]
    graph = open_graph(tmp_path)
    apply(graph, *events)
    graph.close()
    graph = open_graph(tmp_path)
    asked: list[str] = []
    graph._database.connection.set_trace_callback(asked.append)
    again = [
        record(f"n{number}", user=f"u{number}", anonymous=f"a{number}", at=NOON + 1)
        for number in range(110)  # ten of them new
    ]
    apply(graph, *again)
    graph._database.connection.set_trace_callback(None)
    assert len([each for each in asked if each.startswith("SELECT")]) < 10
    assert len([each for each in asked if each.startswith("INSERT INTO bond ")]) == 10
    expected = meaning([*events, *again])
    assert {ids: shown(graph.profile(*ids)) for ids in expected} == expected
    graph.close()
