"""Finished syncs on their way into a store: resumed where it stood, in order over a crash, and not held up by a damaged one."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from actors.control.model import Source
from actors.ingress.bulk import ingest as ingest_module
from actors.ingress.bulk.folder import SyncFolder
from actors.ingress.bulk.ingest import Ingest
from actors.ingress.bulk.sessions import Room, Sessions
from segment_do.errors import Conflict, NotFound
from segment_do.events import bulk
from segment_do.events.record import Record, decode_pack
from segment_do.settings import BulkSettings

SOURCE = Source("src_tom", "web", "tom", "key-tom", "2026-01-01T00:00:00.000Z")
SETTINGS = BulkSettings()


class Stopped(Exception):
    """The store takes no more: the process is being killed."""


class Rig:
    """A directory with syncs, and what was stored of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.room = Room(root, SETTINGS.max_bytes, 0)
        self.calls = Sessions(root, SETTINGS, self.room)
        self.stored: list[Record] = []
        self.takes = 10**9
        self.open: list[Ingest] = []
        self.now = time.time()

    async def store(self, identity: str, count: int, pack: bytes) -> None:
        assert identity == "tom"
        if len(self.stored) >= self.takes:
            raise Stopped
        self.stored += decode_pack(pack, count)

    def ingest(self, journal: str = "mine", waiting: Callable[[str], bool] = lambda name: False) -> Ingest:
        made = Ingest(
            self.root, SETTINGS, self.room, self.store, journal=journal, waiting=waiting, clock=lambda: self.now
        )
        self.open.append(made)
        return made

    def sync(self, *files: bytes) -> SyncFolder:
        """A finished one."""
        sync_id = self.calls.start(SOURCE)
        for text in files:
            upload = self.calls.upload(SOURCE, sync_id)
            upload.write(gzip.compress(text))
            upload.commit()
            upload.abandon()
        self.calls.finish(SOURCE, sync_id, "")
        return SyncFolder(self.root / SOURCE.id / sync_id)

    def ids(self) -> list[str]:
        return [json.loads(record.payload)["id"] for record in self.stored]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    for one in made.open:
        one.close()


def lines(first: int, last: int) -> bytes:
    return b"\n".join(
        json.dumps({"id": str(n), "collection": "rooms", "properties": {"t": "x" * 50}}).encode()
        for n in range(first, last)
    )


async def test_syncs_are_stored_in_the_order_in_which_they_were_finished(rig: Rig) -> None:
    """Whatever their ids; all objects of one count as received when it was finished."""
    for number in range(5):
        rig.sync(lines(number, number + 1))
    await rig.ingest().store_finished()
    assert rig.ids() == ["0", "1", "2", "3", "4"]
    received = [record.received_at for record in rig.stored]
    assert received == sorted(received)


async def test_a_restart_does_not_start_from_zero(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole parts are gone, and of the one in hand only what came after the last note is read again, under the same ids."""
    monkeypatch.setattr(bulk, "_PACK_BYTES", 1_000)
    monkeypatch.setattr(ingest_module, "_SAVE_BYTES", 3_000)
    folder = rig.sync(lines(0, 100), lines(100, 200))
    rig.takes = 160
    with pytest.raises(Stopped):
        await rig.ingest().store_finished()
    first = list(rig.stored)
    assert len(folder.parts()) == 1
    rig.takes, rig.stored = 10**9, []
    await rig.ingest().store_finished()
    again = {record.message_id for record in first} & {record.message_id for record in rig.stored}
    assert 0 < len(again) < 50
    whole = dict.fromkeys(record.message_id for record in [*first, *rig.stored])
    assert list(whole) == [f"{folder.id}:{part}:{line}" for part in (1, 2) for line in range(1, 101)]
    assert (folder.state, folder.parts()) == ("ended", [])


async def test_an_earlier_journal_goes_first(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead replica had stored of a sync is applied before any more of it; other syncs need not wait, nor this one for
    ever."""
    monkeypatch.setattr(bulk, "_PACK_BYTES", 100)
    first = rig.sync(lines(0, 9))
    rig.takes = 4
    with pytest.raises(Stopped):
        await rig.ingest("dead").store_finished()
    rig.takes = 10**9
    rig.sync(lines(10, 11))
    await rig.ingest("mine", lambda name: name == "dead").store_finished()
    assert rig.ids() == ["0", "1", "2", "3", "10"]
    assert first.state == "finished"
    late = rig.ingest("mine", lambda name: name == "dead")
    await late.store_finished()
    rig.now += 601
    await late.store_finished()
    assert first.state == "ended"
    assert set(rig.ids()) == {*map(str, range(9)), "10"}


async def test_a_damaged_part_is_left_for_a_human(rig: Rig) -> None:
    """The sync is kept as it is and told in the status; those behind it are stored, and the client hears no lie."""
    broken, sound = rig.sync(lines(0, 1)), rig.sync(lines(1, 2))
    part = broken.parts()[0].path
    part.write_bytes(part.read_bytes()[:-9])
    one = rig.ingest()
    await one.store_finished()
    assert rig.ids()[-1] == "1"
    assert (broken.state, sound.state) == ("damaged", "ended")
    found = await one._look()
    assert [folder.id for folder in found.damaged] == [broken.id]
    assert part.exists()
    rig.calls.finish(SOURCE, broken.id, "")


@pytest.mark.parametrize("name", ["finished", "sync.json", "progress"])
async def test_a_damaged_note_is_left_for_a_human(rig: Rig, name: str) -> None:
    """As a damaged part is: it holds up nobody."""
    broken, sound = rig.sync(lines(0, 1)), rig.sync(lines(1, 2))
    (broken.path / name).write_bytes(b"\0\0")
    one = rig.ingest()
    await one.store_finished()
    assert (rig.ids(), broken.state, sound.state) == (["1"], "damaged", "ended")
    (sound.path / "ended").write_bytes(b"")
    await one._look()
    rig.now += 601
    await one._look()
    assert (sound.state, broken.state) == (None, "damaged")


async def test_one_at_a_time_stores(rig: Rig) -> None:
    """The lock is free again when its holder closes."""
    one, two = rig.ingest(), rig.ingest()
    for each in (one, two):
        await each._look()
    assert (one._lock >= 0, two._lock >= 0) == (True, False)
    one.close()
    await two._look()
    assert two._lock >= 0


async def test_too_many_bad_lines_are_told_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all parts of a sync."""
    monkeypatch.setattr(bulk, "MOST_REJECTED", 3)
    rig.sync(b"?\n?\n", b"?\n?\n" + lines(0, 1) + b"\n?")
    one = rig.ingest()
    await one.store_finished()
    assert [record.event for record in rig.stored] == ["malformed_object"] * 3 + ["rooms", "too_many_rejected"]
    assert (one.status()["objects"], one.status()["rejectedLines"]) == (1, 5)


async def test_a_file_that_comes_too_late_is_no_part(rig: Rig) -> None:
    """Its sync was finished, or is gone, while it was on its way: no id, no part, and nothing is left of it."""
    sync_id = rig.calls.start(SOURCE)
    late = [rig.calls.upload(SOURCE, sync_id) for _ in range(2)]
    for upload in late:
        upload.write(gzip.compress(lines(0, 1)))
    rig.calls.finish(SOURCE, sync_id, "")
    with pytest.raises(Conflict):
        late[0].commit()
    await rig.ingest().store_finished()
    shutil.rmtree(rig.root / SOURCE.id / sync_id)
    with pytest.raises(NotFound):
        late[1].commit()
    for upload in late:
        upload.abandon()
    assert rig.stored == []
    assert [path.name for path in (rig.root / SOURCE.id).iterdir()] == ["lock"]
