"""Run files: many message keys, sorted, immutable, answered for a whole batch at once.

A key is 128 bits: ``primary`` (first 8 bytes) and ``secondary`` (last 8). A file holds

    header · primary, sorted (8 bytes each) · secondary in the same order · filter (16 bits a key)

Keys are hashes, so they spread evenly over the primary's range. The filter uses that: a key's word is number
``primary * words >> 64``, which needs no further hash and can be written slice by slice in key order; the primary's last
bits say which four of the word's bits are set. A key that was never seen passes one time in two hundred; only then the
sorted keys are searched, all 128 bits of them. Answers are exact. What a batch costs is memory that no cache holds: one
word a key and run, and next to no searches.

All parts are memory mapped: the kernel may drop any page of them. This module imports numpy; import it late.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from segment_do.errors import CorruptData
from segment_do.home import sync_directory

__all__ = ["Keys", "Run", "Stopped", "held", "sorted_keys", "write_run"]

Words: TypeAlias = npt.NDArray[np.uint64]
Keys: TypeAlias = tuple[Words, Words]
"""Primary words and secondary words, sorted by primary."""

MAGIC = b"SDSEEN\r\n"
VERSION = 2
_HEADER = struct.Struct("<8sIiQQQQQ")  # magic, version, day, count, filter words, sums of the three parts
HEADER_BYTES = _HEADER.size + 8  # and the header's own sum
FILTER_BITS_A_KEY = 16
SLICE_KEYS = 131_072
"""Keys merged at a time: 8 MB of memory however large the run, and about 2 ms between looks at ``stopped``."""
SYNC_BYTES = 8 * 2**20
"""Written data is synced in such steps, so that a batch's own sync never waits behind a whole run."""
_READ_BYTES = 2**20
_HALF, _ONE, _LAST_SIX = np.uint64(32), np.uint64(1), np.uint64(63)
_SHARES: Final = np.array([[0], [6], [12], [18]], dtype=np.uint64)


class Stopped(Exception):
    """The writer was told to stop; its file is gone again."""


class Batch:
    """Keys of a batch as words, prepared once for all runs."""

    def __init__(self, keys: list[bytes]) -> None:
        words = np.frombuffer(b"".join(keys), dtype=">u8").astype(np.uint64)
        self.primary: Words = words[::2]
        self.secondary: Words = words[1::2]
        self.high: Words = self.primary >> _HALF
        self.marks: Words = _marks(self.primary)


class Run:
    """One registered run file, mapped and checked.

    Raises:
        CorruptData: the file is missing, or is not what was registered.
    """

    def __init__(self, path: Path, identifier: int, day: int, count: int) -> None:
        self.path = path
        self.identifier = identifier
        self.day = day
        self.count = count
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise _corrupt(path, f"cannot be opened ({error.strerror})") from error
        try:
            self.words = _checked(handle, path, day, count)
            self._map = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        self.primary: Words = np.frombuffer(self._map, dtype=np.uint64, count=count, offset=HEADER_BYTES)
        self.secondary: Words = np.frombuffer(self._map, dtype=np.uint64, count=count, offset=HEADER_BYTES + 8 * count)
        self.filter: Words = np.frombuffer(
            self._map, dtype=np.uint64, count=self.words, offset=HEADER_BYTES + 16 * count
        )

    def find(self, batch: Batch, positions: npt.NDArray[np.intp]) -> list[int]:
        """Those of a batch's positions whose keys it has."""
        primary = batch.primary[positions]
        at = self.primary.searchsorted(primary)
        found: list[int] = []
        # A second round happens only where two keys share their first 64 bits.
        while True:
            inside = self.primary.take(at, mode="clip") == primary
            inside &= at < self.count
            if not inside.any():
                return found
            positions, primary, at = positions[inside], primary[inside], at[inside]
            same = self.secondary[at] == batch.secondary[positions]
            found += positions[same].tolist()
            other = ~same
            positions, primary, at = positions[other], primary[other], at[other] + 1


def held(runs: Sequence[Run], keys: list[bytes]) -> set[int]:
    """Positions of the keys that any of these runs has. All filters are asked at once: a step costs more than a key."""
    found: set[int] = set()
    if not runs:
        return found
    batch = Batch(keys)
    places = (batch.high * np.array([[run.words] for run in runs], dtype=np.uint64) >> _HALF).view(np.int64)
    words = np.empty(places.shape, dtype=np.uint64)
    for run, its_places, its_words in zip(runs, places, words, strict=True):
        run.filter.take(its_places, out=its_words, mode="clip")  # "raise" would take a copy
    those, positions = ((words & batch.marks) == batch.marks).nonzero()
    for place in set(those.tolist()):
        found.update(runs[place].find(batch, positions[those == place]))
    return found


def sorted_keys(keys: list[bytes]) -> Keys:
    """Keys as a source for :func:`write_run`."""
    batch = Batch(keys)
    order = batch.primary.argsort()
    return batch.primary[order], batch.secondary[order]


def write_run(path: Path, day: int, sources: list[Keys], stopped: Callable[[], bool]) -> int:
    """Merge sorted sources into a new file, synced with its directory; returns the count of keys.

    Takes memory for a slice, not for the run. The file is removed when this raises.

    Raises:
        OSError: the disk is full or fails.
        Stopped: ``stopped`` said so.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count = _Writer(handle, day, sources).write(stopped)
        os.fsync(handle)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(handle)
    sync_directory(path.parent)
    return count


class _Writer:
    def __init__(self, handle: int, day: int, sources: list[Keys]) -> None:
        self._handle = handle
        self._day = day
        self._sources = sources
        self.count = sum(len(primary) for primary, _ in sources)
        self._words = _filter_words(self.count)
        self._unsynced = 0

    def write(self, stopped: Callable[[], bool]) -> int:
        count, words = self.count, self._words
        # Asks for all the space first: a full disk shows before any work is done.
        os.posix_fallocate(self._handle, 0, HEADER_BYTES + 16 * count + 8 * words)
        parts = max(1, -(-count // SLICE_KEYS))
        bounds = [(part << 64) // parts for part in range(parts)]
        starts = np.array(bounds, dtype=np.uint64)
        cuts = [[*primary.searchsorted(starts).tolist(), len(primary)] for primary, _ in self._sources]
        edges = [*_places(starts, words).tolist(), words - 1]
        sums = (xxhash.xxh3_64(), xxhash.xxh3_64(), xxhash.xxh3_64())
        done, carried = 0, np.uint64(0)
        for part in range(parts):
            if stopped():
                raise Stopped
            taken = [(source, cut[part], cut[part + 1]) for source, cut in zip(self._sources, cuts, strict=True)]
            primary = np.concatenate([source[0][low:high] for source, low, high in taken])
            secondary = np.concatenate([source[1][low:high] for source, low, high in taken])
            if len(taken) > 1:
                order = primary.argsort(kind="stable")
                primary, secondary = primary[order], secondary[order]
            final = part == parts - 1
            marked = _filter(primary, words, edges[part], edges[part + 1] + 1)
            marked[0] |= carried
            if not final:
                # The next slice may have keys of this word, too.
                carried = marked[-1]
                marked = marked[:-1]
            self._put(primary.tobytes(), HEADER_BYTES + 8 * done, sums[0])
            self._put(secondary.tobytes(), HEADER_BYTES + 8 * (count + done), sums[1])
            self._put(marked.tobytes(), HEADER_BYTES + 16 * count + 8 * edges[part], sums[2])
            done += len(primary)
        header = _HEADER.pack(MAGIC, VERSION, self._day, count, words, *(each.intdigest() for each in sums))
        self._put(header + xxhash.xxh3_64_digest(header), 0, xxhash.xxh3_64())
        return count

    def _put(self, data: bytes, at: int, checksum: xxhash.xxh3_64) -> None:
        checksum.update(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, at)
            view, at = view[written:], at + written
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._handle)
            self._unsynced = 0


def _filter_words(count: int) -> int:
    # Below 2**32, so that 32 bits of a key times this fit a word.
    return min(-(-max(count, 4) * FILTER_BITS_A_KEY // 64), 2**32 - 1)


def _places(primary: Words, words: int) -> npt.NDArray[np.int64]:
    """Of each key's word in a filter."""
    return ((primary >> _HALF) * np.uint64(words) >> _HALF).view(np.int64)


def _marks(primary: Words) -> Words:
    """The bits of each key in its word: four, fewer where two fall on one another."""
    marks: Words = np.bitwise_or.reduce(_ONE << (primary >> _SHARES & _LAST_SIX), axis=0)
    return marks


def _filter(primary: Words, words: int, first: int, end: int) -> Words:
    """Words ``first`` to ``end`` of a filter of these keys, which are sorted."""
    filled = np.zeros(end - first, dtype=np.uint64)
    if primary.size:
        places = _places(primary, words) - first
        starts = np.concatenate(([0], np.flatnonzero(np.diff(places)) + 1))
        filled[places[starts]] = np.bitwise_or.reduceat(_marks(primary), starts)
    return filled


def _checked(handle: int, path: Path, day: int, count: int) -> int:
    """Words in the filter of an intact file. Reads all of it, past the page cache's owner but not into our memory."""
    raw = os.pread(handle, HEADER_BYTES, 0)
    if len(raw) < HEADER_BYTES or xxhash.xxh3_64_digest(raw[: _HEADER.size]) != raw[_HEADER.size :]:
        raise _corrupt(path, "has a damaged header")
    magic, version, its_day, its_count, words, *sums = _HEADER.unpack(raw[: _HEADER.size])
    if magic != MAGIC or version != VERSION:
        raise _corrupt(path, f"is not a run of version {VERSION}")
    lengths = [8 * its_count, 8 * its_count, 8 * words]
    if (its_day, its_count) != (day, count) or os.fstat(handle).st_size != HEADER_BYTES + sum(lengths):
        raise _corrupt(path, "is not the file that was registered")
    at = HEADER_BYTES
    for length, expected in zip(lengths, sums, strict=True):
        checksum, end = xxhash.xxh3_64(), at + length
        while at < end:
            data = os.pread(handle, min(_READ_BYTES, end - at), at)
            if not data:
                raise _corrupt(path, "is cut short")
            checksum.update(data)
            at += len(data)
        if checksum.intdigest() != expected:
            raise _corrupt(path, "fails its checksum")
    return int(words)


def _corrupt(path: Path, what: str) -> CorruptData:
    return CorruptData(f"The run file {path} {what}.", hint="Restore the identity's folder from a backup.")
