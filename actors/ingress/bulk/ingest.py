"""Finished syncs on their way into the journal, in one replica at a time; and an end to those that nobody finished.

Whoever holds the lock reads the parts of the sync that was finished first, line by line, and has them stored in bounded packs, one
at a time: where the store is at its bound this waits, and loses nothing. How far it has come is written down now and then,
always behind what is stored. So after a crash some packs are stored again, with the same message ids, and identities count
those once.

The order of lines is kept over a crash as well: what the dead replica stored lies in its journal, and nothing of that sync is
stored here before that journal was adopted.

Bounds: one pack in memory; one sync at a time; a journal that nobody can adopt holds up a sync for ``_ADOPTION_SECONDS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from actors.ingress.bulk.folder import About, PartFile, Progress, SyncFolder, locked, remove_folder
from actors.ingress.bulk.sessions import Room, is_over
from segment_do.errors import CorruptData, InvalidRequest, SegmentDoError
from segment_do.events.bulk import Part, Rows, lines_of, rest_rejected, rows_of
from segment_do.events.unzip import Unzip
from segment_do.settings import BulkSettings

__all__ = ["Ingest", "Store", "Survey", "survey"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
Store = Callable[[str, int, bytes], Awaitable[None]]
"""(identity, records, pack) → returns when they are durable; waits for as long as that takes."""

_READ_BYTES: Final = 256 * 1024
_SAVE_BYTES: Final = 8 * 2**20
"""Stored between two notes of the progress: so much is read twice after a crash."""
_LOOK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 5.0
_ADOPTION_SECONDS: Final = 600.0
_MOST_ENDED: Final = 200
"""Syncs of one source that have ended and are still known; the oldest go first."""


class Survey(NamedTuple):
    """All syncs there are."""

    open: list[SyncFolder]
    finished: list[SyncFolder]
    ended: list[SyncFolder]
    damaged: list[SyncFolder]
    size_bytes: int


def survey(root: Path) -> Survey:
    """Look at every sync. Blocking."""
    found = Survey([], [], [], [], 0)
    size = 0
    for source in _folders(root):
        for path in _folders(source):
            folder = SyncFolder(path)
            size += folder.size_bytes
            if (state := folder.state) is not None and not path.name.startswith("."):
                getattr(found, state).append(folder)
    return found._replace(size_bytes=size)


class Ingest:
    """One event loop uses it: :meth:`run` until cancelled, then :meth:`close`.

    ``journal`` is the name of the journal that ``store`` writes to; ``waiting`` says whether that of another replica still
    has something to be applied.
    """

    def __init__(
        self,
        root: Path,
        settings: BulkSettings,
        room: Room,
        store: Store,
        *,
        journal: str,
        waiting: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._settings = settings
        self._room = room
        self._store = store
        self._journal = journal
        self._waiting = waiting
        self._clock = clock
        self._lock = -1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bulk ingest")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="bulk look")
        self._more = asyncio.Event()
        self._held_up: dict[str, float] = {}
        self._found = Survey([], [], [], [], 0)
        self.objects = self.rejected_lines = self.stored_syncs = 0

    def status(self) -> dict[str, int]:
        """Sizes as of the last look, and what this replica has stored."""
        return {
            "openSyncs": len(self._found.open),
            "finishedSyncs": len(self._found.finished),
            "damagedSyncs": len(self._found.damaged),
            "waitingBytes": self._found.size_bytes,
            "storedSyncs": self.stored_syncs,
            "objects": self.objects,
            "rejectedLines": self.rejected_lines,
        }

    def wake(self) -> None:
        """Something was finished."""
        self._more.set()

    async def run(self) -> None:
        """Look after all syncs until cancelled."""
        storing = asyncio.create_task(self._store_for_ever(), name="store syncs")
        try:
            while True:
                try:
                    self._found = await self._look()
                    self._room.count(self._found.size_bytes)
                except Exception:
                    log.exception("syncs could not be looked after; this will be tried again")
                self._more.set()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)

    def close(self) -> None:
        """Let another replica go on. Waits for the step in hand: a few thousand lines, or one look."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._looking.shutdown(wait=True, cancel_futures=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def store_finished(self) -> None:
        """Store every finished sync, those finished first first."""
        for folder in await self._there(_in_order, self._root):
            try:
                await self._store_sync(folder)
            except (InvalidRequest, CorruptData, FileNotFoundError) as error:
                log.exception("a sync is damaged and is left for a human", sync=folder.id)
                await self._there(folder.damage, str(error))
            except (OSError, SegmentDoError):
                log.exception("a sync could not be stored; it will be tried again", sync=folder.id)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _store_for_ever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            if self._lock >= 0:
                try:
                    await self.store_finished()
                except Exception:
                    log.exception("finished syncs could not be stored; this will be tried again")

    async def _store_sync(self, folder: SyncFolder) -> None:
        about, at, progress = await self._there(_opened, folder)
        if progress is not None and self._must_wait(folder, progress):
            return
        if progress is None or progress.journal != self._journal:
            progress = progress or Progress(self._journal)
            progress.journal = self._journal
            await self._there(folder.save, progress)  # before anything is in that journal
        for file in await self._there(folder.parts):
            if file.number >= progress.part:
                part = Part(folder.id, file.number, about.source_id, at)
                await self._store_part(folder, about, file, part, progress)
        rest = rest_rejected(Part(folder.id, 0, about.source_id, at), progress.rejected)
        if rest is not None:
            await self._store(about.identity, rest.records, rest.pack)
        await self._there(_end, folder, self._clock())
        self.stored_syncs += 1
        self._held_up.pop(folder.id, None)
        log.info("sync stored", sync=folder.id, objects=progress.objects, rejected_lines=progress.rejected)

    async def _store_part(
        self, folder: SyncFolder, about: About, file: PartFile, part: Part, progress: Progress
    ) -> None:
        after = progress.line if file.number == progress.part else 0
        packs = rows_of(lines_of(_pieces(file.path)), part, after=after, rejected=progress.rejected)
        unsaved = 0
        while (rows := await self._there(_next, packs)) is not None:
            if rows.records:
                await self._store(about.identity, rows.records, rows.pack)
            self._count(rows, progress)
            progress.part, progress.line = file.number, rows.line
            unsaved += len(rows.pack)
            if unsaved >= _SAVE_BYTES:
                unsaved = 0
                await self._there(folder.save, progress)
        progress.part, progress.line = file.number + 1, 0
        await self._there(_pass, folder, progress, file)

    def _count(self, rows: Rows, progress: Progress) -> None:
        progress.objects += rows.objects
        progress.rejected += rows.rejected
        self.objects += rows.objects
        self.rejected_lines += rows.rejected

    def _must_wait(self, folder: SyncFolder, progress: Progress) -> bool:
        if progress.journal == self._journal or not self._waiting(progress.journal):
            return False
        since = self._held_up.setdefault(folder.id, self._clock())
        if abs(self._clock() - since) < _ADOPTION_SECONDS:
            return True
        log.warning("a sync goes on although an earlier journal of it was not adopted", sync=folder.id)
        return False

    async def _look(self) -> Survey:
        return await asyncio.get_running_loop().run_in_executor(self._looking, self._survey)

    def _survey(self) -> Survey:
        if self._lock < 0:
            self._lock = _take(self._root / "ingest.lock")
        found = survey(self._root)
        if self._lock >= 0:
            sweep(self._root, found, self._settings, self._clock())
        return found

    async def _there(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def sweep(root: Path, found: Survey, settings: BulkSettings, now: float) -> None:
    """Remove what nobody finished in time, and what has ended. Blocking; only the holder of the lock does it."""
    for folder in found.open:
        with contextlib.suppress(FileNotFoundError):
            if is_over(folder.touched, now, settings.session_seconds):
                _remove_if(folder, "open", now, settings)
    by_source: dict[Path, list[tuple[float, SyncFolder]]] = {}
    for folder in found.ended:
        with contextlib.suppress(FileNotFoundError):
            folder.empty()
            by_source.setdefault(folder.path.parent, []).append((_ended_at(folder), folder))
    for ended in by_source.values():
        ended.sort(key=lambda one: one[0], reverse=True)
        for place, (at, folder) in enumerate(ended):
            if place >= _MOST_ENDED or is_over(at, now, settings.session_seconds):
                _remove_if(folder, "ended", now, settings)
    for source in _folders(root):
        if any(path.name.startswith(".") for path in _folders(source)):
            with locked(source / "lock"):  # whoever makes one holds it, so what is seen now was left by a crash
                for path in _folders(source):
                    if path.name.startswith("."):
                        remove_folder(path)


def _remove_if(folder: SyncFolder, expected: str, now: float, settings: BulkSettings) -> None:
    with folder.locked() as state:
        if state == expected and (state == "ended" or is_over(folder.touched, now, settings.session_seconds)):
            folder.remove()


def _opened(folder: SyncFolder) -> tuple[About, int, Progress | None]:
    return folder.about(), folder.finished().at, folder.progress()


def _end(folder: SyncFolder, now: float) -> None:
    folder.end("stored", now)
    folder.empty()


def _pass(folder: SyncFolder, progress: Progress, file: PartFile) -> None:
    folder.save(progress)
    os.unlink(file.path)


def _next(packs: Iterator[Rows]) -> Rows | None:
    return next(packs, None)


def _pieces(path: Path) -> Iterator[bytes]:
    unzip = Unzip(max_bytes=sys.maxsize)  # it was measured when it came, by the bound of that day
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            yield from unzip.feed(data)
    unzip.finish()


def _in_order(root: Path) -> list[SyncFolder]:
    return sorted(survey(root).finished, key=_finished_at)


def _finished_at(folder: SyncFolder) -> tuple[int, str]:
    try:
        return folder.finished().at, folder.id
    except (CorruptData, FileNotFoundError):  # whoever opens it will say so
        return 0, folder.id


def _ended_at(folder: SyncFolder) -> float:
    try:
        return folder.ended().at
    except CorruptData:
        return folder.touched


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(root / entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def _take(path: Path) -> int:
    """The lock's handle, or -1 where another replica holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return -1
    return handle
