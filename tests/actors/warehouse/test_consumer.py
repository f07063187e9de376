"""The warehouse as a consumer: sees at once what is in the log, commits each event once, goes on after any failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.queue.frame import Frame
from actors.queue.log import Entry, Log
from actors.warehouse.consumer import Consumer
from segment_do.errors import NotReady
from segment_do.events.record import Record, encode_pack
from segment_do.settings import QueueSettings, WarehouseSettings
from tests.waiting import until
from warehouse import WarehouseStore

NOW = 1_790_000_000_000_000
SOON = WarehouseSettings(commit_seconds=0.05)
LATER = WarehouseSettings(commit_seconds=3600.0)


class Queue:
    """The log as the consumer calls it; can be away."""

    def __init__(self, folder: Path) -> None:
        self.log = Log(folder, QueueSettings())
        self.away = False
        self.advanced = 0
        self._seq = 0

    async def add(self, *ids: str) -> None:
        self._seq += 1
        records = [Record(name, "track", "src", "u", None, "E", NOW, NOW, None, NOW, None, b"{}") for name in ids]
        await self.log.append([Entry("tom", 1, 1, self._seq, len(records), encode_pack(records))])

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> Sequence[Frame]:
        self._check()
        return await self.log.read(offset, max_bytes, wait_seconds)

    async def end(self) -> int:
        self._check()
        return self.log.end

    async def advance(self, offset: int) -> None:
        self._check()
        self.advanced = offset

    def _check(self) -> None:
        if self.away:
            raise NotReady("The queue actor restarts.")


class Rig:
    def __init__(self, folder: Path, settings: WarehouseSettings) -> None:
        self._folder = folder
        self._settings = settings
        self.queue = Queue(folder / "log")

    async def start(self) -> Rig:
        self.store = await WarehouseStore.open(self._folder / "warehouse", self._settings)
        self.consumer = Consumer(self.store, self.queue, self._settings)
        self._running = asyncio.create_task(self.consumer.run())
        return self

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})
        await self.store.close()

    async def ids(self) -> list[str]:
        answer = await self.consumer.sql('SELECT message_id FROM events ORDER BY "offset"')
        return [row[0] for row in answer["rows"]]

    async def committed(self, offset: int) -> None:
        await until(lambda: self.queue.advanced >= offset)


async def test_sql_sees_what_is_in_the_log_before_any_commit(tmp_path: Path) -> None:
    """A query answers with every event that was in the log when it was asked."""
    rig = await Rig(tmp_path, LATER).start()
    for number in range(5):
        await rig.queue.add(f"m{number}")
        assert await rig.ids() == [f"m{earlier}" for earlier in range(number + 1)]
    assert rig.queue.advanced == 0
    await rig.stop()


async def test_each_event_is_committed_once_across_restarts(tmp_path: Path) -> None:
    """Stopped at any time and started again, the tables hold each event of the log exactly once."""
    rig = Rig(tmp_path, SOON)
    for round_ in range(4):
        await rig.start()
        await rig.queue.add(f"a{round_}", f"b{round_}")
        if round_ % 2:
            await rig.committed(2 * (round_ + 1))
        await rig.stop()
    await rig.start()
    await rig.committed(8)
    assert await rig.ids() == [f"{letter}{number}" for number in range(4) for letter in "ab"]
    assert rig.store.committed == 8
    await rig.stop()


async def test_a_queue_that_is_away_costs_time_only(tmp_path: Path) -> None:
    """While the queue restarts, queries answer with what there is; afterwards reading and committing go on."""
    rig = await Rig(tmp_path, SOON).start()
    await rig.queue.add("a")
    await rig.committed(1)
    rig.queue.away = True
    assert await rig.ids() == ["a"]
    await rig.queue.add("b")
    rig.queue.away = False
    await rig.committed(2)
    assert await rig.ids() == ["a", "b"]
    await rig.stop()


async def test_a_failed_commit_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails (here: the disk) is tried again; nothing is skipped, nothing doubled."""
    rig = await Rig(tmp_path, SOON).start()
    real = rig.store._write  # the one call that touches the disk
    failures = [0]

    def fails(*arguments: object) -> None:
        if failures[0] < 2:
            failures[0] += 1
            raise OSError(28, "No space left on device")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.store, "_write", fails)
    await rig.queue.add("a", "b")
    await rig.committed(2)
    assert failures == [2]
    assert await rig.ids() == ["a", "b"]
    await rig.stop()
