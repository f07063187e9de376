"""A sync whose process dies, or whose machine loses power, before any one of its file operations.

The code under test is given an ``os`` that counts what changes files and, at one of them, dies: from then on everything fails, as
for a process that is no more. Where the power goes, bytes that were not synced are gone as well, and so are names whose
directory was not. Then everything is opened again as a new process would, and the client makes the calls again that it had no
answer to, or does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from actors.control.model import Source
from actors.ingress.bulk import folder, ingest, sessions
from actors.ingress.bulk.ingest import Ingest, survey
from actors.ingress.bulk.sessions import Room, Sessions
from segment_do import home
from segment_do.errors import Conflict
from segment_do.events import bulk
from segment_do.events.record import OBJECT, decode_pack
from segment_do.settings import BulkSettings

SOURCE = Source("src_tom", "web", "tom", "key-tom", "2026-01-01T00:00:00.000Z")
SETTINGS = BulkSettings()
FILES = [
    gzip.compress(
        b"\n".join(
            json.dumps({"id": str(n), "collection": "rooms", "properties": {"n": n}}).encode() if n % 4 else b"?"
            for n in range(first, first + 12)
        )
    )
    for first in (0, 12)
]
EXPECTED = [str(n) for n in range(24) if n % 4]
Fault = Literal["kill -9", "power"]


class Dead(BaseException):
    """The process is no more."""


class DyingOs:
    """``os`` that dies before its operation number ``at``; of a write at that place half is done."""

    def __init__(self, at: int, fault: Fault) -> None:
        self.at = at
        self.fault = fault
        self.steps: list[str] = []
        self.dead = False
        self._paths: dict[int, Path] = {}
        self._unsynced: dict[Path, int] = {}
        self._unnamed: dict[Path, list[Callable[[], None]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def step(self, name: str) -> None:
        """One step, of files or of the store."""
        if self.dead:
            raise Dead
        self.steps.append(name)
        if len(self.steps) == self.at:
            self.die()

    def die(self) -> None:
        self.dead = True
        if self.fault == "power":
            for path, size in self._unsynced.items():
                if path.exists():
                    os.truncate(path, size)
            for undoing in self._unnamed.values():
                for undo in reversed(undoing):
                    with contextlib.suppress(FileNotFoundError):
                        undo()
        raise Dead

    def open(self, path: Path, flags: int, *mode: int, **options: Any) -> int:
        new = bool(flags & os.O_CREAT) and not Path(path).exists()
        if new:
            self.step(f"open {Path(path).name[:8]}")
        elif self.dead:
            raise Dead
        handle = os.open(path, flags, *mode, **options)
        self._paths[handle] = Path(path)
        if new:
            self._unsynced[Path(path)] = 0
            self._named(Path(path), lambda: os.unlink(path))
        return handle

    def write(self, handle: int, data: Any) -> int:
        try:
            self.step("write")
        except Dead:
            if self.fault == "kill -9" and len(self.steps) == self.at:
                os.write(handle, data[: len(data) // 2])
            raise
        self._unsynced.setdefault(self._paths[handle], os.fstat(handle).st_size)
        return os.write(handle, data)

    def fsync(self, handle: int) -> None:
        self.step("fsync")
        os.fsync(handle)
        self._unsynced.pop(self._paths[handle], None)
        self._unnamed.pop(self._paths[handle], None)

    def rename(self, old: Path, new: Path) -> None:
        self.step(f"rename {Path(old).name[:8]}")
        before = Path(new).read_bytes() if Path(new).is_file() else None
        os.rename(old, new)
        if old in self._unsynced:
            self._unsynced[Path(new)] = self._unsynced.pop(Path(old))

        def undo() -> None:
            os.rename(new, old)
            if before is not None:
                Path(new).write_bytes(before)

        self._named(Path(new), undo)

    replace = rename

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        os.unlink(path)

    def mkdir(self, path: Path, mode: int) -> None:
        self.step("mkdir")
        os.mkdir(path, mode)
        self._named(Path(path), lambda: shutil.rmtree(path))

    def rmdir(self, path: Path) -> None:
        self.step("rmdir")
        os.rmdir(path)

    def utime(self, path: Path, times: tuple[float, float]) -> None:
        self.step("utime")
        os.utime(path, times)

    def _named(self, path: Path, undo: Callable[[], None]) -> None:
        self._unnamed.setdefault(path.parent, []).append(undo)


class World:
    """The directory, what identities have been given, and what the client was told: all that outlives a process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()
        self.given: list[tuple[str, str, str]] = []
        self.sync: str | None = None
        self.parts = 0
        self.finished = False
        self.now = time.time()

    async def live(self, dying: DyingOs | None) -> None:
        """One process, from where the client is on: whoever is asked again hears the same."""
        room = Room(self.root, SETTINGS.max_bytes, 0)
        calls = Sessions(self.root, SETTINGS, room, clock=lambda: self.now)
        if not self.finished:
            self.send(calls)
        await self.store(dying)

    def send(self, calls: Sessions) -> None:
        if self.sync is None:
            self.sync = calls.start(SOURCE)
        for file in FILES[self.parts :]:
            upload = calls.upload(SOURCE, self.sync)
            try:
                upload.write(file)
                upload.commit()
            finally:
                with contextlib.suppress(Dead):
                    upload.abandon()
            self.parts += 1
        calls.finish(SOURCE, self.sync, "")
        self.finished = True

    async def store(self, dying: DyingOs | None) -> None:
        async def give(_identity: str, count: int, pack: bytes) -> None:
            if dying is not None:
                dying.step("store")
            self.given += [
                (one.message_id, one.type, json.loads(one.payload).get("id", "")) for one in decode_pack(pack, count)
            ]
            if dying is not None:
                dying.step("stored")

        room = Room(self.root, SETTINGS.max_bytes, 0)
        storing = Ingest(
            self.root, SETTINGS, room, give, journal="j", waiting=lambda _name: False, clock=lambda: self.now
        )
        try:
            await storing._look()
            await storing.store_finished()
            await storing._look()
        finally:
            storing.close()

    def counted(self) -> tuple[list[str], int]:
        """Ids of objects in the order in which identities count them (once each), and how many lines were set aside."""
        first = list(dict.fromkeys(self.given))
        return [object_id for _id, kind, object_id in first if kind == OBJECT], sum(
            kind != OBJECT for _id, kind, _object_id in first
        )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs a part, and a note of the progress after each."""
    monkeypatch.setattr(bulk, "_PACK_BYTES", 500)
    monkeypatch.setattr(ingest, "_SAVE_BYTES", 1)


def until_death(world: World, at: int, fault: Fault) -> DyingOs:
    """The first process; ``at`` beyond its last step: it lives."""
    dying = DyingOs(at, fault)
    with pytest.MonkeyPatch.context() as patching:
        for module in (folder, sessions, ingest, home):
            patching.setattr(module, "os", dying)
        with contextlib.suppress(Dead):
            asyncio.run(world.live(dying))
    return dying


def test_a_whole_life_has_the_steps_that_it_should(tmp_path: Path) -> None:
    """Nothing dies: everything is given once, in order; what is left says how it ended, and then that is gone as well."""
    world = World(tmp_path / "syncs")
    steps = until_death(world, 0, "kill -9").steps
    assert world.counted() == (EXPECTED, 6)
    assert len(world.given) == 24
    assert len(steps) > 60
    assert steps.count("store") >= 4
    assert world.sync is not None
    left = tmp_path / "syncs" / "src_tom" / world.sync
    assert sorted(os.listdir(left)) == ["ended", "lock", "sync.json"]
    world.now += 601
    asyncio.run(world.store(None))
    assert os.listdir(left.parent) == ["lock"]


@pytest.mark.parametrize("again", [True, False], ids=["client comes again", "client has gone"])
@pytest.mark.parametrize("fault", ["kill -9", "power"])
def test_death_at_any_step_loses_and_doubles_nothing(tmp_path: Path, fault: Fault, again: bool) -> None:
    """For each step of a sync's whole life: a promised sync is counted whole, once and in order; another one whole or not at
    all; and no file stays behind."""
    at = 0
    while True:
        at += 1
        world = World(tmp_path / str(at))
        dying = until_death(world, at, fault)
        if not dying.dead:
            break
        where = f"step {at}: {dying.steps[-3:]}"
        promised = world.finished
        if again:
            # A conflict: promised before the client heard of it, so it need not add to it, and may not.
            with contextlib.suppress(Conflict):
                asyncio.run(world.live(None))
            asyncio.run(world.store(None))
            promised = True
        else:
            asyncio.run(world.store(None))
        counted = world.counted()
        assert counted == (EXPECTED, 6) or (not promised and counted == ([], 0)), where
        world.now += 601
        asyncio.run(world.store(None))
        found = survey(world.root)
        assert found.open == found.finished == found.ended == found.damaged == [], where
        left = {path.name for path in world.root.rglob("*") if path.is_file()}
        assert left <= {"ingest.lock", "lock"}, where
    assert at > 60
