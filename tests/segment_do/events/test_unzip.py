"""Gzip in pieces: the same text whatever the cuts, and a bound on everything a file may claim."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import MalformedBody, TooLarge
from segment_do.events import unzip as unzip_module
from segment_do.events.unzip import Unzip


def unzipped(*pieces: bytes, max_bytes: int = 1 << 30) -> bytes:
    unzip = Unzip(max_bytes=max_bytes)
    found = b"".join(part for piece in pieces for part in unzip.feed(piece))
    unzip.finish()
    assert unzip.size == len(found)
    return found


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.integers(1, 50), st.integers(0, 8))
def test_any_cut_gives_the_same_text(members: list[bytes], step: int, padding: int) -> None:
    """Members one after another, zeros behind them, cut anywhere."""
    file = b"".join(map(gzip.compress, members)) + b"\0" * padding
    assert unzipped(*[file[at : at + step] for at in range(0, len(file), step)]) == b"".join(members)


@pytest.mark.parametrize("wrong", [b"", b"{}", b"\x1f\x8b", gzip.compress(b"text")[:-1], gzip.compress(b"a") + b"x"])
def test_what_is_not_a_whole_gzip_file_is_refused(wrong: bytes) -> None:
    """Empty, plain, cut short, or with something behind it."""
    with pytest.raises(MalformedBody) as refused:
        unzipped(wrong)
    assert refused.value.code == "malformed_gzip"


def test_a_changed_byte_is_found() -> None:
    """The checksum at the end is looked at."""
    file = bytearray(gzip.compress(b"text" * 100, compresslevel=0))
    file[50] ^= 1
    with pytest.raises(MalformedBody):
        unzipped(bytes(file))


def test_a_bomb_costs_no_more_than_its_bound() -> None:
    """A hundred megabytes out of a hundred kilobytes: refused at the bound, in pieces that are small."""
    bomb = gzip.compress(bytes(100 * 2**20), compresslevel=9)
    largest = 0
    unzip = Unzip(max_bytes=2**20)
    with pytest.raises(TooLarge):
        for piece in unzip.feed(bomb):
            largest = max(largest, len(piece))
    assert largest <= 256 * 1024
    assert unzip.size <= 2**20 + 256 * 1024


def test_members_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but beginnings is refused."""
    monkeypatch.setattr(unzip_module, "_MOST_MEMBERS", 10)
    assert unzipped(gzip.compress(b"x") * 10) == b"x" * 10
    with pytest.raises(MalformedBody, match="members"):
        unzipped(gzip.compress(b"x") * 11)
