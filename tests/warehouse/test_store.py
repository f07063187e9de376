from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.errors import CorruptData, NotReady, OwnershipLost, StorageFailed
from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import frame, record, rejected, track_frames
from warehouse import WarehouseStore

Opener = Callable[..., Awaitable[WarehouseStore]]


@pytest.fixture
async def opener(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the warehouse of the test, and closes it at the end; ``close`` it to open it again."""
    opened: list[WarehouseStore] = []

    async def open_store(**changes: Any) -> WarehouseStore:
        settings = WarehouseSettings(**changes.pop("settings", {}))
        opened.append(await WarehouseStore.open(tmp_path / "warehouse", settings, **changes))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


async def counted(store: WarehouseStore) -> tuple[int, int]:
    """Events and distinct offsets that SQL sees, of both tables."""
    answer = await store.sql(
        'SELECT count(*), count(DISTINCT "offset") FROM'
        ' (SELECT "offset" FROM events UNION ALL SELECT "offset" FROM rejected)'
    )
    events, offsets = answer["rows"][0]
    return events, offsets


class Gate:
    """Holds a commit at the catalog, so that a test can look around meanwhile."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, _session: Session) -> None:
        self.reached.set()
        assert self.open.wait(10)


async def test_what_was_taken_is_seen_before_and_after_its_commit(opener: Opener) -> None:
    """SQL sees an event as soon as it was taken; the commit changes nothing in the answer, nor does a restart."""
    store = await opener()
    assert (store.committed, store.received, await counted(store)) == (0, 0, (0, 0))
    store.take([frame(0, [record(0), rejected(1), record(2)]), frame(3, [record(3)], "ralph")])
    assert (store.committed, store.received, store.pending_events) == (0, 4, 4)
    assert await counted(store) == (4, 4)
    assert await store.commit() == 4
    assert (store.committed, store.pending_events, store.pending_bytes) == (4, 0, 0)
    assert await counted(store) == (4, 4)
    await store.close()
    again = await opener()
    assert (again.committed, again.received) == (4, 4)
    assert await counted(again) == (4, 4)
    rows = (await again.sql('SELECT message_id, identity FROM events ORDER BY "offset"'))["rows"]
    assert rows == [["m0", "tom"], ["m2", "tom"], ["m3", "ralph"]]


async def test_frames_that_come_again_are_passed_over(opener: Opener) -> None:
    """Frames below `received` change nothing, one across it is taken in part, and a gap is refused whole."""
    store = await opener()
    store.take([frame(0, [record(0), record(1)])])
    store.take([frame(0, [record(0), record(1)]), frame(1, [record(1), record(2)])])
    assert store.received == 3
    with pytest.raises(CorruptData):
        store.take([frame(3, [record(3)]), frame(9, [record(9)])])
    assert store.received == 3
    assert await counted(store) == (3, 3)
    await store.commit()
    store.take([frame(0, [record(n) for n in range(5)])])
    assert await counted(store) == (5, 5)


async def test_never_a_row_twice_or_missing_while_a_commit_goes_on(opener: Opener) -> None:
    """Queries before, within and after a commit, with more events taken meanwhile, all see each event once."""
    store = await opener()
    store.take([frame(0, [record(0), rejected(1)])])
    gate = Gate()
    event.listen(Session, "after_commit", gate)
    try:
        commit = asyncio.ensure_future(store.commit())
        await asyncio.to_thread(gate.reached.wait, 10)  # `rejected` is committed, `events` is not
        store.take([frame(2, [record(2), rejected(3)])])
        assert await counted(store) == (4, 4)
        gate.open.set()
        assert await commit == 2
    finally:
        gate.open.set()
        event.remove(Session, "after_commit", gate)
    assert await counted(store) == (4, 4)
    assert store.pending_events == 2
    assert await store.commit() == 4
    assert await counted(store) == (4, 4)


async def test_queries_race_commits(opener: Opener) -> None:
    """Many queries beside many commits and maintenance: every answer counts a whole number of takes."""
    store = await opener(settings={"compact_files": 2, "keep_snapshots": 1})
    seen: list[tuple[int, int]] = []
    done = False

    async def ask() -> None:
        while not done:
            least = store.received
            events, offsets = await counted(store)
            assert events == offsets
            assert events % 10 == 0
            assert least <= events <= store.received
            seen.append((events, offsets))

    asking = asyncio.ensure_future(ask())
    for lo in range(0, 100, 10):
        store.take([frame(lo, [rejected(n) if n % 4 == 0 else record(n) for n in range(lo, lo + 10)])])
        await store.commit()
        if lo % 30 == 0:
            await store.maintain()
    done = True
    await asking
    assert await counted(store) == (100, 100)


async def test_a_failed_commit_keeps_the_tail(opener: Opener) -> None:
    """When the disk fails between the two tables, nothing is lost or doubled, and the next commit goes through."""
    store = await opener()
    store.take([frame(0, [record(0), rejected(1)])])
    tables: list[int] = []

    def fail(_session: Session) -> None:
        tables.append(1)
        if len(tables) == 2:
            raise OSError(28, "No space left on device")

    event.listen(Session, "before_commit", fail)
    try:
        with pytest.raises(StorageFailed):
            await store.commit()
    finally:
        event.remove(Session, "before_commit", fail)
    assert "No space left" in store.status()["lastError"]
    assert (store.committed, await counted(store)) == (0, (2, 2))
    await store.maintain()  # looks at the tables again: `rejected` is ahead
    assert (store.committed, await counted(store)) == (0, (2, 2))
    await store.close()
    store = await opener()
    store.take([frame(0, [record(0), rejected(1), rejected(2)])])
    assert await counted(store) == (3, 3)
    assert await store.commit() == 3
    assert await counted(store) == (3, 3)
    assert store.status()["lastError"] is None


async def test_commits_take_turns(opener: Opener) -> None:
    """A call while a commit runs commits what came since; a caller that goes away leaves the commit running."""
    store = await opener()
    store.take(track_frames([0]))
    gate = Gate()
    event.listen(Session, "before_commit", gate)
    try:
        first = asyncio.ensure_future(store.commit())
        await asyncio.to_thread(gate.reached.wait, 10)
        first.cancel()
        store.take(track_frames([1]))
        second = asyncio.ensure_future(store.commit())
        await asyncio.sleep(0)
        gate.open.set()
        assert await second == 2
    finally:
        gate.open.set()
        event.remove(Session, "before_commit", gate)
    assert first.cancelled()
    assert await counted(store) == (2, 2)


async def test_pending_is_measured(opener: Opener) -> None:
    """The caller learns what waits: bytes, events, and for how long by the clock that it gave."""
    now = 100.0
    store = await opener(clock=lambda: now)
    assert store.oldest_pending_age() == 0.0
    store.take(track_frames([0], text="x" * 10_000))
    now = 103.0
    store.take(track_frames([1]))
    assert store.oldest_pending_age() == 3.0
    assert store.oldest_pending_age(110.0) == 10.0
    assert 10_000 < store.pending_bytes < 13_000
    await store.commit()
    assert (store.oldest_pending_age(), store.pending_bytes) == (0.0, 0)


async def test_properties_are_columns_from_the_tail_on(opener: Opener) -> None:
    """A property can be named as soon as its first event was taken, and after a restart."""
    store = await opener()
    sql = "SELECT sum(qty), max(plan) FROM events"
    store.take(track_frames([0], qty=2, plan="pro"))
    assert (await store.sql(sql))["rows"] == [[2, "pro"]]
    await store.commit()
    store.take(track_frames([1], qty=3.5))
    assert (await store.sql(sql))["rows"] == [[5.5, "pro"]]
    await store.commit()
    await store.close()
    store = await opener()
    assert (await store.sql(sql))["rows"] == [[5.5, "pro"]]


async def test_contains_looks_everywhere(opener: Opener) -> None:
    """An event is found in the tail and in the files, set aside or not, whatever its id looks like."""
    store = await opener()
    odd = "it's; -- \x00"
    store.take([frame(0, [record(0, message_id=odd), rejected(1)])])
    for _ in range(2):
        assert await store.contains(odd)
        assert await store.contains("m1")
        assert not await store.contains("m2")
        await store.commit()


async def test_rejected_are_listed_newest_first(opener: Opener) -> None:
    """The newest set-aside events come first, from files and tail, in the names of the API."""
    store = await opener()
    store.take([frame(0, [rejected(0), record(1), rejected(2, payload='{"a":1}')])])
    await store.commit()
    store.take([frame(3, [rejected(3, index=None)], "ralph")])
    listed = await store.rejected(2)
    assert [entry["messageId"] for entry in listed] == ["m3", "m2"]
    assert listed[0]["index"] is None
    assert listed[1] == {
        "receivedAt": "2026-11-02T12:00:00.000002Z",
        "sourceId": "src",
        "identity": "tom",
        "code": "missing_event",
        "message": "event is missing",
        "type": "track",
        "messageId": "m2",
        "index": 0,
        "payload": '{"a":1}',
    }


async def test_maintenance_runs_beside_queries(opener: Opener) -> None:
    """Compaction replaces the files under the queries' feet without changing an answer."""
    store = await opener(settings={"compact_files": 3})
    for lo in range(3):
        store.take(track_frames([lo]))
        await store.commit()
    assert store.status()["tables"]["events"]["files"] == 3
    report = await store.maintain()
    assert report.compacted_files == 3
    assert store.status()["tables"]["events"]["files"] == 1
    assert await counted(store) == (3, 3)
    store.take(track_frames([3]))
    assert await store.commit() == 4


async def test_one_at_a_time_and_closed_is_closed(opener: Opener) -> None:
    """A second store is refused while the first is open; a closed one says so."""
    store = await opener()
    with pytest.raises(OwnershipLost):
        await opener()
    store.take(track_frames([0]))
    await store.close()
    await store.close()
    for call in (store.commit, store.maintain, lambda: store.sql("SELECT 1")):
        with pytest.raises(NotReady):
            await call()


async def test_a_log_that_was_set_back_is_refused(opener: Opener) -> None:
    """Frames of another, shorter log are recognised as taken; its offsets never overwrite what is stored."""
    store = await opener()
    store.take(track_frames(range(3)))
    await store.commit()
    store.take(track_frames(range(2)))
    assert (store.received, await store.commit(), await counted(store)) == (3, 3, (3, 3))


@pytest.mark.parametrize("name", ["with space", "it's", "a%20b", "x?y#z", "a*b[c]{d}", "größe"])
async def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    """The data directory may be called anything; everything lies in it, and SQL reads it."""
    store = await WarehouseStore.open(tmp_path / name, WarehouseSettings())
    store.take(track_frames([0]))
    await store.commit()
    assert await counted(store) == (1, 1)
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "catalog.db").exists()


async def test_a_full_disk_at_the_catalogue(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property catalogue comes before the commit; when it cannot be written, nothing is committed."""
    store = await opener()
    store.take(track_frames([0], plan="pro"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("warehouse.catalogue.write_durably", full)
    with pytest.raises(StorageFailed, match="No space left"):
        await store.commit()
    assert store.committed == 0
    monkeypatch.undo()
    assert await store.commit() == 1
    assert (await store.sql("SELECT plan FROM events"))["rows"] == [["pro"]]
