"""One sync on disk: a folder that says by what lies in it how far the sync has come.

    sync.json       whose it is                                   written before the folder can be seen
    lock            held by whoever changes the state; its time is that of the last call
    .upload-*       files on their way
    000001-*.gz     parts, whole and synced, in the order in which they came
    finished        promised: everything in the parts will be stored
    progress        how much of that is in a journal already
    ended           stored, or dropped: kept for a while so that a call that is made again hears the same
    damaged         a part cannot be read any more; nothing is removed, and a human looks

Each step of a sync is one file that appears whole and durable, so a crash leaves the state before the step or after it. Never
here: what the state is to be, and what the parts hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from segment_do.errors import CorruptData
from segment_do.home import sync_directory, write_durably

__all__ = ["About", "Ended", "Finished", "PartFile", "Progress", "State", "SyncFolder", "locked", "remove_folder"]

State = Literal["open", "finished", "ended", "damaged"]
T = TypeVar("T")

_LOCK: Final = "lock"


class About(msgspec.Struct, frozen=True):
    """Whose sync it is."""

    source_id: str
    identity: str


class Finished(msgspec.Struct, frozen=True):
    """When the client said that it is whole, µs: the time at which its objects count as received."""

    at: int


class Progress(msgspec.Struct):
    """Lines up to ``line`` of part ``part``, and all parts before, lie in a journal; ``journal`` is the one written to last."""

    journal: str
    part: int = 1
    line: int = 0
    objects: int = 0
    rejected: int = 0


class Ended(msgspec.Struct, frozen=True):
    """How it ended, and when (seconds)."""

    outcome: Literal["stored", "dropped"]
    at: float


class PartFile(msgspec.Struct, frozen=True):
    """One uploaded file."""

    number: int
    path: Path

    @property
    def id(self) -> str:
        """As the client hears it."""
        return self.path.stem


class SyncFolder:
    """A sync's folder, which may be gone. Blocking: not for an event loop's thread.

    What is read from its files raises FileNotFoundError where they are gone, and CorruptData where they are not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The sync's id."""
        return self.path.name

    @property
    def state(self) -> State | None:
        """None: there is no such sync (any more)."""
        names = self._names()
        if _LOCK not in names:
            return None
        told: tuple[State, ...] = ("ended", "damaged", "finished")  # what comes later in a sync's life counts
        return next((state for state in told if state in names), "open")

    @property
    def touched(self) -> float:
        """When its client called last, seconds.

        Raises:
            FileNotFoundError: it is gone.
        """
        return os.stat(self.path / _LOCK).st_mtime

    @property
    def size_bytes(self) -> int:
        """What its files take, those on their way among them."""
        size = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat().st_size
        return size

    def make(self, about: About, now: float) -> None:
        """Make it, durably: first under a name that nobody looks at."""
        making = self.path.with_name(f".{self.id}")
        os.mkdir(making, 0o700)
        os.close(os.open(making / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(making / _LOCK, (now, now))
        write_durably(making / "sync.json", msgspec.json.encode(about))
        os.rename(making, self.path)
        sync_directory(self.path.parent)

    def touch(self, now: float) -> None:
        """Its client has called."""
        os.utime(self.path / _LOCK, (now, now))

    @contextlib.contextmanager
    def locked(self) -> Iterator[State | None]:
        """Hold its state, which is given, against everyone else's changes."""
        try:
            with locked(self.path / _LOCK, create=False):
                yield self.state
        except _Missing:
            yield None

    def about(self) -> About:
        """Whose it is."""
        return self._read("sync.json", About)

    def finished(self) -> Finished:
        """When it was finished."""
        return self._read("finished", Finished)

    def ended(self) -> Ended:
        """How it ended."""
        return self._read("ended", Ended)

    def progress(self) -> Progress | None:
        """What was read of it; None where nobody has begun."""
        try:
            return self._read("progress", Progress)
        except FileNotFoundError:
            return None

    def finish(self, at: int) -> None:
        """From now on all in it is promised."""
        self._write("finished", Finished(at))

    def save(self, progress: Progress) -> None:
        """So far it has been read."""
        self._write("progress", progress)

    def end(self, outcome: Literal["stored", "dropped"], now: float) -> None:
        """Nothing in it is needed any more."""
        self._write("ended", Ended(outcome, now))

    def damage(self, reason: str) -> None:
        """A human has to look."""
        self._write("damaged", reason)

    def parts(self) -> list[PartFile]:
        """In their order."""
        names = sorted(name for name in self._names() if name.endswith(".gz"))
        return [PartFile(int(name[:6]), self.path / name) for name in names]

    def add(self, uploaded: Path, number: int, digest: str) -> PartFile:
        """A whole, synced file becomes the part with this number, durably."""
        part = PartFile(number, self.path / f"{number:06d}-{digest}.gz")
        os.rename(uploaded, part.path)
        sync_directory(self.path)
        return part

    def empty(self) -> None:
        """Remove the files of one that has ended; how it ended stays."""
        for name in self._names() - {_LOCK, "sync.json", "ended"}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path / name)

    def remove(self) -> None:
        """Remove all of it: it is gone at once, its files a moment later. Call it with the lock held."""
        going = self.path.with_name(f".{self.id}")
        os.rename(self.path, going)
        remove_folder(going)

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.path))
        except FileNotFoundError:
            return set()

    def _read(self, name: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise CorruptData(f"The file {name} of sync {self.id} cannot be read: {error}.") from error

    def _write(self, name: str, told: Any) -> None:
        write_durably(self.path / name, msgspec.json.encode(told))


class _Missing(Exception):
    """The lock's file is not there."""


@contextlib.contextmanager
def locked(path: Path, *, create: bool = True) -> Iterator[None]:
    """Hold a file's lock; waits for whoever holds it, in this process or another."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        if create:
            raise
        raise _Missing from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_folder(path: Path) -> None:
    """Remove a folder of files; what is gone already is passed over."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path / name)
        os.rmdir(path)
