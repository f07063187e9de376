"""Deduplication over time: exact within the window, bounded beyond it, through files and reopens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segment_do.errors import CorruptData
from segment_do.events.record import REJECTED
from segment_do.identity import Graph
from segment_do.identity import seen as seen_module
from segment_do.identity.seen import message_keys
from tests.segment_do.identity.events import DAY, NOON, apply, outbox_ids, record


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made of more than ten keys."""
    monkeypatch.setattr(seen_module, "RECENT_KEYS", 10)


class Days:
    """A graph over a clock that is set by hand."""

    def __init__(self, folder: Path, probe: Callable[[str], None] = lambda step: None) -> None:
        self.folder = folder
        self.now = NOON
        self._probe = probe
        self.graph = self._open()

    def _open(self) -> Graph:
        return Graph.open(self.folder, "tom", dedupe_days=7, clock=lambda: self.now, probe=self._probe)

    def reopen(self) -> None:
        self.graph.close()
        self.graph = self._open()

    def send(self, *message_ids: str, received: int | None = None) -> int:
        """How many were new."""
        when = self.now if received is None else received
        return apply(
            self.graph, *(record(each, user="u", received=when) for each in message_ids), now=self.now
        ).accepted

    def fill(self, name: str, count: int = 11) -> None:
        assert self.send(*(f"{name}-{number}" for number in range(count))) == count

    def settle(self) -> None:
        assert self.graph.maintain(30)

    def files(self) -> list[Path]:
        return sorted((self.folder / "seen").iterdir())


def test_keys_are_of_any_text_and_apart_for_rejected_records() -> None:
    """16 bytes, equal for equal ids alone; a lone surrogate is no obstacle."""
    texts = ["", "a", "A", "\ud800", "\udfff", "é", "e\u0301", "\0", "x" * 10_000]
    keys = message_keys([record(each) for each in texts] + [record(each, REJECTED) for each in texts])
    assert {len(key) for key in keys} == {16}
    assert len(set(keys)) == 2 * len(texts)


@pytest.mark.usefixtures("small")
def test_an_id_is_refused_wherever_its_key_lies(tmp_path: Path) -> None:
    """In memory, while its run is written, in a run, in a merged run, and after a reopen from each."""
    days = Days(tmp_path)
    for group in range(40):
        days.fill(f"g{group}")
        days.graph.maintain(0.0 if group % 3 else 30)
        assert days.send(*(f"g{each}-{number}" for each in range(group + 1) for number in range(11))) == 0
        if group % 10 == 9:
            days.reopen()
            assert days.send("g0-0", f"g{group}-10") == 0
    days.settle()
    days.reopen()
    assert days.send(*(f"g{each}-{number}" for each in range(40) for number in range(11))) == 0


@pytest.mark.usefixtures("small")
def test_runs_of_a_day_stay_few_and_a_past_day_is_one(tmp_path: Path) -> None:
    """Merged in tiers of four while the day lasts, then into one file."""
    days = Days(tmp_path)
    most = 0
    for group in range(100):
        days.fill(f"g{group}")
        days.settle()
        most = max(most, len(days.files()))
    assert most <= 13
    days.now += DAY
    days.settle()
    assert len(days.files()) == 1
    assert days.send("g0-0", "g99-10") == 0


@pytest.mark.parametrize("received_late", [0, DAY - 1 - NOON % DAY])
@pytest.mark.usefixtures("small")
def test_the_window_is_seven_full_days_of_receipt(tmp_path: Path, received_late: int) -> None:
    """Refused until seven days later at any hour; new after that; the same from memory and from runs."""
    for name, settle in (("memory", False), ("runs", True)):
        days = Days(tmp_path / name)
        assert days.send("first") == 1
        if settle:
            days.fill("g")
            days.settle()
        days.now += 7 * DAY + received_late
        assert days.send("first") == 0
        days.now += DAY
        assert days.send("first") == 1
        assert days.send("first") == 0


@pytest.mark.usefixtures("small")
def test_days_out_of_the_window_are_removed(tmp_path: Path) -> None:
    """A day's file, rows and keys in memory go once ten later days hold keys."""
    days = Days(tmp_path)
    for day in range(20):
        days.fill(f"d{day}", 11 if day % 2 else 3)
        days.settle()
        days.now += DAY
    days.settle()
    assert len(days.files()) <= 10
    assert len(days.graph._seen._recent) <= 10 * 3
    (rows,) = days.graph._database.connection.execute("SELECT count(DISTINCT day) FROM seen_recent").fetchone()
    assert rows <= 10
    days.reopen()
    assert days.send(*(f"d{day}-0" for day in range(10, 20)), received=NOON + 17 * DAY) == 0
    assert days.send("d0-0", "d1-0") == 2


@pytest.mark.usefixtures("small")
def test_a_journal_left_for_a_month_is_judged_by_its_own_days(tmp_path: Path) -> None:
    """After a long stop, replayed events are still known, also once new ones have come in."""
    days = Days(tmp_path)
    days.fill("old")
    days.settle()
    received, days.now = days.now, days.now + 30 * DAY
    days.reopen()
    days.fill("new")
    days.settle()
    assert days.send("old-3", received=received) == 0
    assert days.send("old-3") == 1


@pytest.mark.usefixtures("small")
def test_a_long_stop_does_not_expire_the_last_days(tmp_path: Path) -> None:
    """On an identity that was busy every day before it: the last ten days with keys stay."""
    days = Days(tmp_path)
    for day in range(14):
        days.fill(f"d{day}", 11 if day % 2 else 3)
        days.settle()
        days.now += DAY
    days.now += 60 * DAY
    days.fill("back", 1)
    days.settle()
    days.reopen()
    assert days.send(*(f"d{day}-0" for day in range(5, 14)), received=NOON + 12 * DAY) == 0
    assert len(days.files()) == 6


@pytest.mark.usefixtures("small")
def test_a_clock_that_jumps_a_year_forgets_nothing(tmp_path: Path) -> None:
    """There and back again: what was accepted today and on the wrong day stays refused; a receipt in the future
    moves nothing."""
    days = Days(tmp_path)
    days.fill("today")
    days.settle()
    days.now += 365 * DAY
    days.settle()
    assert days.send("wrong") == 1
    days.now -= 365 * DAY
    days.settle()
    assert days.send("today-0", "wrong") == 0
    assert days.send("ahead", received=days.now + 900 * DAY) == 1
    assert days.send("ahead", "today-0", received=days.now + 900 * DAY) == 0


def test_one_batch_may_span_days(tmp_path: Path) -> None:
    """A backlog's events are each judged by their own receipt, keep their order, and count once in a batch."""
    days = Days(tmp_path)
    assert days.send("a", "b") == 2
    days.now += 20 * DAY
    old, new = NOON + 7 * DAY, NOON + 8 * DAY
    batch = [record(each, user="u", received=when) for each, when in (("c", new), ("a", old), ("b", new), ("c", old))]
    assert apply(days.graph, *batch, now=days.now).accepted == 2
    assert outbox_ids(days.graph) == ["a", "b", "b", "c"]
    assert apply(days.graph, *batch, now=days.now).accepted == 0


@pytest.mark.usefixtures("small")
def test_a_very_late_journal_may_be_replayed_twice(tmp_path: Path) -> None:
    """Events applied a month after their receipt are remembered from then on, not from their receipt."""
    days = Days(tmp_path)
    for day in range(30):
        days.fill(f"d{day}")
        days.settle()
        days.now += DAY
    late = [f"late-{number}" for number in range(11)]
    for expected in (11, 0, 0):
        assert days.send(*late, received=NOON) == expected
        days.settle()
        days.now += 2 * DAY
        days.fill(f"more-{days.now}")
        days.settle()


@pytest.mark.usefixtures("small")
def test_waiting_in_a_journal_does_not_shorten_the_window(tmp_path: Path) -> None:
    """An event received on the window's last day and applied two days later is still refused, on a busy identity."""
    days = Days(tmp_path)
    for day in range(10):
        days.fill(f"d{day}")
        days.settle()
        days.now += DAY
    days.now -= DAY
    days.settle()
    assert days.send("d0-0", received=NOON + 7 * DAY) == 0
    assert days.send("d0-0", received=NOON + 8 * DAY) == 1


@pytest.mark.usefixtures("small")
def test_leftover_files_are_removed_at_open(tmp_path: Path) -> None:
    """Whatever is in the folder and not registered was written by a crash."""
    days = Days(tmp_path)
    days.fill("g")
    days.settle()
    days.graph.close()
    (tmp_path / "seen" / "99.run").write_bytes(b"half")
    days.graph = days._open()
    assert [path.name for path in days.files()] == ["1.run"]


@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.usefixtures("small")
def test_a_registered_run_that_is_gone_or_damaged_stops_the_open(tmp_path: Path, harm: str) -> None:
    """Accepting duplicates silently would be worse. The folder is free again afterwards."""
    days = Days(tmp_path)
    days.fill("g")
    days.settle()
    days.graph.close()
    (path,) = days.files()
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm == "damaged":
        data[-1] ^= 1
        path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(CorruptData):
            days._open()


@pytest.mark.usefixtures("small")
def test_keys_in_memory_are_bounded_without_maintenance(tmp_path: Path) -> None:
    """An owner that never calls ``maintain`` gets slower batches, not a growing process."""
    days = Days(tmp_path)
    for group in range(60):
        days.fill(f"g{group}")
        assert len(days.graph._seen._recent) < seen_module.OVERDUE_FACTOR * seen_module.RECENT_KEYS + 11
    assert days.send(*(f"g{group}-5" for group in range(60))) == 0


@pytest.mark.usefixtures("small")
def test_closing_stops_a_run_being_written(tmp_path: Path) -> None:
    """Its keys are still known at the next open."""
    days = Days(tmp_path)
    days.fill("g")
    days.graph.maintain(0.0)
    days.reopen()
    assert days.send("g-0", "g-10") == 0
    days.settle()
    assert days.send("g-0", "g-10") == 0
