"""Computed traits and audiences of accounts: what events say of an account, whoever sent them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from segment_do.errors import InvalidRequest
from segment_do.events.record import Record, encode_pack
from segment_do.identity import profile_id
from segment_do.identity.shards import Layout
from segment_do.units import unit_name
from tests.segment_do.identity.computing import (
    ACCOUNT_DEFINITIONS,
    COUNT,
    define,
    named,
    said,
    settle,
    told,
    values,
)
from tests.segment_do.identity.events import (
    apply,
    identify,
    open_graph,
    record,
)


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
