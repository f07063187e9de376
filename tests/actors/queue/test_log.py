"""The queue's log: each outbox entry once, dense offsets, readable from anywhere, whatever the crash."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from actors.queue.log import Entry, Log
from segment_do.errors import Busy, OwnershipLost, StorageFailed
from segment_do.settings import QueueSettings

SMALL = QueueSettings(segment_bytes=2_000, max_bytes=1 << 30)


def entry(identity: str, seq: int, events: int = 1, epoch: int = 1, size: int = 10, born: int = 1) -> Entry:
    return Entry(identity, born, epoch, seq, events, f"{identity}:{seq}:".encode() + b"." * size)


async def everything(log: Log, start: int = 0, max_bytes: int = 1000) -> list[tuple[int, int, str, bytes]]:
    found: list[tuple[int, int, str, bytes]] = []
    offset = start
    while offset < log.end:
        frames = await log.read(offset, max_bytes)
        assert frames
        found += [tuple(frame) for frame in frames]  # type: ignore[misc]
        offset = frames[-1].first_offset + frames[-1].count
    return found


async def test_offsets_are_dense_and_every_reader_sees_the_same(tmp_path: Path) -> None:
    """Events get the offsets 0, 1, 2 …; reading from any offset gives the frame that holds it, then all that follow."""
    log = Log(tmp_path, SMALL)
    await asyncio.gather(*(log.append([entry("tom", seq, events=3, size=200)]) for seq in range(1, 41)))
    assert log.end == 120
    found = await everything(log)
    assert [frame[0] for frame in found] == list(range(0, 120, 3))
    for offset in (0, 1, 59, 60, 118, 119):
        frames = await log.read(offset, 1)
        assert frames[0].first_offset == offset // 3 * 3
        assert await everything(log, offset) == found[offset // 3 :]
    await log.close()


async def test_an_entry_sent_again_is_stored_once(tmp_path: Path) -> None:
    """Handing over is at least once: what the log has of an identity it does not take again, also after a restart."""
    log = Log(tmp_path, SMALL)
    await log.append([entry("tom", 1), entry("tom", 2)])
    await log.append([entry("tom", 1), entry("tom", 2), entry("tom", 3), entry("ralph", 1)])
    await log.close()
    log = Log(tmp_path, SMALL)
    await log.append([entry("tom", 3), entry("tom", 4)])
    assert [frame[3][:7].split(b".")[0] for frame in await everything(log)] == [
        b"tom:1:", b"tom:2:", b"tom:3:", b"ralph:1", b"tom:4:",
    ]  # fmt: skip
    await log.close()


async def test_a_stale_activation_is_refused(tmp_path: Path) -> None:
    """Once a newer epoch has written, the older one's entries are refused and nothing of them is stored."""
    log = Log(tmp_path, SMALL)
    await log.append([entry("tom", 1, epoch=2)])
    with pytest.raises(OwnershipLost):
        await log.append([entry("tom", 2, epoch=1)])
    await log.append([entry("tom", 2, epoch=3)])
    assert log.end == 2
    await log.close()


async def test_a_graph_that_begins_anew_is_not_taken_for_its_past(tmp_path: Path) -> None:
    """Somebody removed an identity's folder: its new graph counts from 1 again, and nothing of it is called known or stale."""
    log = Log(tmp_path, SMALL)
    await log.append([entry("tom", 1, epoch=7), entry("tom", 2, epoch=7)])
    await log.append([entry("tom", 1, born=2), entry("tom", 2, born=2), entry("tom", 1, born=2)])
    assert log.end == 4
    with pytest.raises(OwnershipLost):
        await log.append([entry("tom", 3, epoch=8)])
    await log.close()


async def test_a_reader_at_the_end_waits_for_more(tmp_path: Path) -> None:
    """A long poll returns as soon as there is something, and with nothing when its time is over."""
    log = Log(tmp_path, SMALL)
    assert await log.read(0, 1000, wait_seconds=0.01) == []
    reading = asyncio.create_task(log.read(0, 1000, wait_seconds=30.0))
    await asyncio.sleep(0)
    await log.append([entry("tom", 1)])
    assert [frame.first_offset for frame in await reading] == [0]
    await log.close()


async def test_a_failed_write_leaves_no_gap(tmp_path: Path) -> None:
    """When the disk refuses, the sender hears it, offsets stay dense, and the same entry can be sent again."""
    failing = False

    def fdatasync(handle: int) -> None:
        if failing:
            raise OSError(5, "Input/output error")
        os.fdatasync(handle)

    log = Log(tmp_path, SMALL, fdatasync=fdatasync)
    await log.append([entry("tom", 1)])
    failing = True
    with pytest.raises(StorageFailed):
        await log.append([entry("tom", 2)])
    failing = False
    await log.append([entry("tom", 2), entry("tom", 3)])
    before = await everything(log)
    await log.close()
    log = Log(tmp_path, SMALL)
    assert await everything(log) == before
    assert [frame[0] for frame in before] == [0, 1, 2]
    await log.close()


async def test_trimming_keeps_what_anyone_needs(tmp_path: Path) -> None:
    """Old files go when every consumer has passed them and their time is over; not before, and never the newest."""
    log = Log(tmp_path, SMALL)
    for seq in range(1, 101):
        await log.append([entry("tom", seq, size=200)])
    far = 2e9 + 1e6
    assert log.trim(needed_from=0, droppable_below=0, now=far) == 0
    assert log.trim(needed_from=50, droppable_below=50, now=0.0) == 0
    assert log.trim(needed_from=50, droppable_below=50, now=far) > 0
    assert 0 < log.floor <= 50
    assert (await everything(log, 50))[0][0] == 50
    assert (await log.read(0, 1))[0].first_offset == log.floor
    await log.close()
    log = Log(tmp_path, SMALL)
    assert log.end == 100
    assert (await everything(log, 50))[0][0] == 50
    await log.close()


async def test_over_its_size_the_log_drops_what_the_warehouse_has_and_else_refuses(tmp_path: Path) -> None:
    """At the bound: Busy, until the warehouse has passed enough; a slow destination does not hold the log for ever."""
    log = Log(tmp_path, QueueSettings(segment_bytes=2_000, max_bytes=10_000))
    seq = 0
    with pytest.raises(Busy):
        while True:
            seq += 1
            await log.append([entry("tom", seq, size=500)])
    assert log.trim(needed_from=0, droppable_below=0) == 0
    assert log.trim(needed_from=0, droppable_below=log.end) > 0
    await log.append([entry("tom", seq, size=500)])
    await log.close()


class LogMachine(RuleBasedStateMachine):
    """Appends, repeats, crashes, trims: the log is always the sequence of distinct entries in the order of their acceptance."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.seqs = {"tom": 0, "ralph": 0}
        self.model: list[bytes] = []
        self.open()

    def open(self) -> None:
        async def make() -> Log:
            return Log(self.folder, QueueSettings(segment_bytes=900))

        self.log = self.loop.run_until_complete(make())

    async def _append(self, entries: list[Entry]) -> None:
        await self.log.append(entries)

    @rule(
        identity=st.sampled_from(["tom", "ralph"]),
        fresh=st.integers(0, 3),
        again=st.integers(0, 2),
        size=st.integers(0, 400),
    )
    def append(self, identity: str, fresh: int, again: int, size: int) -> None:
        start = max(1, self.seqs[identity] + 1 - again)
        entries = [entry(identity, seq, size=size) for seq in range(start, self.seqs[identity] + 1 + fresh)]
        self.loop.run_until_complete(self._append(entries))
        self.model += [one.pack for one in entries if one.seq > self.seqs[identity]]
        self.seqs[identity] += fresh

    @rule(torn=st.binary(max_size=60))
    def crash(self, torn: bytes) -> None:
        self.log._appender.close()
        last = max(self.folder.glob("*.seg"))
        with last.open("ab") as stream:
            stream.write(torn)
        self.open()

    @rule(fraction=st.floats(0, 1))
    def trim(self, fraction: float) -> None:
        passed = int(len(self.model) * fraction)
        before = self.log.floor
        self.log.trim(passed, passed, now=4e9)
        assert before <= self.log.floor <= max(before, passed)

    @rule(start=st.integers(0, 200), max_bytes=st.integers(1, 5000))
    def read(self, start: int, max_bytes: int) -> None:
        start = max(min(start, len(self.model)), self.log.floor)
        found = self.loop.run_until_complete(everything(self.log, start, max_bytes))
        assert [frame[3] for frame in found] == self.model[start:]
        assert [frame[0] for frame in found] == list(range(start, len(self.model)))
        assert self.log.end == len(self.model)

    def teardown(self) -> None:
        self.log._appender.close()
        self.loop.close()


LogMachine.TestCase.settings = hypothesis_settings(max_examples=80, stateful_step_count=30)
TestLogMachine = LogMachine.TestCase
