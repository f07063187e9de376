"""The journal: accepted events on this machine's disk, until their identity actors have them.

A replica appends to a folder of its own and holds its lock for as long as it lives. One frame is one
request's events, all of one identity. What follows an append's resolution is a :class:`Run`: bytes of a
segment that hold whole frames of one identity. What was just stored stays in memory as well, up to
``LIVE_BYTES``; beyond that the dispatcher reads runs back from the (cached) file, so that a backlog of any size costs
a few words a request.

A segment is deleted when it is closed and each of its runs was confirmed. A folder whose lock is free was
left by a dead replica; whoever takes the lock reads it from the start. Identity actors deduplicate, so
reading what was already applied is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from actors.segment import Appender, Outcome, frame, read_segment, scan, segment_path
from segment_do.errors import Busy, StorageFailed
from segment_do.settings import JournalSettings

__all__ = ["Journal", "Run", "abandoned", "adopt", "entry", "open_entries"]

log = structlog.get_logger(__name__)

_HEAD: Final = struct.Struct("<HI")  # bytes of the identity's name, events in the frame
_RUN_BYTES: Final = 2**20  # neighbours are joined up to this size
LIVE_BYTES: Final = 8 * 2**20
_FREE_CHECK_BYTES: Final = 8 * 2**20  # how much is written between looks at the free disk


def entry(identity: bytes, count: int, rows: bytes) -> bytes:
    """One request's events (a pack, see ``segment_do.events.record``) as a frame."""
    return frame(_HEAD.pack(len(identity), count) + identity + rows)


def open_entries(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[str, int, memoryview]]:
    """Frames of a run as (identity, count, pack)."""
    for _start, _end, body in scan(data, start):
        yield _open(body)


def _open(body: memoryview) -> tuple[str, int, memoryview]:
    named, count = _HEAD.unpack_from(body)
    at = _HEAD.size
    return str(body[at : at + named], "utf-8", "surrogatepass"), count, body[at + named :]


class Segment:
    """One journal file, as its readers see it."""

    __slots__ = ("_handle", "path", "sealed", "unconfirmed_bytes")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unconfirmed_bytes = 0
        self.sealed = False
        self._handle = -1

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the file; it stays open between reads."""
        if self._handle < 0:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._handle, end - start, start)
        if len(data) != end - start:
            raise StorageFailed(f"The journal segment {self.path.name} is shorter than what was written to it.")
        return data

    def remove(self) -> None:
        """Delete the file: every event in it was confirmed."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        for path in (self.path, self.path.with_suffix(".end")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Run:
    """Whole frames of one identity in one segment, durable and not yet confirmed."""

    __slots__ = ("end", "events", "identity", "rows", "segment", "start")

    def __init__(
        self, segment: Segment, identity: str, start: int, end: int, events: int, rows: list[bytes] | None = None
    ) -> None:
        self.segment = segment
        self.identity = identity
        self.start = start
        self.end = end
        self.events = events
        self.rows = rows
        """Its packs, where they are still in memory; else they are read from the file."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.end - self.start

    def absorb(self, after: Run) -> bool:
        """Become both where ``after`` follows at once in the same file; False where it does not."""
        if (
            after.segment is not self.segment
            or after.start != self.end
            or after.identity != self.identity
            or (after.rows is None) != (self.rows is None)
            or after.end - self.start > _RUN_BYTES
        ):
            return False
        self.end = after.end
        self.events += after.events
        if self.rows is not None and after.rows is not None:
            self.rows += after.rows
        return True

    def packs(self) -> list[bytes | memoryview]:
        """The events, in order.

        Raises:
            StorageFailed, OSError: they are no longer in memory and the file cannot be read.
        """
        if self.rows is not None:
            return list(self.rows)
        return [pack for _identity, _count, pack in open_entries(self.segment.read(self.start, self.end))]


class Journal:
    """Append side, with the account of what is confirmed. One thread (the event loop) uses it.

    Bounds: ``max_bytes`` on disk and not yet applied, then ``Busy`` (429); ``min_free_disk_bytes``, then
    ``StorageFailed`` (503).
    """

    def __init__(self, root: Path, settings: JournalSettings, dispatch: Callable[[Run], None], **appender: Any) -> None:
        self._settings = settings
        self._dispatch = dispatch
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = root / uuid.uuid4().hex
        # Made under another name first: a folder that can be seen has a lock that is held.
        making = root / f".{self.folder.name}"
        making.mkdir(mode=0o700)
        self._lock = os.open(making / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(self.folder)
        self._segments: dict[int, Segment] = {}
        self.unapplied_bytes = 0
        self._live_bytes = 0
        self._until_free_check = 0
        self._full = False
        self._appender = Appender(self.folder, segment_bytes=settings.segment_bytes, **appender)

    def append(self, identity: str, count: int, rows: bytes, done: Callable[[StorageFailed | None], None]) -> None:
        """Store one request's events (a pack). ``done`` is called with None when they are on disk, and with what went wrong
        when nothing of them was stored. By then those that are stored are on their way to their identity.

        Raises:
            Busy: the journal is at its bound; nothing was stored.
            StorageFailed: the disk is nearly full, or the journal is closed; nothing was stored.
        """
        framed = entry(identity.encode(errors="surrogatepass"), count, rows)
        self._check_room(len(framed))
        self._appender.store(framed, functools.partial(self._stored, identity, count, rows, len(framed), done))
        self.unapplied_bytes += len(framed)

    def _stored(
        self,
        identity: str,
        count: int,
        rows: bytes,
        size: int,
        done: Callable[[StorageFailed | None], None],
        outcome: Outcome,
    ) -> None:
        if isinstance(outcome, StorageFailed):
            self.unapplied_bytes -= size
            done(outcome)
            return
        number, start, end = outcome
        segment = self._segments.get(number)
        if segment is None:
            segment = self._segments[number] = Segment(segment_path(self.folder, number))
            self._seal_below(number)
        segment.unconfirmed_bytes += size
        live = self._live_bytes + size <= LIVE_BYTES
        if live:
            self._live_bytes += size
        self._dispatch(Run(segment, identity, start, end, count, [rows] if live else None))
        done(None)

    async def prove(self) -> None:
        """Write and sync a frame without events: shows that a request would be stored now.

        Raises:
            Busy, StorageFailed: it would not.
        """
        self._check_room(0)
        await self._appender.append(entry(b"", 0, b""))

    def confirm(self, run: Run) -> None:
        """The identity actor has these events, durably."""
        segment = run.segment
        segment.unconfirmed_bytes -= run.size
        self.unapplied_bytes -= run.size
        if run.rows is not None:
            self._live_bytes -= run.size
        if segment.sealed and not segment.unconfirmed_bytes:
            self._remove(segment)

    def status(self) -> dict[str, int]:
        """Sizes for /metrics and /api/status."""
        return {
            "unappliedBytes": self.unapplied_bytes,
            "waitingBytes": self._appender.waiting_bytes,
            "segments": len(self._segments),
            "syncs": self._appender.syncs,
            "failures": self._appender.failures,
        }

    def close(self) -> None:
        """Sync what waits and let go. A folder with nothing left to apply is removed."""
        self._appender.close()
        if not self.unapplied_bytes:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _seal_below(self, number: int) -> None:
        for older in [n for n in self._segments if n < number]:
            segment = self._segments[older]
            segment.sealed = True
            if not segment.unconfirmed_bytes:
                self._remove(segment, older)

    def _remove(self, segment: Segment, number: int | None = None) -> None:
        segment.remove()
        self._segments.pop(int(segment.path.stem) if number is None else number, None)

    def _check_room(self, size: int) -> None:
        if self.unapplied_bytes + size > self._settings.max_bytes:
            raise Busy("The journal is full: identities do not keep up.", hint="Send again later.", retry_after=5)
        self._until_free_check -= size
        if self._until_free_check < 0 or self._full:
            self._until_free_check = _FREE_CHECK_BYTES
            found = os.statvfs(self.folder)
            self._full = found.f_bavail * found.f_frsize < self._settings.min_free_disk_bytes
        if self._full:
            raise StorageFailed("The disk is nearly full.", hint="Free some space; nothing was stored.", retry_after=5)


class Adopted:
    """A dead replica's journal: its runs, and the lock that makes them ours."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self.unapplied_bytes = 0
        self.torn_bytes = 0

    def runs(self) -> Iterator[Run]:
        """All that was acknowledged and perhaps not applied, oldest first, neighbours of one identity joined."""
        for path in sorted(self.folder.glob("*.seg")):
            segment = Segment(path)
            data = read_segment(path)
            last = 0
            run: Run | None = None
            for start, end, body in scan(data):
                identity, count, _pack = _open(body)
                last = end
                if not count:  # a proof of writing, not an event
                    continue
                found = Run(segment, identity, start, end, count)
                if run and run.absorb(found):
                    continue
                if run:
                    yield self._count(run)
                run = found
            if run:
                yield self._count(run)
            self.torn_bytes += max(0, len(data) - last) if last else 0

    def _count(self, run: Run) -> Run:
        self.unapplied_bytes += run.size
        return run

    def confirm(self, run: Run) -> None:
        """The identity actor has these events, durably."""
        self.unapplied_bytes -= run.size

    def close(self, *, remove: bool) -> None:
        """Let go of the folder; with ``remove`` everything in it was confirmed and it is deleted."""
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def abandoned(root: Path) -> list[Path]:
    """Journals in ``root``, alive or dead; :func:`adopt` tells which."""
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))


def adopt(folder: Path) -> Adopted | None:
    """Take a journal whose owner is dead; None when its owner lives or another was faster."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if not folder.exists():  # its last owner finished with it while we were waiting
        os.close(lock)
        return None
    return Adopted(folder, lock)
