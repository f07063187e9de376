"""The dispatcher: everything offered reaches its actor and is confirmed once, whatever fails on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.ingress.dispatcher import Batch, Dispatcher, decode_batches, encode_batches
from actors.ingress.journal import Journal, Run
from segment_do.errors import NotReady
from segment_do.events.record import REJECTED, Record, decode_pack, encode_record
from segment_do.settings import JournalSettings
from tests.actors.ingress.storing import stored
from tests.waiting import until


def event(message_id: str, size: int = 10) -> bytes:
    return encode_record(
        Record(message_id, "track", "src", "u", None, "E", 1, 1, None, 1, None, b'{"x":"' + b"y" * size + b'"}')
    )


class Rig:
    """A real journal feeding a dispatcher whose actors are a function of the test."""

    def __init__(self, folder: Path, apply: object, **options: object) -> None:
        self.confirmed: list[Run] = []
        self.dispatcher = Dispatcher(apply, lambda identity: f"identity:{identity}", wait=self._no_wait, **options)  # type: ignore[arg-type]
        self.journal = Journal(folder, JournalSettings(segment_bytes=1 << 16), self._offer)
        self.waits = 0

    async def send(self, identity: str, *ids: str, size: int = 10) -> None:
        pack = b"".join(event(message_id, size) for message_id in ids)
        await stored(self.journal, identity, pack, len(ids))

    def _offer(self, run: Run) -> None:
        self.dispatcher.offer(run, self._confirm)

    def _confirm(self, run: Run) -> None:
        self.confirmed.append(run)
        self.journal.confirm(run)

    async def _no_wait(self, _seconds: float) -> None:
        self.waits += 1
        await asyncio.sleep(0)


def ids(batches: list[Batch]) -> list[str]:
    return [record.message_id for _identity, count, pack in batches for record in decode_pack(pack, count)]


def test_batches_survive_the_wire() -> None:
    """What a call carries is what was packed."""
    batches: list[Batch] = [("tom", 1, b"abc"), ("ralph", 2, b"")]
    assert decode_batches(encode_batches(batches)) == batches


async def test_what_gathers_goes_in_one_call(tmp_path: Path) -> None:
    """One call is in flight per actor; everything that arrives meanwhile travels in the next, in order."""
    calls: list[list[str]] = []
    gate = asyncio.Event()

    async def apply(_name: str, batches: list[Batch]) -> None:
        calls.append(ids(batches))
        await gate.wait()

    rig = Rig(tmp_path, apply)
    await rig.send("tom", "first")
    for number in range(20):
        await rig.send("tom", f"m{number}")
    assert calls == [["first"]]
    gate.set()
    assert await rig.dispatcher.drained(5.0)
    assert calls == [["first"], [f"m{number}" for number in range(20)]]
    assert rig.journal.unapplied_bytes == 0


async def test_actors_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """An identity whose actor hangs delays no other identity."""
    done: list[str] = []
    never = asyncio.Event()

    async def apply(name: str, batches: list[Batch]) -> None:
        if name == "identity:stuck":
            await never.wait()
        done.extend(ids(batches))

    rig = Rig(tmp_path, apply, max_calls=2)
    await rig.send("stuck", "a")
    await rig.send("tom", "b")
    await until(lambda: done == ["b"])
    await rig.dispatcher.close()


async def test_a_call_that_fails_is_made_again_with_the_same_events(tmp_path: Path) -> None:
    """An actor that is restarting costs time, never an event, and nothing is confirmed before it answers."""
    attempts: list[list[str]] = []
    rig: Rig

    async def apply(_name: str, batches: list[Batch]) -> None:
        attempts.append(ids(batches))
        if len(attempts) < 10:
            assert not rig.confirmed
            raise NotReady("The actor restarts.")

    rig = Rig(tmp_path, apply)
    await rig.send("tom", "a", "b")
    assert await rig.dispatcher.drained(5.0)
    assert attempts == [["a", "b"]] * 10
    assert len(rig.confirmed) == 1


@pytest.mark.parametrize("count", [1, 2, 7, 64])
async def test_a_poison_event_is_found_and_set_aside_alone(tmp_path: Path, count: int) -> None:
    """An event that its actor cannot take is set aside with a reason; every other event of the call is applied."""
    applied: list[Record] = []

    async def apply(_name: str, batches: list[Batch]) -> None:
        records = [record for _identity, number, pack in batches for record in decode_pack(pack, number)]
        if any(record.message_id == "poison" for record in records):
            raise ZeroDivisionError
        applied.extend(records)

    rig = Rig(tmp_path, apply)
    good = [f"m{number}" for number in range(count - 1)]
    await rig.send("tom", *good[: count // 2], "poison", *good[count // 2 :])
    assert await rig.dispatcher.drained(5.0)
    assert sorted(record.message_id for record in applied if record.type != REJECTED) == sorted(good)
    (aside,) = [record for record in applied if record.type == REJECTED]
    assert b"not_applicable" in aside.payload
    assert aside.message_id == "rejected:poison"


async def test_calls_have_a_size(tmp_path: Path) -> None:
    """However much waits, one call carries about a megabyte."""
    sizes: list[int] = []

    async def apply(_name: str, batches: list[Batch]) -> None:
        sizes.append(sum(len(pack) for _identity, _count, pack in batches))

    rig = Rig(tmp_path, apply)
    for number in range(300):
        await rig.send("tom", f"m{number}", size=20_000)
    assert await rig.dispatcher.drained(5.0)
    assert sum(sizes) > 300 * 20_000
    assert max(sizes) <= 2 * 2**20


async def test_many_that_start_keep_nobody_waiting_who_runs(tmp_path: Path) -> None:
    """First calls, behind which a process has to start, have a bound of their own."""
    started = asyncio.Event()
    calls: list[str] = []

    async def apply(name: str, _batches: list[Batch]) -> None:
        calls.append(name)
        if name != "identity:tom":
            await started.wait()

    rig = Rig(tmp_path, apply, max_calls=3, max_starting=2)
    await rig.send("tom", "first")
    await until(lambda: rig.confirmed)
    for number in range(10):
        await rig.send(f"new{number}", "first")
    await rig.send("tom", "second")
    await until(lambda: len(rig.confirmed) >= 2)
    assert sorted(calls) == ["identity:new0", "identity:new1", "identity:tom", "identity:tom"]
    started.set()
    assert await rig.dispatcher.drained(5.0)
    assert len(rig.confirmed) == 12
