"""The queue's log: every event once, in one order, until each consumer has passed it.

Each event has an offset (0, 1, 2, …, dense). A frame holds one identity's pack and its place in that identity's outbox, so an
append that is repeated is recognised and stored once: an identity hands over ``(epoch, seq)`` in rising order, and what is
not above the last one seen is known already. A graph that was made anew (its ``born`` is later) begins its order anew. Appends that arrive while the disk is busy share the next write and sync.

Every file begins with the state at its start (next offset, last ``(born, epoch, seq)`` of each identity), so opening reads one file only. Reading
goes by offset, from the cached file; nothing of an event stays in memory.

Never here: who reads, what is delivered. Bound: ``max_bytes`` on disk; then ``append`` answers ``Busy`` unless the
owner has told which part may go.
"""

from __future__ import annotations

import asyncio
import bisect
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from actors.queue.frame import Frame
from actors.segment import HEADER, PREFIX_BYTES, Appender, frame, read_segment, scan, segment_path
from segment_do.errors import Busy, CorruptData, OwnershipLost
from segment_do.settings import QueueSettings
from segment_do.units import identity_of

__all__ = ["Entry", "Log"]

log = structlog.get_logger(__name__)

_INDEX_STEP_BYTES: Final = 256 * 1024
_GROUP_BYTES: Final = 4 * 2**20
_READ_SLACK_BYTES: Final = 64 * 1024


class Entry(NamedTuple):
    """One row of an identity's outbox."""

    identity: str
    """Or the name of one of its shards: each has an outbox of its own."""
    born: int
    epoch: int
    seq: int
    events: int
    pack: bytes


class _Data(msgspec.Struct, array_like=True, tag="d", gc=False):
    first_offset: int
    count: int
    identity: str
    born: int
    epoch: int
    seq: int
    pack: bytes


class _State(msgspec.Struct, array_like=True, tag="s", gc=False):
    next_offset: int
    seen: dict[str, tuple[int, int, int]]


_decode = msgspec.msgpack.Decoder(_Data | _State).decode
_encode = msgspec.msgpack.Encoder().encode


class _File:
    """One segment: the offsets in it and where some of them lie."""

    def __init__(self, number: int, path: Path, first_offset: int) -> None:
        self.number = number
        self.path = path
        self.first_offset = first_offset
        self.size = 0
        self.changed_at = time.time()
        self.offsets: list[int] = []
        self.positions: list[int] = []
        self.indexed = False

    def note(self, offset: int, position: int) -> None:
        """Remember where an offset is, about every 256 KB."""
        if not self.positions or position - self.positions[-1] >= _INDEX_STEP_BYTES:
            self.offsets.append(offset)
            self.positions.append(position)

    def position_before(self, offset: int) -> int:
        """Where to begin reading to find ``offset``."""
        if not self.indexed:
            self._index()
        at = bisect.bisect_right(self.offsets, offset) - 1
        return self.positions[at] if at >= 0 else len(HEADER)

    def _index(self) -> None:
        self.offsets, self.positions = [], []
        for start, _end, body in scan(read_segment(self.path)):
            found = _decode(body)
            if isinstance(found, _Data):
                self.note(found.first_offset, start)
        self.indexed = True


class Log:
    """Append, read and trim. One event loop uses it."""

    def __init__(self, folder: Path, settings: QueueSettings, **appender: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = settings
        self._folder = folder
        self._files: list[_File] = []
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._end = 0
        self._recover()
        number = self._files[-1].number + 1 if self._files else 1
        self._appender = Appender(folder, segment_bytes=settings.segment_bytes, first_number=number, **appender)
        self._fresh_file = True  # the next append is the first in its file and carries the state
        self._waiting: list[tuple[list[Entry], asyncio.Future[None]]] = []
        self._pumping: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()

    @property
    def end(self) -> int:
        """Offset that the next event will have; everything below it is durable."""
        return self._end

    @property
    def floor(self) -> int:
        """Lowest offset still here."""
        return self._files[0].first_offset if self._files else self._end

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self._files)

    def append(self, entries: list[Entry]) -> asyncio.Future[None]:
        """Store entries that are not known yet; resolves when they (and the known ones) are durable.

        Raises:
            OwnershipLost: (from the future) an entry's epoch is below one already seen for its identity: its sender is stale.
            Busy: the log is at its bound.
            StorageFailed: (from the future) the disk refused; nothing of it is stored.
        """
        if self.size_bytes > self._settings.max_bytes:
            raise Busy("The queue's log is at its bound.", hint="Is the warehouse able to write?", retry_after=5)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, future))
        if self._pumping is None:
            self._pumping = asyncio.get_running_loop().create_task(self._pump())
        return future

    async def read(self, offset: int, max_bytes: int, wait_seconds: float = 0.0) -> list[Frame]:
        """Frames that hold or follow ``offset``, at least one where there is any, about ``max_bytes`` in all.

        At the end of the log: waits up to ``wait_seconds`` for more, then returns what there is, perhaps nothing. Below
        the floor: begins at the floor; the caller sees it by the first frame's offset.
        """
        if offset >= self._end and wait_seconds > 0:
            grown = self._grown
            try:
                async with asyncio.timeout(wait_seconds):
                    await grown.wait()
            except TimeoutError:
                pass
        return self._read(offset, max_bytes)

    def trim(self, needed_from: int, droppable_below: int, now: float | None = None) -> int:
        """Delete old files: passed by every consumer (``needed_from``) and past their time, or below ``droppable_below``
        (what the warehouse has) while the log is over its size. Returns how many went."""
        now = time.time() if now is None else now
        removed = 0
        while len(self._files) > 1:
            oldest, following = self._files[0], self._files[1]
            aged = now - oldest.changed_at > self._settings.retain_hours * 3600
            over = self.size_bytes > 0.9 * self._settings.max_bytes
            if (aged and following.first_offset <= needed_from) or (over and following.first_offset <= droppable_below):
                for path in (oldest.path, oldest.path.with_suffix(".end")):
                    path.unlink(missing_ok=True)
                del self._files[0]
                removed += 1
                continue
            break
        return removed

    async def close(self) -> None:
        """Store what waits and stop."""
        while self._pumping is not None:
            await asyncio.wait({self._pumping})
        await asyncio.to_thread(self._appender.close)

    async def _pump(self) -> None:
        try:
            while self._waiting:
                await self._store(self._take())
        finally:
            self._pumping = None

    def _take(self) -> list[tuple[list[Entry], asyncio.Future[None]]]:
        size = 0
        taken = 0
        for entries, _future in self._waiting:
            taken += 1
            size += sum(len(entry.pack) for entry in entries)
            if size >= _GROUP_BYTES:
                break
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _store(self, group: list[tuple[list[Entry], asyncio.Future[None]]]) -> None:
        offset = self._end
        seen: dict[str, tuple[int, int, int]] = {}
        parts: list[bytes] = []
        places: list[tuple[int, int]] = []  # (first offset, position within this write)
        position = 0
        answers: list[tuple[asyncio.Future[None], Exception | None]] = []
        if self._fresh_file:
            parts.append(frame(_encode(_State(offset, self._seen))))
            position += len(parts[-1])
        for entries, future in group:
            failed: Exception | None = None
            for entry in entries:
                born, epoch, seq = seen.get(entry.identity) or self._seen.get(entry.identity, (0, 0, 0))
                if entry.born > born:
                    seq = 0
                if (entry.born, entry.epoch) < (born, epoch):
                    failed = OwnershipLost("A newer activation of this identity has written to the log already.")
                    break
                if entry.seq <= seq:
                    if entry.epoch > epoch:
                        seen[entry.identity] = (entry.born, entry.epoch, seq)
                    continue
                seen[entry.identity] = (entry.born, entry.epoch, entry.seq)
                places.append((offset, position))
                parts.append(
                    frame(
                        _encode(
                            _Data(offset, entry.events, entry.identity, entry.born, entry.epoch, entry.seq, entry.pack)
                        )
                    )
                )
                position += len(parts[-1])
                offset += entry.events
            answers.append((future, failed))
        if places:
            try:
                written = await self._appender.append(b"".join(parts))
            except Exception as error:  # noqa: BLE001  # handed to everyone who waits for this group
                self._fresh_file = True
                for future, _failed in answers:
                    if not future.done():
                        future.set_exception(error)
                return
            self._account(written.number, written.start, written.end, places)
        self._seen.update(seen)
        self._end = offset
        for future, failed in answers:
            if future.done():
                continue
            if failed:
                future.set_exception(failed)
            else:
                future.set_result(None)
        if places:
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()

    def _account(self, number: int, start: int, end: int, places: list[tuple[int, int]]) -> None:
        if not self._files or self._files[-1].number != number:
            file = _File(number, segment_path(self._folder, number), places[0][0])
            file.indexed = True
            self._files.append(file)
        file = self._files[-1]
        for offset, position in places:
            file.note(offset, start + position)
        file.size = end
        file.changed_at = time.time()
        self._fresh_file = end >= self._settings.segment_bytes

    def _read(self, offset: int, max_bytes: int) -> list[Frame]:
        if not self._files or offset >= self._end:
            return []
        offset = max(offset, self.floor)
        at = bisect.bisect_right([file.first_offset for file in self._files], offset) - 1
        frames: list[Frame] = []
        while at < len(self._files) and not frames:
            file = self._files[at]
            frames = self._read_file(file, file.position_before(offset), offset, max_bytes)
            at += 1
        return frames

    def _read_file(self, file: _File, position: int, offset: int, max_bytes: int) -> list[Frame]:
        frames: list[Frame] = []
        size = 0
        with file.path.open("rb") as stream:
            descriptor = stream.fileno()
            while position < file.size:
                chunk = os.pread(descriptor, min(max_bytes + _READ_SLACK_BYTES, file.size - position), position)
                consumed = 0
                for _start, end, body in scan(chunk, 0):
                    consumed = end
                    found = _decode(body)
                    if isinstance(found, _State) or found.first_offset + found.count <= offset:
                        continue
                    frames.append(Frame(found.first_offset, found.count, identity_of(found.identity), found.pack))
                    size += len(body)
                    if size >= max_bytes:
                        return frames
                if frames:
                    return frames
                if not consumed:
                    # The next frame is larger than the chunk, or the file is damaged where it must not be.
                    if len(chunk) >= file.size - position:
                        raise CorruptData(f"The log segment {file.path.name} cannot be read at byte {position}.")
                    max_bytes *= 4
                    continue
                position += consumed
        return frames

    def _recover(self) -> None:
        paths = sorted(self._folder.glob("*.seg"))
        state: _State | None = None
        for path in paths:
            first = next(iter(scan(_beginning(path))), None)
            found = _decode(first[2]) if first else None
            if not isinstance(found, _State):
                path.unlink()  # created, and nothing acknowledged was ever in it
                continue
            state = found
            file = _File(int(path.stem), path, found.next_offset)
            file.size = path.stat().st_size
            file.changed_at = path.stat().st_mtime
            self._files.append(file)
        if state is None:
            return
        last = self._files[-1]
        self._seen = dict(state.seen)
        self._end = state.next_offset
        last.size = len(HEADER)
        for start, end, body in scan(read_segment(last.path)):
            found = _decode(body)
            last.size = end
            if isinstance(found, _Data):
                last.note(found.first_offset, start)
                self._seen[found.identity] = (found.born, found.epoch, found.seq)
                self._end = found.first_offset + found.count
        last.indexed = True


def _beginning(path: Path) -> bytes:
    """Enough of a file to hold its first frame."""
    with path.open("rb") as stream:
        head = stream.read(len(HEADER) + PREFIX_BYTES)
        whole = len(head) == len(HEADER) + PREFIX_BYTES
        length = int.from_bytes(head[len(HEADER) : len(HEADER) + 4], "little") if whole else 0
        return head + stream.read(min(length, 64 * 2**20))
