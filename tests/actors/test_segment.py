"""Segment files: durable appends in groups, and only whole frames believed."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.segment import HEADER, PREFIX_BYTES, Appender, frame, read_segment, scan, segment_path
from segment_do.errors import Busy, CorruptData, StorageFailed

BODIES = st.lists(st.binary(min_size=1, max_size=200), max_size=20)


def bodies(data: bytes) -> list[bytes]:
    return [bytes(body) for _start, _end, body in scan(data)]


@given(BODIES, st.data())
def test_a_file_cut_at_any_byte_gives_a_prefix(written: list[bytes], data: st.DataObject) -> None:
    """Whatever byte a crash cuts the file at, what is read is the first frames, whole."""
    whole = HEADER + b"".join(map(frame, written))
    cut = data.draw(st.integers(0, len(whole)))
    found = bodies(whole[:cut])
    assert found == written[: len(found)]
    complete = len(HEADER)
    for body in written[: len(found)]:
        complete += len(frame(body))
    assert cut < complete + (len(frame(written[len(found)])) if len(found) < len(written) else 1)


@given(BODIES.filter(bool), st.data())
def test_a_changed_byte_is_never_believed(written: list[bytes], data: st.DataObject) -> None:
    """A byte that changed on disk ends the reading there; no frame is ever given back different from what was written."""
    whole = bytearray(HEADER + b"".join(map(frame, written)))
    place = data.draw(st.integers(len(HEADER), len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    found = bodies(bytes(whole))
    assert found == written[: len(found)]
    assert len(found) < len(written)


def test_a_foreign_file_is_refused() -> None:
    """A file that does not begin as a segment does is not read as an empty one."""
    with pytest.raises(CorruptData):
        bodies(b"PAR1" + b"\0" * 64)


async def test_appends_share_a_sync_and_land_in_order(tmp_path: Path) -> None:
    """Many appends at once cost few syncs, and lie in the file in the order they were made."""
    appender = Appender(tmp_path, segment_bytes=2**20)
    wanted = [b"%d" % number for number in range(500)]
    places = await asyncio.gather(*(appender.append(frame(body)) for body in wanted))
    appender.close()
    data = read_segment(segment_path(tmp_path, 1))
    assert bodies(data) == wanted
    assert [data[place.start + PREFIX_BYTES : place.end] for place in places] == wanted
    assert appender.syncs < 250


async def test_a_full_file_is_closed_and_the_next_begun(tmp_path: Path) -> None:
    """Files stay near their size; the bytes of one append are never divided between two."""
    appender = Appender(tmp_path, segment_bytes=1000)
    for number in range(50):
        await appender.append(frame(b"%03d" % number * 30))
    appender.close()
    paths = sorted(tmp_path.glob("*.seg"))
    assert len(paths) > 3
    assert [body[:3] for path in paths for body in bodies(path.read_bytes())] == [b"%03d" % n for n in range(50)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", ["write", "sync"])
async def test_a_refused_write_or_sync_is_never_read_later(tmp_path: Path, code: int, step: str) -> None:
    """After ENOSPC or EIO the caller hears StorageFailed, nothing of its bytes is in the files, and later appends work."""
    failing = False

    def writev(handle: int, buffers: list[bytes]) -> int:
        if failing and step == "write":
            os.write(handle, b"".join(buffers)[: len(buffers[0]) - 1])  # half of it lands, as on a disk that fills up
            raise OSError(code, os.strerror(code))
        return os.writev(handle, buffers)

    def fdatasync(handle: int) -> None:
        if failing and step == "sync":
            raise OSError(code, os.strerror(code))
        os.fdatasync(handle)

    appender = Appender(tmp_path, segment_bytes=2**20, writev=writev, fdatasync=fdatasync)
    await appender.append(frame(b"before"))
    failing = True
    with pytest.raises(StorageFailed):
        await appender.append(frame(b"refused"))
    failing = False
    await appender.append(frame(b"after"))
    appender.close()
    assert [body for path in sorted(tmp_path.glob("*.seg")) for body in bodies(read_segment(path))] == [
        b"before",
        b"after",
    ]


async def test_a_client_that_leaves_disturbs_nobody(tmp_path: Path) -> None:
    """A cancelled waiter's bytes are stored, and its neighbours are answered."""
    appender = Appender(tmp_path, segment_bytes=2**20)
    leaving = appender.append(frame(b"leaves"))
    staying = appender.append(frame(b"stays"))
    leaving.cancel()
    await staying
    appender.close()
    assert bodies(read_segment(segment_path(tmp_path, 1))) == [b"leaves", b"stays"]


async def test_a_report_that_fails_disturbs_nobody(tmp_path: Path) -> None:
    """Whoever cannot take the news that its bytes are stored costs its neighbours nothing."""

    def broken(_outcome: object) -> None:
        raise RuntimeError("its connection is gone")

    appender = Appender(tmp_path, segment_bytes=2**20)
    appender.store(frame(b"broken"), broken)
    await appender.append(frame(b"stays"))
    appender.close()
    assert appender.waiting_bytes == 0
    assert bodies(read_segment(segment_path(tmp_path, 1))) == [b"broken", b"stays"]


async def test_more_than_the_bound_is_refused(tmp_path: Path) -> None:
    """Bytes waiting for the disk have a bound; beyond it the caller hears Busy and nothing is stored."""
    appender = Appender(tmp_path, segment_bytes=2**20, max_waiting_bytes=100)
    with pytest.raises(Busy):
        appender.append(frame(b"x" * 200))
    await appender.append(frame(b"y" * 50))
    appender.close()
    assert bodies(read_segment(segment_path(tmp_path, 1))) == [b"y" * 50]
