"""Identities awake and asleep: woken by their first event, exactly once through any failure of the queue, gone when idle."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.identity.activation import unfinished
from actors.identity.household import Household
from actors.naming import identity_actor
from actors.queue.log import Entry
from segment_do.errors import Busy, InvalidRequest, NotFound, NotReady, StorageFailed
from segment_do.events.record import Record, decode_pack, encode_pack
from segment_do.identity import Graph
from segment_do.settings import IdentitySettings, Settings
from segment_do.units import unit_name
from tests.waiting import until


def pack(*ids: str, user: str = "u") -> tuple[int, bytes]:
    records = [Record(name, "track", "src", user, None, "E", 1, 1, None, 1, None, b"{}") for name in ids]
    return len(records), encode_pack(records)


class Queue:
    """Takes outbox entries as the log does, or fails as it is told."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], Entry] = {}
        self.failures = 0
        self.taken = asyncio.Condition()

    async def __call__(self, entries: list[Entry]) -> None:
        if self.failures:
            self.failures -= 1
            raise Busy("The log is full.")
        async with self.taken:
            for entry in entries:
                self.entries.setdefault((entry.identity, entry.seq), entry)
            self.taken.notify_all()

    def ids(self, identity: str = "tom") -> list[str]:
        return [
            record.message_id
            for (owner, _seq), entry in sorted(self.entries.items())
            if owner == identity
            for record in decode_pack(entry.pack, entry.events)
        ]

    async def has(self, events: int, identity: str = "tom") -> list[str]:
        async with asyncio.timeout(20.0), self.taken:
            await self.taken.wait_for(lambda: len(self.ids(identity)) >= events)
        return self.ids(identity)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def settings(home: Path, **identity: Any) -> Settings:
    return Settings(home=home, identity=IdentitySettings(**identity))


async def test_events_come_out_once_in_order(tmp_path: Path, queue: Queue) -> None:
    """What was applied reaches the queue once, in the order of its application, duplicates left out."""
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a", "b"))])
    await household.apply([("tom", *pack("b", "c")), ("ralph", *pack("a"))])
    assert await queue.has(3) == ["a", "b", "c"]
    assert await queue.has(1, "ralph") == ["a"]
    await household.close()


async def test_callers_share_transactions(tmp_path: Path, queue: Queue) -> None:
    """Many callers at once are answered after few transactions, each with all of its events stored."""
    household = Household(settings(tmp_path), queue)
    await asyncio.gather(*(household.apply([("tom", *pack(f"m{number}"))]) for number in range(100)))
    assert sorted(await queue.has(100)) == sorted(f"m{number}" for number in range(100))
    assert len(queue.entries) < 50
    await household.close()


async def test_a_queue_that_refuses_delays_and_loses_nothing(tmp_path: Path, queue: Queue) -> None:
    """The outbox keeps what the queue does not take, across a restart of the identity, and hands it over later."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a", "b"))])
    await household.close()
    assert queue.ids() == []
    queue.failures = 0
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a", "c"))])
    assert await queue.has(3) == ["a", "b", "c"]
    await household.close()


async def test_an_outbox_at_its_bound_is_busy(tmp_path: Path, queue: Queue) -> None:
    """An identity whose outbox is full refuses more, so that the journal keeps it; nothing refused is applied."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path, outbox_max_bytes=1), queue)
    await household.apply([("tom", *pack("a"))])
    with pytest.raises(Busy):
        await household.apply([("tom", *pack("b"))])
    queue.failures = 0
    async with asyncio.timeout(20.0):
        await household.rest()
    await household.apply([("tom", *pack("b"))])
    assert await queue.has(2) == ["a", "b"]
    await household.close()


async def test_whoever_waits_hears_of_a_closing(tmp_path: Path, queue: Queue) -> None:
    """An identity that is let go with a transaction under way, because it was lost elsewhere, leaves nobody waiting for ever."""
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a"))])
    activation = household._awake["tom"]
    async with activation._turn:  # as long as this is held, the transaction is under way
        applying = asyncio.create_task(household.apply([("tom", *pack("b"))]))
        await until(lambda: activation._applying is not None and not activation._waiting)
        activation.closed = True  # as the queue's word that there is a newer one does
        keeping = asyncio.create_task(household.keep())
        await until(lambda: "tom" not in household._awake)
    async with asyncio.timeout(20.0):
        with pytest.raises(NotReady):
            await applying
    await keeping
    await household.apply([("tom", *pack("b", "c"))])
    assert await queue.has(3) == ["a", "b", "c"]
    await household.close()


async def test_a_file_that_fails_in_housekeeping_is_opened_again(tmp_path: Path, queue: Queue) -> None:
    """What the identity has to hand over does not wait for an event of its own."""
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a"))])
    audience = {"class": "audience", "key": "k", "members": {"trait": "plan", "is": "equals", "value": "pro"}}
    async with asyncio.timeout(20.0):
        await household.rest()
    queue.failures = 1_000_000
    await household.apply([("tom", *pack("b"))])
    await household.ask("tom", "set_computation", {"definition": audience, "by": "tester"})
    household._awake["tom"]._graph._database.connection.execute("PRAGMA query_only = 1")
    await household.keep()
    queue.failures = 0
    await household.keep()
    assert await queue.has(2) == ["a", "b"]
    await household.close()


async def test_an_idle_identity_sleeps_and_wakes(tmp_path: Path, queue: Queue) -> None:
    """Without events for its time an identity leaves memory and frees its file; the next event wakes it with all it knew."""
    now = [0.0]
    household = Household(settings(tmp_path, idle_seconds=60.0), queue, clock=lambda: now[0])
    await household.apply([("tom", *pack("a"))])
    await queue.has(1)
    await household.keep()
    assert [awake["identity"] for awake in household.status()] == ["tom"]
    now[0] = 61.0
    async with asyncio.timeout(5.0):
        await household.rest()
        while household.status():  # its last hand-over may still be under way
            await household.keep()
    now[0] = 122.0
    assert household.empty
    Graph.open(
        tmp_path / "identities" / "tom", "tom", dedupe_days=7, clock=lambda: 1
    ).close()  # nobody holds it any more
    await household.apply([("tom", *pack("a", "b"))])
    assert await queue.has(2) == ["a", "b"]
    assert not household.empty
    await household.close()


async def test_an_identity_held_elsewhere_is_not_ready(tmp_path: Path, queue: Queue) -> None:
    """Two activations never have one graph: the second is told to wait, and gets it when the first is gone."""
    first, second = Household(settings(tmp_path), queue), Household(settings(tmp_path), queue)
    await first.apply([("tom", *pack("a"))])
    with pytest.raises(NotReady):
        await second.apply([("tom", *pack("b"))])
    await first.close()
    await second.apply([("tom", *pack("a", "b"))])
    assert await queue.has(2) == ["a", "b"]
    await second.close()


async def test_a_profile_is_read_as_committed(tmp_path: Path, queue: Queue) -> None:
    """Reading a profile wakes its identity; an identity that never was is not made by asking."""
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a", user="ada"))])
    profile = await household.ask("tom", "profile", {"id": "user_id:ada"})
    assert [one["id"] for one in profile["externalIds"]] == ["ada"]
    for question, arguments in (("profile", {"id": "user_id:ada"}), ("merge", {"ids": ["a:b", "c:d"], "by": "test"})):
        with pytest.raises(NotFound):
            await household.ask("nobody", question, arguments)
    assert not (tmp_path / "identities" / "nobody").exists()
    await household.close()


async def test_a_change_by_hand_is_handed_over(tmp_path: Path, queue: Queue) -> None:
    """What became of ids reaches the queue without waiting for an event; nothing but what is on the list can be asked."""
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a", user="ada")), ("tom", *pack("b", user="bob"))])
    await queue.has(2)
    merged = await household.ask("tom", "merge", {"ids": ["user_id:ada", "user_id:bob"], "by": "test"})
    assert merged["profileId"] == (await household.ask("tom", "profile", {"id": "user_id:bob"}))["profileId"]
    assert len(await queue.has(3)) == 3
    with pytest.raises(InvalidRequest):
        await household.ask("tom", "close", {})
    await household.close()


async def test_rules_come_from_the_file(tmp_path: Path, queue: Queue) -> None:
    """Each identity has the set of its name, or else the default."""
    file = tmp_path / "rules.yaml"
    file.write_text("default: {alias: merge}\nidentities: {tom: {types: {email: {limit: 1}}}}\n")
    household = Household(settings(tmp_path, rules_file=file), queue)
    await household.apply([("tom", *pack("a")), ("ralph", *pack("a"))])
    assert await household.ask("ralph", "rules", {}) == {"rules": {"alias": "merge"}, "own": False}
    assert (await household.ask("tom", "rules", {}))["rules"] == {"types": {"email": {"limit": 1}}}
    given = {"rules": {"order": "arrival"}, "by": "test"}
    assert await household.ask("ralph", "set_rules", given) == {"rules": {"order": "arrival"}, "own": True}
    assert (await household.ask("ralph", "set_rules", {**given, "rules": None}))["rules"] == {"alias": "merge"}
    await household.close()


def test_the_naming_function() -> None:
    """dedicated: an actor an identity. pool: few actors, each identity always in the same one."""
    dedicated = identity_actor(IdentitySettings())
    assert dedicated("tom") == "identity:tom"
    pool = identity_actor(IdentitySettings(placement="pool", pool_actors=4))
    names = {pool(f"agent-{number}") for number in range(1000)}
    assert names == {f"identity-pool:{number}" for number in range(4)}
    assert pool("tom") == pool("tom")


async def test_what_a_killed_process_had_not_handed_over_needs_no_new_event(tmp_path: Path, queue: Queue) -> None:
    """Events that left the journal but not the outbox are handed over by whoever starts next, without waiting for another event."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a")), ("ralph", *pack("b"))])
    assert unfinished(tmp_path / "identities") == ["ralph", "tom"]
    await household.close()
    assert unfinished(tmp_path / "identities") == ["ralph", "tom"]  # still: their outboxes are not empty
    queue.failures = 0
    household = Household(settings(tmp_path), queue)
    await household.recover(lambda identity: identity == "tom")
    assert await queue.has(1) == ["a"]
    assert queue.ids("ralph") == []
    async with asyncio.timeout(20.0):
        await household.rest()
    await household.close()
    assert unfinished(tmp_path / "identities") == ["ralph"]


async def test_a_file_that_failed_is_opened_again(tmp_path: Path, queue: Queue) -> None:
    """After a disk error the identity is opened afresh, and what its outbox held goes out, without a new event."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path), queue)
    await household.apply([("tom", *pack("a"))])
    activation = household._awake["tom"]
    activation.closed = True  # as after StorageFailed
    queue.failures = 0
    await household.keep()
    assert household._awake["tom"] is not activation
    assert await queue.has(1) == ["a"]
    await household.close()


async def test_a_full_disk_while_waking_keeps_nobody_out(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity that cannot wake because the disk is full lets go of its file, and wakes when there is space."""
    from actors.identity import activation

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    household = Household(settings(tmp_path), queue)
    with monkeypatch.context() as patch:
        patch.setattr(activation, "write_durably", full)
        with pytest.raises(StorageFailed):
            await household.apply([("tom", *pack("a"))])
    await household.apply([("tom", *pack("a"))])
    assert await queue.has(1) == ["a"]
    await household.close()


async def test_more_than_may_be_awake_all_get_their_turn(tmp_path: Path, queue: Queue) -> None:
    """One call for many more identities than may be awake: never more are, none is put to sleep before it has handed over, no call fails."""
    household = Household(settings(tmp_path, placement="pool", max_awake=5, idle_seconds=60.0), queue)
    names = [f"agent-{number}" for number in range(60)]
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, len(unfinished(tmp_path / "identities")))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    async with asyncio.timeout(20.0):
        await household.apply([(name, *pack("a")) for name in names])
        await asyncio.gather(*(household.apply([(name, *pack("a", "b"))]) for name in names))
        for name in names:
            assert await queue.has(2, name) == ["a", "b"]
        await household.rest()
    looking.cancel()
    assert most == 5
    await household.close()
    assert unfinished(tmp_path / "identities") == []


async def test_nobody_sleeps_while_the_queue_does_not_take_its_events(tmp_path: Path, queue: Queue) -> None:
    """At the bound, with a queue that is away, who comes next waits; nothing is left lying in a sleeping identity."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path, placement="pool", max_awake=2), queue)
    await household.apply([("tom", *pack("a")), ("ralph", *pack("a"))])
    waiting = asyncio.create_task(household.apply([("ada", *pack("a"))]))
    done, _pending = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    assert sorted(awake["identity"] for awake in household.status()) == ["ralph", "tom"]
    queue.failures = 0
    async with asyncio.timeout(20.0):
        await waiting
        for name in ("tom", "ralph", "ada"):
            assert await queue.has(1, name) == ["a"]
    await household.close()


async def test_letters_wake_a_shard_beyond_the_bound(tmp_path: Path, queue: Queue) -> None:
    """Whoever sends letters has no rest before they are taken: at the bound both would wait for ever. It holds again afterwards."""
    queue.failures = 1_000_000
    household = Household(settings(tmp_path, placement="pool", max_awake=1, layouts={"ada": {"shards": 2}}), queue)
    await household.apply([("tom", *pack("a"))])
    shard = unit_name("ada", "0")
    waiting = asyncio.create_task(household.apply([(shard, *pack("b"))]))
    done, _pending = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    async with asyncio.timeout(20.0):
        await household.receive(shard, [])
        await waiting
    assert len(household.status()) == 2
    queue.failures = 0
    await until(lambda: len(household.status()) <= 1)
    await household.close()


async def test_those_at_rest_make_room_after_letters_too(tmp_path: Path, queue: Queue) -> None:
    """With a shard awake beyond the bound, who wants to wake need not wait for others to become idle that are so already."""
    household = Household(settings(tmp_path, placement="pool", max_awake=2, layouts={"ada": {"shards": 2}}), queue)
    async with asyncio.timeout(20.0):
        for name in ("tom", "ralph"):
            await household.apply([(name, *pack("a"))])
        await household.rest()
        letters = [household.receive(unit_name("ada", shard), []) for shard in ("0", "1")]
        await asyncio.gather(*letters, *(household.apply([(name, *pack("a"))]) for name in ("eve", "bob")))
        await until(lambda: len(household.status()) <= 2)
    await household.close()


async def test_memory_puts_the_longest_unused_to_sleep(tmp_path: Path, queue: Queue) -> None:
    """Identities whose ids do not fit into memory together: the one used longest ago sleeps, though its time has not come."""
    household = Household(settings(tmp_path, placement="pool", max_awake_bytes=2 * 2**20), queue)
    for name in ("tom", "ralph", "ada"):
        many = [Record(f"m{n}", "track", "src", f"u{n}", None, "E", 1, 1, None, 1, None, b"{}") for n in range(700)]
        await household.apply([(name, 700, encode_pack(many))])
        await queue.has(700, name)
    async with asyncio.timeout(20.0):
        await household.rest()
        while [awake["identity"] for awake in household.status()] != ["ralph", "ada"]:
            await household.keep()
    await household.keep()
    assert len(household.status()) == 2
    await household.close()


async def test_one_that_cannot_be_kept_costs_the_others_nothing(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Housekeeping that fails for one identity is told in the log, and the others go to sleep all the same."""
    now = [0.0]
    household = Household(settings(tmp_path, idle_seconds=60.0), queue, clock=lambda: now[0])
    await household.apply([("ralph", *pack("a"))])
    await queue.has(1, "ralph")
    now[0] = 50.0
    await household.apply([("tom", *pack("a"))])

    async def broken() -> None:
        raise StorageFailed("The disk is full.")

    monkeypatch.setattr(household._awake["tom"], "maintain", broken)
    household._awake["tom"], household._awake["ralph"] = household._awake.pop("tom"), household._awake.pop("ralph")
    now[0] = 70.0
    async with asyncio.timeout(5.0):
        await household.rest()
        while len(household.status()) > 1:
            await household.keep()
    assert household.status()[0]["identity"] == "tom"
    await household.close()


def test_a_mark_that_goes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that goes to sleep between the look into the folder and the look into its file is not unfinished."""
    for name in ("ralph", "tom"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "awake").write_bytes(name.encode())
    found = sorted(tmp_path.glob("*/awake"))
    found[0].unlink()
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: iter(found))
    assert unfinished(tmp_path) == ["tom"]
