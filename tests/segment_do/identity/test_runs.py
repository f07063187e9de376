"""Run files: exact answers for 128-bit keys, and no damage goes unnoticed."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.errors import CorruptData
from segment_do.identity import runs as runs_module
from segment_do.identity.runs import Batch, Run, Stopped, sorted_keys, write_run


def never() -> bool:
    return False


def make(path: Path, *sources: list[bytes], day: int = 3) -> Run:
    count = write_run(path, day, [sorted_keys(keys) for keys in sources], never)
    return Run(path, 1, day, count)


def held(run: Run, keys: list[bytes]) -> list[bytes]:
    return [keys[place] for place in sorted(runs_module.held([run], keys))]


@pytest.mark.parametrize("slice_keys", [3, 1000, 131_072])
@pytest.mark.parametrize("sources", [1, 4])
def test_holds_exactly_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_keys: int, sources: int
) -> None:
    """Every key written is found and no other, however many slices and sources it was written from."""
    monkeypatch.setattr(runs_module, "SLICE_KEYS", slice_keys)
    random = Random(slice_keys)
    written, others = ([random.randbytes(16) for _ in range(20_000 if slice_keys > 3 else 500)] for _ in range(2))
    run = make(tmp_path / "1.run", *(written[part::sources] for part in range(sources)))
    assert run.count == len(written)
    mixed = written + others
    random.shuffle(mixed)
    assert set(held(run, mixed)) == set(written)
    assert held(run, others) == []
    assert np.all(run.primary[:-1] <= run.primary[1:])


WORD = st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1])
KEY = st.tuples(WORD, WORD).map(lambda words: b"".join(word.to_bytes(8, "big") for word in words))


@settings(max_examples=100)
@given(written=st.sets(KEY, min_size=1), asked=st.lists(KEY, min_size=1), slices=st.integers(1, 4))
def test_keys_that_share_half_their_bits_are_told_apart(
    tmp_path_factory: pytest.TempPathFactory, written: set[bytes], asked: list[bytes], slices: int
) -> None:
    """All 128 bits are compared, also for keys with one first half, at both ends of the range."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "SLICE_KEYS", max(1, len(written) // slices))
        ordered = sorted(written)
        run = make(tmp_path_factory.mktemp("run") / "1.run", ordered[::2] or ordered, ordered[1::2])
    assert held(run, asked) == [key for key in asked if key in written]


def test_the_filter_lets_few_unknown_keys_through(tmp_path: Path) -> None:
    """About one in two hundred: otherwise every batch would search every run."""
    random = Random(1)
    run = make(tmp_path / "1.run", [random.randbytes(16) for _ in range(50_000)])
    asked = Batch([random.randbytes(16) for _ in range(50_000)])
    words = run.filter[(asked.high * np.uint64(run.words) >> np.uint64(32)).astype(np.int64)]
    assert 0.003 < np.mean((words & asked.marks) == asked.marks) < 0.007


@pytest.mark.parametrize("part", ["header", "primary", "secondary", "filter"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, part: str) -> None:
    """In any part of the file, when it is opened."""
    path = tmp_path / "1.run"
    run = make(path, [Random(2).randbytes(16) for _ in range(1000)])
    start = runs_module.HEADER_BYTES
    at = {"header": 20, "primary": start + 77, "secondary": start + 8077, "filter": start + 16_077}[part]
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptData):
        Run(path, 1, run.day, run.count)


def test_a_missing_short_or_foreign_file_is_noticed(tmp_path: Path) -> None:
    """The registered day and count must be the file's own."""
    path = tmp_path / "1.run"
    run = make(path, [Random(2).randbytes(16) for _ in range(1000)])
    for day, count in ((4, 1000), (3, 999)):
        with pytest.raises(CorruptData, match="registered"):
            Run(path, 1, day, count)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptData):
        Run(path, 1, run.day, run.count)
    path.unlink()
    with pytest.raises(CorruptData, match="opened"):
        Run(path, 1, run.day, run.count)


def test_a_stopped_writer_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks before every slice."""
    monkeypatch.setattr(runs_module, "SLICE_KEYS", 10)
    looks = iter([False, False, True])
    with pytest.raises(Stopped):
        write_run(
            tmp_path / "1.run", 3, [sorted_keys([Random(1).randbytes(16) for _ in range(100)])], lambda: next(looks)
        )
    assert list(tmp_path.iterdir()) == []
