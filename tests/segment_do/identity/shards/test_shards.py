"""Several shards make of the same events what one graph makes of them, whatever way their letters take.

A few hundred seeds here; more by hand: `SEEDS=10000 pytest tests/segment_do/identity/shards`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from random import Random

import msgspec
import pytest

from segment_do.computed import read_definition
from segment_do.errors import StorageFailed
from segment_do.events.record import EXTERNAL_ID, Record, encode_pack
from segment_do.identity.rules import IdType, Rules
from segment_do.identity.shards import Layout, trees
from tests.segment_do.identity.events import (
    LIMITS,
    NOON,
    TIGHT,
    TIGHT_LIMITS,
    apply,
    histories,
    meaning,
    open_graph,
    partition,
    record,
    shown,
    shown_history,
)
from tests.segment_do.identity.shards.sharded import Sharded
from tests.segment_do.identity.test_orders import some_events

SEEDS = int(os.environ.get("SEEDS", "200"))
COUNT = read_definition({"class": "trait", "key": "tested", "kind": "event_count", "event": "Tested"})
LAYOUTS = [Layout(2), Layout(3), Layout(7), Layout(granularity="profile")]


def arrive(sharded: Sharded, random: Random, events: list[Record]) -> None:
    """Events in any order and some of them twice; letters late, doubled, or unconfirmed; processes killed, disks full."""
    arriving = [*events, *random.choices(events, k=random.randrange(4))]
    random.shuffle(arriving)
    while arriving:
        size = random.choice([1, 1, 2, 3, 5, len(arriving)])
        sharded.apply(*arriving[:size])
        arriving = arriving[size:]
        for _ in range(random.choice([0, 0, 1, 2, 5])):
            hand_over_somehow(sharded, random)
        if random.random() < 0.2:
            sharded.kill(random.choice(list(sharded.graphs)))
    sharded.settle(random)


def hand_over_somehow(sharded: Sharded, random: Random) -> None:
    waiting = sharded.waiting()
    if not waiting:
        return
    sender, receiver = random.choice(waiting)
    if random.random() < 0.2:
        with sharded.full_disk(receiver), suppress(StorageFailed):
            sharded.hand_over(sender, receiver)
    else:
        confirm, max_bytes = random.random() < 0.8, random.choice([1, 2**20])
        sharded.hand_over(sender, receiver, confirm=confirm, max_bytes=max_bytes)


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.text)
def test_shards_make_the_profiles_of_one_graph(tmp_path: Path, layout: Layout, tight: bool) -> None:
    """Same partition, canonical ids, traits and what they were before as plain sets give; every event comes out once; the id map ends at them."""
    for seed in range(SEEDS // len(LAYOUTS) // 2):
        random = Random(f"{seed} {tight} {layout.text}")
        events = some_events(random)
        limits = TIGHT_LIMITS if tight else LIMITS
        sharded = Sharded(tmp_path / str(seed), layout, TIGHT if tight else Rules())
        arrive(sharded, random, events)
        expected = meaning(events, limits)
        assert {ids: shown(sharded.profile(*ids)) for ids in expected} == expected, seed
        earlier = histories(events, limits)
        found = {ids: shown_history(sharded.owner(ids)[0], ids) for ids in expected}
        assert found == {ids: earlier.get(ids, {}) for ids in expected}, seed
        told = sharded.told()
        came_out = sorted(each.message_id for each in told if each.type != EXTERNAL_ID)
        assert came_out == sorted(each.message_id for each in events), seed
        check_told(sharded, told, expected, seed)
        sharded.close()


def check_told(
    sharded: Sharded, told: list[Record], expected: dict[tuple[str, str], tuple[str, ...]], seed: int
) -> None:
    """What the warehouse reads: of each id the last word of the highest generation, and every profile id ever given resolves."""
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for each in told:
        if each.type == EXTERNAL_ID:
            body = msgspec.json.decode(each.payload)
            known = last.get((body["type"], body["id"]), (-1, ""))
            if body.get("generation", 0) >= known[0]:
                last[body["type"], body["id"]] = (body.get("generation", 0), body["canonical_segment_id"])
        else:
            assert each.profile_id is not None
            assert sharded.profile_by_id(each.profile_id) is not None, seed
    for ids, (canonical, own, *_rest) in expected.items():
        if ids in last:
            assert last[ids][1] == canonical, (seed, ids)
        else:
            assert own[0][:2] == ids, (seed, ids)


def test_memory_that_is_full_of_links_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten of trees and links is read anew, beside ids that are still in memory."""
    monkeypatch.setattr(trees, "_MOST_REMEMBERED", 2)
    for seed in range(max(4, SEEDS // 20)):
        random = Random(f"links {seed}")
        events = some_events(random)
        sharded = Sharded(tmp_path / str(seed), Layout(2), TIGHT)
        for event in events:  # the others are tried in :func:`arrive`: a process that dies forgets everything
            sharded.apply(event)
            sharded.settle(random)
        expected = meaning(events, TIGHT_LIMITS)
        assert {ids: shown(sharded.profile(*ids)) for ids in expected} == expected, seed
        sharded.close()


def test_letters_alone_leave_nothing_to_be_deduplicated(tmp_path: Path) -> None:
    """A shard to which only others write does not grow by a row a step."""
    sharded = Sharded(tmp_path, Layout(2))
    owner = sharded.layout.owner
    account = next(name for name in (f"g{number}" for number in range(30)) if owner(("group_id", name)) == "1")
    users = [name for name in (f"u{number}" for number in range(60)) if owner(("user_id", name)) == "0"]
    for user in users:
        sharded.apply(record(f"m {user}", "group", user=user, body={"groupId": account}))
        sharded.settle()
    rows = sharded.graph("1")._database.connection.execute("SELECT count(*) FROM seen_recent").fetchone()
    assert len(users) > 9
    assert rows == (0,)
    sharded.close()


def test_an_id_that_moved_is_forgotten_in_every_spelling(tmp_path: Path) -> None:
    """Events spell an id as they like; where its facts have left, none of the spellings is remembered."""
    rules = Rules(types={"anonymous_id": IdType(normalise=("lowercase",))})
    sharded = Sharded(tmp_path, Layout(2), rules)
    owner = sharded.layout.owner
    phone = next(name for name in (f"phone{number}" for number in range(30)) if owner(("anonymous_id", name)) == "1")
    user = next(name for name in (f"u{number}" for number in range(30)) if owner(("user_id", name)) == "0")
    spellings = [phone.upper(), phone.title(), phone]
    home = [record(f"m{at}", anonymous=each, at=NOON + at) for at, each in enumerate(spellings)]
    for each in home:
        sharded.graph("1").apply([(encode_pack([each]), 1)], NOON)
    sharded.apply(record("n1", user=user, anonymous=phone, at=NOON + 10))
    sharded.settle()
    for at, each in enumerate(spellings, 20):
        late = record(f"m{at}", anonymous=each, at=NOON + at)
        sharded.graph("1").apply([(encode_pack([late]), 1)], NOON)
        sharded.settle()
    found = sharded.profile("user_id", user)
    assert found is not None
    assert {each.value for each in found.external_ids} == {user, phone}
    assert sorted(each.message_id for each in sharded.told() if each.type != EXTERNAL_ID) == sorted(
        [*(f"m{at}" for at in (0, 1, 2, 20, 21, 22)), "n1"]
    )
    assert {each.profile_id for each in sharded.told() if each.message_id in ("m20", "m21", "m22")} == {
        found.profile_id
    }
    sharded.close()


@pytest.mark.parametrize("layout", [Layout(1), *LAYOUTS], ids=lambda layout: layout.text)
def test_a_previous_id_is_known_in_every_spelling(tmp_path: Path, layout: Layout) -> None:
    """An alias that merges finds the user that its previous id was, also where the rules write both in lower case."""
    rules = Rules(types={"user_id": IdType(normalise=("lowercase",), priority=1, limit=1)}, alias="merge")
    sharded = Sharded(tmp_path, layout, rules)
    for number in range(8):
        sharded.apply(record(f"m{number}", user=f"bob{number}"))
        sharded.settle()
        sharded.apply(record(f"a{number}", "alias", user=f"rob{number}", body={"previousId": f"BOB{number}"}))
        sharded.settle()
        found = sharded.profile("user_id", f"rob{number}")
        assert found is not None
        assert {(each.kind, each.value) for each in found.external_ids} == {
            ("user_id", f"bob{number}"),
            ("user_id", f"rob{number}"),
        }
    sharded.close()


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.text)
def test_aliases_that_merge_and_computed_values(tmp_path: Path, layout: Layout) -> None:
    """An alias joins over shards whatever the limits say, once it is known what its previous id is; sums move with their ids."""
    rules = Rules(types=TIGHT.types, alias="merge")
    for seed in range(max(4, SEEDS // 20)):
        random = Random(f"alias {seed} {layout.text}")
        events = some_events(random)
        people = sorted({each.user_id for each in events if each.user_id})
        for number in range(random.choice([1, 2, 4]) if people else 0):
            previous = random.choice([f"a{random.randrange(6)}", random.choice(people)])
            body = {"userId": random.choice(people), "previousId": previous}
            events.append(record(f"z{number}", "alias", user=body["userId"], at=NOON + number, body=body))
        one = open_graph(tmp_path / f"one {seed}", rules=rules)
        sharded = Sharded(tmp_path / str(seed), layout, rules)
        # What a previous id is, is seen when the alias comes: it comes last.
        told, aliases = [[each for each in events if (each.type == "alias") is is_alias] for is_alias in (False, True)]
        for graph in (
            [one] if layout.all_shards is None else [one, *(sharded.graph(each) for each in layout.all_shards)]
        ):
            graph.computations.put(COUNT, "tester")
        apply(one, *told)
        apply(one, *aliases)
        for part in filter(None, (told, aliases)):
            arrive(sharded, random, part)
        for ids in partition(told, TIGHT_LIMITS):
            expected, found = one.profile(*ids), sharded.profile(*ids)
            assert expected is not None
            assert found is not None
            assert shown(found) == shown(expected), (seed, ids)
            if layout.all_shards is not None:
                values = [{key: each.value for key, each in profile.computed.items()} for profile in (expected, found)]
                assert values[0] == values[1], (seed, ids)
        one.close()
        sharded.close()
