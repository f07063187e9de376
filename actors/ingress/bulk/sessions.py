"""What a client does with a sync: start it, upload files to it, keep it alive, finish it.

Sessions lie on disk, so that any replica can go on with what another began, and a killed one takes none along. Promised: a part has
an id only when the whole file is on disk, checked and synced; a finish that returns is durable; nothing of a sync is stored
before that. A call that is made again (its answer was lost) has the effect of one: the same file sent twice in a row is one
part, and a finish may be repeated for as long as the sync is known.

Bounds: open syncs and parts a source, bytes a file as sent and unpacked, bytes of all uploads together, free disk that is left alone.
Everything here blocks: not for an event loop's thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import xxhash

from actors.control.model import Source
from actors.ingress.bulk.folder import About, PartFile, State, SyncFolder, locked
from segment_do.errors import Busy, Conflict, NotFound, StorageFailed, TooLarge
from segment_do.events.unzip import Unzip
from segment_do.home import folder_name, sync_directory
from segment_do.settings import BulkSettings

__all__ = ["Room", "Sessions", "Upload"]

_SYNC_ID: Final = re.compile(r"[0-9a-f]{32}")
_MOST_FINISHED: Final = 100
"""Syncs of one source that are finished and not stored yet."""
_MOST_FOLDERS: Final = 1_000
"""Of one source, with those that have ended and are still known."""
_MOST_PARTS: Final = 10_000
_LOOK_BYTES: Final = 8 * 2**20
"""Written between looks at the free disk."""
_TOUCHES_A_SESSION: Final = 10
"""Marks that the client is still there, within the time after which it would be taken for gone."""


class Room:
    """How much disk uploads may take; shared by what writes and, now and then, counted anew by who looks at all of it."""

    def __init__(self, root: Path, max_bytes: int, min_free_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self.used_bytes = 0

    def count(self, used_bytes: int) -> None:
        """So much was found."""
        with self._lock:
            self.used_bytes = used_bytes

    def take(self, size: int) -> None:
        """So much more is written.

        Raises:
            Busy: uploads that are not stored yet take all that they may.
        """
        with self._lock:
            if self.used_bytes + size > self._max_bytes:
                raise Busy(
                    "Uploads that are not stored yet take all the room that they may.",
                    hint="Send it again later; finished syncs are stored in their order.",
                    code="bulk_full",
                    retry_after=10,
                )
            self.used_bytes += size

    def look(self) -> None:
        """Raises:
        StorageFailed: the disk is nearly full.
        """
        found = os.statvfs(self._root)
        if found.f_bavail * found.f_frsize < self._min_free_bytes:
            raise StorageFailed("The disk is nearly full.", hint="Free some space; nothing was stored.", retry_after=5)


class Sessions:
    """Of all sources. Threads may share it. ``clock``: seconds since 1970."""

    def __init__(
        self, root: Path, settings: BulkSettings, room: Room, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root
        self._settings = settings
        self._room = room
        self._clock = clock

    def start(self, source: Source) -> str:
        """Begin a sync; its id.

        Raises:
            Busy: the source has as many as it may.
            StorageFailed, OSError: the disk.
        """
        self._room.look()
        folder = self._root / folder_name(source.id)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        sync_directory(self._root)  # also where it was there: whoever made it may have died before this
        with locked(folder / "lock"):
            self._check_number([SyncFolder(folder / name) for name in os.listdir(folder) if _SYNC_ID.fullmatch(name)])
            made = SyncFolder(folder / secrets.token_hex(16))
            made.make(About(source.id, source.identity), self._clock())
        return made.id

    def keep_alive(self, source: Source, sync_id: str) -> None:
        """The client is still there.

        Raises:
            NotFound: there is no such sync, or its time is over.
            Conflict: it is finished.
        """
        folder = self._folder(source, sync_id)
        with folder.locked() as state:
            self._check_open(folder, state)
            folder.touch(self._clock())

    def upload(self, source: Source, sync_id: str) -> Upload:
        """Begin a file.

        Raises:
            NotFound, Conflict: as in :meth:`keep_alive`.
            StorageFailed, OSError: the disk.
        """
        self.keep_alive(source, sync_id)
        self._room.look()
        return Upload(self._folder(source, sync_id), self)

    def finish(self, source: Source, sync_id: str, error: str) -> None:
        """Everything has been uploaded and is to be stored; with an ``error``, it is to be dropped.

        Raises:
            NotFound: there is no such sync, or its time is over.
            Conflict: it has ended in the other way.
            OSError: the disk; nothing has changed.
        """
        folder = self._folder(source, sync_id)
        with folder.locked() as state:
            if state == "ended":
                stored = folder.ended().outcome == "stored"
            elif state in ("finished", "damaged"):
                stored = True
            else:
                self._check_open(folder, state)
                if error:
                    folder.end("dropped", self._clock())
                else:
                    folder.finish(int(self._clock() * 1e6))
                return
        if stored == bool(error):
            raise Conflict(
                f"This sync is {'finished' if stored else 'dropped'} already.",
                hint="Start another one.",
                code="sync_finished" if stored else "sync_dropped",
            )

    def _folder(self, source: Source, sync_id: str) -> SyncFolder:
        if not _SYNC_ID.fullmatch(sync_id):
            raise _unknown()
        return SyncFolder(self._root / folder_name(source.id) / sync_id)

    def _check_number(self, folders: list[SyncFolder]) -> None:
        states = [folder.state for folder in folders]
        open_now = sum(
            state == "open" and not self._expired(folder) for state, folder in zip(states, folders, strict=True)
        )
        if open_now >= self._settings.max_sessions:
            raise Busy(
                f"There are {self._settings.max_sessions} open syncs of this source, as many as there may be.",
                hint="Finish one, or send this again later.",
                code="too_many_syncs",
                retry_after=10,
            )
        if states.count("finished") >= _MOST_FINISHED or len(folders) >= _MOST_FOLDERS:
            raise Busy(
                "Too many finished syncs of this source are not stored yet.", code="too_many_syncs", retry_after=10
            )

    def _check_open(self, folder: SyncFolder, state: State | None) -> None:
        if state in ("finished", "damaged", "ended"):
            raise Conflict("This sync is finished already.", hint="Start another one.", code="sync_finished")
        if state is None or self._expired(folder):
            raise _unknown()

    def _expired(self, folder: SyncFolder) -> bool:
        try:
            return is_over(folder.touched, self._clock(), self._settings.session_seconds)
        except FileNotFoundError:
            return True


class Upload:
    """One file on its way: :meth:`write` its bytes, then :meth:`commit`, and :meth:`abandon` in any case at the end."""

    def __init__(self, folder: SyncFolder, sessions: Sessions) -> None:
        self._folder = folder
        self._sessions = sessions
        self._settings = sessions._settings
        self._unzip = Unzip(max_bytes=self._settings.max_unpacked_bytes)
        self._digest = xxhash.xxh3_128()
        self._path = folder.path / f".upload-{secrets.token_hex(8)}"
        self._using = threading.Lock()
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise _unknown() from None
        self._size = 0
        self._until_look = _LOOK_BYTES
        self._touched = sessions._clock()

    def write(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            TooLarge: the file is, as sent or unpacked.
            MalformedBody: it is not gzip.
            Busy, StorageFailed, OSError: there is no room.
        """
        with self._using:
            self._size += len(data)
            if self._size > self._settings.max_file_bytes:
                raise file_too_large(self._settings.max_file_bytes)
            self._until_look -= len(data)
            if self._until_look < 0:
                self._until_look = _LOOK_BYTES
                self._sessions._room.look()
            now = self._sessions._clock()
            if now - self._touched > self._settings.session_seconds / _TOUCHES_A_SESSION:
                self._touched = now
                with contextlib.suppress(FileNotFoundError):  # commit will tell
                    self._folder.touch(now)
            self._sessions._room.take(len(data))
            for _piece in self._unzip.feed(data):
                pass  # what is in it is looked at when it is stored; here it is only counted
            self._digest.update(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]

    def commit(self) -> str:
        """The file is whole; its part's id, once it is durable.

        Raises:
            MalformedBody: it is cut short.
            NotFound, Conflict: the sync was finished or dropped meanwhile, or its time is over.
            TooLarge: the sync has as many parts as it may.
            OSError: the disk.
        """
        with self._using:
            self._unzip.finish()
            os.fsync(self._handle)
            with self._folder.locked() as state:
                self._sessions._check_open(self._folder, state)
                self._folder.touch(self._sessions._clock())
                digest = self._digest.hexdigest()
                last = self._last()
                if last is not None and last.id.endswith(digest):
                    return last.id  # sent again, because its answer was lost
                number = last.number + 1 if last is not None else 1
                if number > _MOST_PARTS:
                    raise TooLarge(f"A sync has at most {_MOST_PARTS:,} parts.", code="too_many_parts")
                return self._folder.add(self._path, number, digest).id

    def abandon(self) -> None:
        """Let go; what has become no part is removed."""
        with self._using:
            if self._handle < 0:
                return
            os.close(self._handle)
            self._handle = -1
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _last(self) -> PartFile | None:
        parts = self._folder.parts()
        return parts[-1] if parts else None


def is_over(touched: float, now: float, session_seconds: float) -> bool:
    """Whether a session's time is; also where the clock has jumped back so far that it would live for ever."""
    return abs(now - touched) > session_seconds


def file_too_large(max_bytes: int) -> TooLarge:
    """The error of an upload beyond its bound."""
    return TooLarge(
        f"The file is larger than {max_bytes:,} bytes.",
        hint="Send it as several uploads of one sync.",
        code="file_too_large",
    )


def _unknown() -> NotFound:
    return NotFound(
        "There is no such sync, or its time is over.",
        hint="A sync that is not finished ends ten minutes (`bulk.session_seconds`) after its last call; start another one.",
        code="unknown_sync",
    )
