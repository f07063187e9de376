"""Accounts whose people lie in other shards: what is computed of them is what one graph computes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from segment_do.computed import COMPUTED_SOURCE
from segment_do.events.record import Record, decode_pack
from segment_do.identity import profile_id
from segment_do.identity.shards import Layout
from segment_do.identity.shards.layout import order
from tests.segment_do.identity.computing import (
    ACCOUNT_DEFINITIONS,
    BLANK,
    define,
    named,
    said,
    settle,
    values,
)
from tests.segment_do.identity.events import NOON, apply, identify, open_graph, record
from tests.segment_do.identity.shards.sharded import Sharded
from tests.segment_do.identity.shards.test_shards import arrive

SEEDS = int(os.environ.get("SEEDS", "120"))
ACCOUNTS = ("acme", "other", "third", "fourth")


def some_events(random: Random) -> list[Record]:
    events = []
    for number in range(random.choice([5, 20, 40])):
        who = {"user": f"u{random.randrange(5)}"} if random.random() < 0.6 else {"anonymous": f"a{random.randrange(5)}"}
        at = NOON + random.randrange(1000)
        kind = random.choice(["named", "named", "named", "group", "identify", "both"])
        if kind == "named":
            groups = random.sample(ACCOUNTS, random.randrange(3))
            events.append(named(f"m{number}", *groups, price=random.randrange(9), at=at, **who))
        elif kind == "group":
            body = {"groupId": random.choice(ACCOUNTS), "traits": {"plan": random.choice(["pro", "free"])}}
            events.append(record(f"m{number}", "group", at=at, body=body, **who))
        elif kind == "identify":
            events.append(identify(f"m{number}", {"plan": "pro"}, at=at, **who))
        else:
            both = {"user": f"u{random.randrange(5)}", "anonymous": f"a{random.randrange(5)}"}
            events.append(named(f"m{number}", random.choice(ACCOUNTS), price=1, at=at, **both))
    return events


def last_said(told: list[Record], account: str) -> dict[str, Any]:
    """Of each key the value that was told of an account last; what says nothing is left out, as in profiles."""
    last: dict[str, Any] = {}
    for each in told:
        if each.source_id == COMPUTED_SOURCE and each.profile_id == profile_id("group_id", account):
            last |= said(each)
    return {key: value for key, value in last.items() if value not in BLANK}


@pytest.mark.parametrize("layout", [Layout(2), Layout(3), Layout(7)], ids=lambda layout: layout.text)
def test_accounts_have_what_their_events_say(tmp_path: Path, layout: Layout) -> None:
    """In any order, with letters late and doubled, processes killed and disks full; told to the end, and nothing twice counted."""
    assert layout.all_shards is not None
    for seed in range(SEEDS // 8):
        random = Random(f"accounts {seed} {layout.text}")
        events = some_events(random)
        one = open_graph(tmp_path / f"one {seed}")
        sharded = Sharded(tmp_path / str(seed), layout)
        for graph in (one, *(sharded.graph(each) for each in layout.all_shards)):
            define(graph, *ACCOUNT_DEFINITIONS)
        apply(one, *events)
        settle(one)
        arrive(sharded, random, events)
        for graph in sharded.graphs.values():
            settle(graph)
        for account in ACCOUNTS:
            if one.profile("group_id", account) is None:
                assert sharded.profile("group_id", account) is None
                continue
            expected = values(one, "group_id", account)
            graph = sharded.owner(("group_id", account))[0]
            assert values(graph, "group_id", account) == expected, (seed, account)
            assert last_said(sharded.told(), account) == expected, (seed, account)
        one.close()
        sharded.close()


def test_only_what_is_counted_travels(tmp_path: Path) -> None:
    """The shard of an account is sent the whole of an event where a definition counts it, and of any other what it always was."""
    sharded = Sharded(tmp_path, Layout(2))
    owner = sharded.layout.owner
    account = next(name for name in (f"g{number}" for number in range(30)) if owner(("group_id", name)) == "1")
    user = next(name for name in (f"u{number}" for number in range(30)) if owner(("user_id", name)) == "0")
    define(sharded.graph("0"), ACCOUNT_DEFINITIONS[0])
    for message_id, event in (("m1", "Tested"), ("m2", "Another")):
        body = {"properties": {"secret": "x" * 50}, "context": {"groupId": account}}
        sent = record(message_id, user=user, body=body)
        sent.event = event
        sharded.apply(sent)
        [letter] = sharded.post("0").read("1", 2**20)
        assert (b"secret" in letter.body) == (event == "Tested")
        sharded.settle()
    assert msgspec.json.decode(sharded.told()[0].payload)["properties"]["secret"]
    sharded.close()


def test_an_event_of_before_a_definition_is_not_counted_where_it_is_not_known(tmp_path: Path) -> None:
    """Its letter is on its way when the account's shard begins to count: what its properties were not, nobody can say."""
    sharded = Sharded(tmp_path, Layout(2))
    owner = sharded.layout.owner
    account = next(name for name in (f"g{number}" for number in range(30)) if owner(("group_id", name)) == "1")
    user = next(name for name in (f"u{number}" for number in range(30)) if owner(("user_id", name)) == "0")
    sharded.apply(record("m1", user=user, body={"properties": {"test": True}, "context": {"groupId": account}}))
    unmarked = {"all": [{"property": "test", "is": "not_exists"}]}
    counted = {"class": "trait", "key": "used", "kind": "event_count", "event": "Tested", "where": unmarked}
    for graph in (sharded.graph("0"), sharded.graph("1")):
        define(graph, {**counted, "collection": "accounts"})
    sharded.settle()
    assert values(sharded.graph("1"), "group_id", account) == {}
    sharded.apply(record("m2", user=user, body={"properties": {}, "context": {"groupId": account}}))
    sharded.settle()
    assert values(sharded.graph("1"), "group_id", account) == {"used": 1}
    sharded.close()


def test_a_definition_that_changes_while_facts_move(tmp_path: Path) -> None:
    """What an earlier definition of the key counted is not taken for what the present one does; what says the same is."""
    sharded = Sharded(tmp_path, Layout(2))
    owner = sharded.layout.owner
    user = next(name for name in (f"u{number}" for number in range(30)) if owner(("user_id", name)) == "1")
    device = next(name for name in (f"a{number}" for number in range(30)) if owner(("anonymous_id", name)) == "0")
    listed = {"class": "trait", "key": "prices", "kind": "unique_list", "event": "Tested", "property": "p"}
    orders = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested"}
    for shard in "01":
        define(sharded.graph(shard), listed, orders)
    sharded.apply(record("m1", anonymous=device, body={"properties": {"p": "x"}}))
    sharded.apply(record("m2", user=user, anonymous=device, body={"properties": {"p": "y"}}))
    while ("0", "1") not in sharded.waiting():
        sharded.hand_over("1", "0")
    for shard in "01":
        define(sharded.graph(shard), {**listed, "kind": "sum"}, {**orders, "name": "How many"})
    sharded.settle()
    sharded.apply(record("m3", user=user, body={"properties": {"p": 5}}))
    sharded.settle()
    assert values(sharded.graph("1"), "user_id", user) == {"orders": 3, "prices": 5}
    sharded.close()


@pytest.mark.parametrize("parted", ["0", "1"])
def test_what_is_told_last_is_the_value_also_where_a_shard_said_nothing_was_left(tmp_path: Path, parted: str) -> None:
    """Two shards tell of one profile id, one of them that it has no value any more; then their facts come together."""
    sharded = Sharded(tmp_path, Layout(2))
    named_by = ("email", "e@example.com")
    ordered = [
        each for each in (("anonymous_id", f"a{number}") for number in range(99)) if order(each) < order(named_by)
    ]
    # The email comes to lie where each of these is.
    devices = [next(value for kind, value in ordered if sharded.layout.owner((kind, value)) == each) for each in "01"]
    told: list[Record] = []
    for shard, device in zip("01", devices, strict=True):
        graph = sharded.graph(shard)
        define(graph, {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested"})
        sharded.apply(
            identify(f"i{shard}", {"email": "e@example.com"}, anonymous=device), record(f"t{shard}", anonymous=device)
        )
        if shard == parted:
            graph.revisions.split([named_by], "tester")
        told += [each for entry in graph.outbox(2**40) for each in decode_pack(entry.pack, entry.count)]
    before = {shard: sharded.graph(shard).last_seq for shard in "01"}
    sharded.settle()
    for shard, seq in before.items():
        told += [
            each
            for entry in sharded.graph(shard).outbox(2**40, after=seq)
            for each in decode_pack(entry.pack, entry.count)
        ]
    named = sharded.profile(*named_by)
    assert named is not None
    assert [each.value for each in named.external_ids] == ["e@example.com", devices[parted == "0"]]
    assert named.computed["orders"].value == "1"
    said_of = [said(each) for each in told if each.source_id == COMPUTED_SOURCE and each.profile_id == named.profile_id]
    assert said_of[-1] == {"orders": 1}
    sharded.close()
