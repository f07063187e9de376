"""Segment files: frames of bytes, each with its length and checksum, appended and synced in groups.

The journal and the queue's log are both made of these. What is promised:

* ``Appender.store`` reports only after its bytes are written *and* synced (``fdatasync``); many appends
  share one sync. A failed write or sync fails every append of its group, takes the file back to its last
  synced length and goes on in a new file: a sync that failed is never tried again on the same file, since
  the kernel may have dropped the dirty pages it reported on.
* ``scan`` gives back whole, checksummed frames and stops at the first that is not: that is where a crash
  cut the file, and nothing after it was ever acknowledged.

Never here: what the bytes mean, and when a file may go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from xxhash import xxh3_64_intdigest

from segment_do.errors import Busy, CorruptData, StorageFailed
from segment_do.home import sync_directory

__all__ = ["HEADER", "PREFIX_BYTES", "Appender", "Outcome", "Written", "frame", "read_segment", "scan", "segment_path"]

HEADER: Final = b"segment_do frm1\n"
"""First bytes of every segment file; the number is the format's version."""

log = structlog.get_logger(__name__)

_PREFIX: Final = struct.Struct("<IQ")  # length of the body, its XXH3 (ten times as fast here as a CRC)
PREFIX_BYTES: Final = _PREFIX.size
"""What precedes each frame's body; it begins with the body's length, four bytes, little-endian."""
_LARGEST_FRAME: Final = 64 * 2**20
_CROWD: Final = 4
_GATHER_SECONDS: Final = 0.001
"""After a group of ``_CROWD`` appends or more the next sync begins so long after the last: a sync costs some 90 µs of CPU whatever
it carries. With few writers nothing waits."""
_MOST_BUFFERS: Final = 512  # IOV_MAX is 1024; a group beyond this takes more than one writev


def frame(body: bytes) -> bytes:
    """``body`` as it lies in a segment."""
    return _PREFIX.pack(len(body), xxh3_64_intdigest(body)) + body


def segment_path(folder: Path, number: int) -> Path:
    """Segments sort by name in the order they were written; ``number`` is what the owner counts by."""
    return folder / f"{number:020d}.seg"


def scan(data: bytes | memoryview, start: int = len(HEADER)) -> Iterator[tuple[int, int, memoryview]]:
    """Whole frames of a segment's bytes as (start, end, body), from ``start`` on; ends at the first torn one.

    ``data`` begins at the file's first byte when ``start`` is left out, and at a frame otherwise.

    Raises:
        CorruptData: the header is not that of a segment (an empty or torn header is an empty segment).
    """
    view = memoryview(data)
    if start == len(HEADER) and bytes(view[:start]) != HEADER[: len(view)]:
        raise CorruptData("A segment file does not begin with its header.", hint="Is this file one of ours?")
    size = len(view)
    while start + _PREFIX.size <= size:
        length, checksum = _PREFIX.unpack_from(view, start)
        begin = start + _PREFIX.size
        end = begin + length
        if length == 0 or length > _LARGEST_FRAME or end > size:
            return
        body = view[begin:end]
        if xxh3_64_intdigest(body) != checksum:
            return
        yield start, end, body
        start = end


class Written(NamedTuple):
    """Where an append lies, durable: file number, first byte, byte after the last."""

    number: int
    start: int
    end: int


Outcome = Written | StorageFailed


_Pending = tuple[bytes, Callable[[Outcome], None]]


class Appender:
    """Appends to numbered segment files in one folder, from one event loop, synced in groups by one thread.

    A file that has reached ``segment_bytes`` is closed after its group, and one that failed is closed at once; the
    next has the next number. Bound: ``max_waiting_bytes`` not yet synced, then ``Busy``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        first_number: int = 1,
        max_waiting_bytes: int = 128 * 2**20,
        fdatasync: Callable[[int], None] = os.fdatasync,
        writev: Callable[[int, list[bytes]], int] | None = None,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._fdatasync = fdatasync
        self._writev = writev or os.writev
        self._number = first_number
        self._loop = asyncio.get_running_loop()
        self._handle = -1
        self._length = 0
        self._waiting: list[_Pending] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._rung = False
        self._closed = False
        self.syncs = 0
        self.failures = 0
        self._open()
        self._thread = threading.Thread(target=self._run, name=f"sync {folder.name}", daemon=True)
        self._thread.start()

    @property
    def number(self) -> int:
        """The file being appended to; those below it are closed."""
        return self._number

    @property
    def waiting_bytes(self) -> int:
        """Bytes handed in and not yet durable."""
        return self._waiting_bytes

    def store(self, data: bytes, done: Callable[[Outcome], None]) -> None:
        """Append frames (bytes made by :func:`frame`); ``done`` is called with the outcome, in the loop, when they are
        durable or were refused.

        The bytes of one call stay together in one file. Outcomes come in the order of the calls.

        Raises:
            Busy: too much is waiting for the disk.
            StorageFailed: the appender is closed.
        """
        if self._closed:
            raise StorageFailed("This journal is closed.", hint="The process is stopping; send again.")
        if self._waiting_bytes + len(data) > self._max_waiting_bytes:
            raise Busy("The disk does not keep up: too many bytes wait to be synced.", retry_after=1)
        self._waiting_bytes += len(data)
        with self._lock:
            self._waiting.append((data, done))
            ring, self._rung = not self._rung, True
        if ring:
            self._bell.put(True)

    def append(self, data: bytes) -> asyncio.Future[Written]:
        """:meth:`store` with a future instead of a callback. A caller that goes away disturbs no other, and its bytes are
        stored all the same.

        Raises:
            Busy: too much is waiting for the disk.
            StorageFailed: (also from the future) the write or the sync failed; nothing of it is stored.
        """
        future: asyncio.Future[Written] = self._loop.create_future()

        def done(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, StorageFailed):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.store(data, done)
        return future

    def close(self) -> None:
        """Write and sync what waits, then stop. Blocks until done; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._bell.put(False)
        self._thread.join()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _run(self) -> None:
        more = True
        gather_until = 0.0
        while more:
            more = self._bell.get()
            while True:
                early = gather_until - time.monotonic()
                if early > 0 and more:
                    time.sleep(early)
                with self._lock:
                    group, self._waiting = self._waiting, []
                    if not group:
                        self._rung = False
                        break
                gather_until = time.monotonic() + _GATHER_SECONDS if len(group) >= _CROWD else 0.0
                self._store(group)

    def _store(self, group: list[_Pending]) -> None:
        outcome: list[Written] | StorageFailed
        try:
            if self._handle < 0:
                self._open()
            start = self._length
            outcome = []
            for data, _done in group:
                end = start + len(data)
                outcome.append(Written(self._number, start, end))
                start = end
            self._write([data for data, _done in group])
            self._fdatasync(self._handle)
            self.syncs += 1
            self._length = start
        except OSError as error:
            self.failures += 1
            self._abandon()
            outcome = StorageFailed(
                f"The disk refused a write: {error.strerror or error}.",
                hint="Free some space, or look at the disk; sending again later is safe.",
            )
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._resolve, group, outcome)
        if self._handle >= 0 and self._length >= self._segment_bytes:
            self._roll()

    def _write(self, buffers: list[bytes]) -> None:
        for first in range(0, len(buffers), _MOST_BUFFERS):
            part = buffers[first : first + _MOST_BUFFERS]
            wanted = sum(map(len, part))
            written = self._writev(self._handle, part)
            if written < wanted:
                rest = memoryview(b"".join(part))[written:]
                while rest:
                    rest = rest[os.write(self._handle, rest) :]

    def _resolve(self, group: list[_Pending], outcome: list[Written] | StorageFailed) -> None:
        for position, (data, done) in enumerate(group):
            self._waiting_bytes -= len(data)
            try:
                done(outcome if isinstance(outcome, StorageFailed) else outcome[position])
            except Exception:
                log.exception("a stored append could not be reported")  # and must not keep the others waiting

    def _open(self) -> None:
        path = segment_path(self._folder, self._number)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, HEADER)
            self._fdatasync(handle)
            sync_directory(self._folder)
        except OSError:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        self._handle = handle
        self._length = len(HEADER)

    def _roll(self) -> None:
        os.close(self._handle)
        self._handle = -1
        self._number += 1
        with contextlib.suppress(OSError):  # the next group tries again and reports it
            self._open()

    def _abandon(self) -> None:
        """After a failure: cut the file to what was synced, so that no refused bytes are read later."""
        if self._handle < 0:
            return
        handle, self._handle = self._handle, -1
        try:
            os.ftruncate(handle, self._length)
            self._fdatasync(handle)
        except OSError:
            # Neither cut nor synced: leave a mark that readers obey, so that refused bytes stay refused.
            with contextlib.suppress(OSError):
                mark = segment_path(self._folder, self._number).with_suffix(".end")
                mark.write_text(str(self._length))
        finally:
            os.close(handle)
        self._number += 1


def read_segment(path: Path) -> bytes:
    """A segment's bytes up to where they may be believed."""
    data = path.read_bytes()
    mark = path.with_suffix(".end")
    if mark.exists():
        data = data[: int(mark.read_text() or 0)]
    return data
