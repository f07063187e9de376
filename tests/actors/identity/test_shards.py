"""An identity laid out over shards, from the door to the log: every event once under the identity's own name, letters through any failure."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.identity.activation import unfinished
from actors.identity.household import Household
from actors.naming import identity_actor
from segment_do.errors import NotFound, NotReady
from segment_do.events.record import EXTERNAL_ID, Record, decode_pack, encode_pack
from segment_do.identity import DEFAULT_RULES
from segment_do.identity.shards import layouts, splitter
from segment_do.identity.shards.asking import ask_shards
from segment_do.identity.shards.letters import Envelope
from segment_do.settings import IdentitySettings, Settings
from segment_do.units import shown_name, unit_name
from tests.actors.identity.test_household import Queue
from tests.actors.inprocess import path

SHARDED = {"tom": {"shards": 3}}
PERSONS = {"tom": {"granularity": "profile"}}


def settings(home: Path, **identity: Any) -> Settings:
    return Settings(home=home, identity=IdentitySettings(**{"layouts": SHARDED, **identity}))


def track(name: str, user: str | None, anonymous: str | None, at: int = 1) -> Record:
    return Record(name, "track", "src", user, anonymous, "E", at, 1, None, 1, None, b"{}")


def batches(given: Settings, records: list[Record]) -> list[tuple[str, int, bytes]]:
    split = splitter(given.identity)
    assert split is not None
    return split(("tom", len(records), encode_pack(records)))


def delivered(queue: Queue) -> Counter[str]:
    return Counter(
        record.message_id
        for entry in queue.entries.values()
        for record in decode_pack(entry.pack, entry.events)
        if record.type != EXTERNAL_ID
    )


async def quiet(household: Household, queue: Queue, events: int) -> None:
    """All events are in the queue, and no shard has anything on its way."""
    async with asyncio.timeout(20.0), queue.taken:
        await queue.taken.wait_for(lambda: len(delivered(queue)) >= events)
    async with asyncio.timeout(20.0):
        await household.rest()


async def profile(given: Settings, household: Household, one: str) -> list[str]:
    found = await ask_shards(
        layouts(given.identity)["tom"], "tom", DEFAULT_RULES, household.ask, "profile", {"id": one}
    )
    return [each["id"] for each in found["externalIds"]]


@pytest.mark.parametrize("layout", [SHARDED, PERSONS])
async def test_people_with_many_ids_come_together(tmp_path: Path, layout: dict[str, Any]) -> None:
    """Forty people, five ids each, met in all orders: forty profiles, every event once."""
    given, queue = settings(tmp_path, layouts=layout), Queue()
    household = Household(given, queue)
    people = range(40)
    records = [
        track(f"m{person}-{device}", f"u{person}" if device % 2 else None, f"a{person}-{device // 2}")
        for device in range(8)
        for person in people
    ]
    for at in range(0, len(records), 32):
        await household.apply(batches(given, records[at : at + 32]))
    await quiet(household, queue, len(records))
    assert set(delivered(queue).values()) == {1}
    for person in people:
        assert await profile(given, household, f"anonymous_id:a{person}-0") == [
            f"u{person}", *(f"a{person}-{device}" for device in range(4))
        ]  # fmt: skip
    await household.close()
    assert unfinished(given.paths.root / "identities") == []


async def test_who_never_came_is_not_found_and_no_shard_is_named(tmp_path: Path) -> None:
    """With a shard for every person nobody's shard is there: what is said is of the person, not of the file."""
    given = settings(tmp_path, layouts=PERSONS)
    household = Household(given, Queue())
    for question in ("profile", "links", "trait_history"):
        with pytest.raises(NotFound, match=r"^Profile was not found\.$"):
            await ask_shards(
                layouts(given.identity)["tom"], "tom", DEFAULT_RULES, household.ask, question, {"id": "user_id:nobody"}
            )
    await household.close()


async def test_letters_wait_for_a_shard_that_is_away(tmp_path: Path) -> None:
    """One shard takes nothing for a while; its letters come when it does, also out of the file after all have been asleep."""
    given, queue = settings(tmp_path), Queue()
    away = asyncio.Event()
    refused = asyncio.Event()

    async def deliver(unit: str, letters: list[Envelope]) -> None:
        if not away.is_set():
            refused.set()
            raise NotReady("This shard is away.")
        await household.receive(unit, letters)

    household = Household(given, queue, deliver=deliver)
    records = [track(f"m{number}", f"u{number % 5}", f"a{number}") for number in range(25)]
    await household.apply(batches(given, records))
    async with asyncio.timeout(20.0):
        await refused.wait()
    await household.close()
    assert unfinished(given.paths.root / "identities"), "those with letters are to be woken"
    away.set()
    household = Household(given, queue, deliver=deliver)
    await household.recover(lambda _unit: True)
    await quiet(household, queue, 25)
    ids = await profile(given, household, "user_id:u0")
    assert sorted(ids) == sorted(["u0", *(f"a{number}" for number in range(0, 25, 5))])
    await household.close()


async def test_from_the_door_to_the_log(tmp_path: Path) -> None:
    """A batch over HTTP is split by shard behind the journal; the log knows the identity alone."""
    async with path(tmp_path, identity={"layouts": SHARDED}) as running:
        events = [
            {"type": "track", "event": "E", "userId": f"u{number % 4}", "anonymousId": f"a{number}", "messageId": f"m{number}"}
            for number in range(20)
        ]  # fmt: skip
        for _ in range(2):
            assert (await running.post("/v1/batch", {"batch": events})).status_code == 200
        found = await running.logged(20)
        assert {each.message_id for each in found} == {f"m{number}" for number in range(20)}
        assert {frame.identity for frame in await running.hub.read(0, 1 << 20, 0.0)} == {"tom"}
        awake = {each["identity"] for each in running.household.status()}
        assert awake <= {"tom#0", "tom#1", "tom#2"}
        assert len(awake) > 1


def test_a_shard_is_an_actor_of_its_own() -> None:
    """By name in `dedicated` placement; spread over the pool's actors otherwise."""
    units = [unit_name("acme", str(number)) for number in range(8)]
    assert identity_actor(IdentitySettings())(units[3]) == "identity:acme#3"
    assert shown_name(units[3]) == "acme#3"
    pool = identity_actor(IdentitySettings(placement="pool", pool_actors=4))
    assert len({pool(unit) for unit in units}) > 1
