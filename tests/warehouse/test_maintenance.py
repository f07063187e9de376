from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from segment_do.errors import StorageFailed
from segment_do.settings import WarehouseSettings
from tests.warehouse.crashes import commit_range, found
from tests.warehouse.samples import DAY, frame, record
from tests.warehouse.test_writer import commit, crash_runs
from warehouse.columns import rows_of
from warehouse.maintenance import Maintenance, Report
from warehouse.schema import OFFSET
from warehouse.writer import Writer

NOW = 2_000_000_000.0


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer.open(tmp_path / "warehouse", WarehouseSettings(compact_files=3, keep_snapshots=4))
    yield writer
    writer.close()


def test_small_files_of_a_day_become_one(writer: Writer) -> None:
    """Exactly the small files are replaced, by one that is sorted by time and holds the same rows."""
    for lo in (6, 4, 2):
        records = [record(n, timestamp=-n) for n in (lo, lo + 1)]
        first = 6 - lo
        rows = rows_of([frame(first, records)], first).events
        writer.commit({"events": rows}, first + 2)
    other_day = rows_of([frame(6, [record(0, received_at=record().received_at + DAY)])], 6).events
    writer.commit({"events": other_day}, 7)
    before = found(writer)
    assert Maintenance(writer).run(NOW).compacted_files == 3
    assert found(writer) == before
    files = writer.snapshots()[1]["events"].files
    assert sorted(file.rows for file in files) == [1, 6]
    rows = pq.read_table(next(file.path for file in files if file.rows == 6))
    assert rows.equals(rows.sort_by("timestamp"))


def test_compaction_carries_the_mark(writer: Writer) -> None:
    """The snapshot that compaction makes says how far the log is stored, as every other does."""
    for lo in range(3):
        commit(writer, lo, lo + 1)
    Maintenance(writer).run(NOW)
    snapshot = writer.tables["events"].metadata.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties[OFFSET] == "3"
    writer.reload("events")
    assert writer.committed == 3
    assert commit(writer, 3, 4) == 4


def test_few_or_large_files_are_left_alone(tmp_path: Path) -> None:
    """Below the number of small files, and where files are not small, nothing is rewritten."""
    writer = Writer.open(tmp_path, WarehouseSettings(compact_files=3, small_file_bytes=10))
    for lo in range(4):
        commit(writer, lo, lo + 1)
    assert Maintenance(writer).run(NOW) == Report()
    writer.close()


def test_snapshots_expire_and_the_mark_stays(writer: Writer) -> None:
    """Only so many snapshots are kept; the property outlives the summaries that leave."""
    for lo in range(0, 12, 2):
        commit_range(writer, lo, lo + 2)
    report = Maintenance(writer).run(NOW)
    for name in ("events", "rejected"):
        assert len(writer.tables[name].metadata.snapshots) == 4
    assert report.expired_snapshots >= 2
    assert found(writer)["committed"] == 12


def test_manifests_stay_few(writer: Writer) -> None:
    """Appends merge their manifests, so a snapshot never has more than a few dozen."""
    for lo in range(34):
        commit(writer, lo, lo + 1)
    table = writer.tables["events"]
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= 32
    assert writer.snapshots()[1]["events"].rows == 34


def test_replaced_files_stay_for_the_queries_that_read_them(writer: Writer) -> None:
    """A file is deleted only when it has been seen dead for the grace time, however old it is."""
    maintenance = Maintenance(writer, grace_seconds=60)
    for lo in range(3):
        commit(writer, lo, lo + 1)
    read_by_a_query = [file.path for file in writer.snapshots()[1]["events"].files]
    for path in read_by_a_query:
        os.utime(path, (1, 1))
    maintenance.run(NOW)
    for lo in range(3, 12):
        commit(writer, lo, lo + 1)
    maintenance.run(NOW + 10)
    maintenance.run(NOW + 20)  # now the old snapshots have gone
    maintenance.run(NOW + 30)
    assert all(os.path.exists(path) for path in read_by_a_query)
    maintenance.run(NOW + 91)
    assert not any(os.path.exists(path) for path in read_by_a_query)
    assert found(writer)["events"] == list(range(12))


def test_orphans_of_a_crash_are_deleted_when_they_are_old(writer: Writer) -> None:
    """What nothing names goes at the first round after a start if it is older than the grace time, else later."""
    commit(writer, 0, 1)
    folder = writer.directory / "events" / "data" / "received_day=2026-11-02"
    old, new = folder / "old.parquet", folder / "new.parquet"
    for path in (old, new):
        path.write_bytes(b"half a file")
    os.utime(old, (NOW - 100, NOW - 100))
    os.utime(new, (NOW, NOW))
    maintenance = Maintenance(writer, grace_seconds=60)
    assert maintenance.run(NOW).deleted_files == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert maintenance.run(NOW + 61).deleted_files == 1
    assert not new.exists()


def test_nothing_live_is_deleted_after_an_unknown_outcome(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead is what the catalog does not name now, not what this process remembers of it."""
    commit(writer, 0, 1)
    stale = writer.tables["events"]
    commit(writer, 1, 2)
    writer.tables["events"] = stale
    for path in (writer.directory / "events").rglob("*.*"):
        os.utime(path, (1, 1))
    somebody_elses = writer.directory / "events" / "notes.txt"
    somebody_elses.write_text("mine")
    os.utime(somebody_elses, (1, 1))
    assert Maintenance(writer, grace_seconds=0).run(NOW).deleted_files == 0
    assert found(writer)["events"] == [0, 1]
    assert somebody_elses.exists()


def test_a_closed_warehouse_is_left_alone(writer: Writer) -> None:
    """Maintenance that is still running when the warehouse is given back writes nothing more."""
    for lo in range(3):
        commit(writer, lo, lo + 1)
    writer.close()
    assert Maintenance(writer).run(NOW) == Report()


def test_failure_loses_nothing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails in the middle, the tables stay as they were, and the next round does the work."""
    for lo in range(3):
        commit(writer, lo, lo + 1)
    maintenance = Maintenance(writer)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("warehouse.durable_io.os.fsync", refuse)
    with pytest.raises(StorageFailed, match="No space left"):
        maintenance.run(NOW)
    monkeypatch.undo()
    assert found(writer)["events"] == [0, 1, 2]
    assert maintenance.run(NOW).compacted_files == 3
    assert commit(writer, 3, 4) == 4
    assert found(writer)["events"] == [0, 1, 2, 3]


def test_killed_at_any_step_nothing_is_lost(tmp_path: Path) -> None:
    """SIGKILL at each step of compaction and expiry: every row is there once, and what was left behind goes."""
    runs = crash_runs("compact", tmp_path)
    assert {run["step"] for run in runs} >= {"data", "manifest", "manifest list", "metadata", "before catalog"}
    assert len(runs) > 8
    assert all(run["killed"] for run in runs[1:])
    for run in runs:
        result = run["result"]
        assert result["left"] == {
            "committed": 12,
            "rejected": [],
            "object_changes": [],
            "external_id_changes": [],
            "events": list(range(12)),
        }, run["step"]
        after = {
            "committed": 20,
            "rejected": [13, 16, 19],
            "object_changes": [],
            "external_id_changes": [14, 17],
            "events": [n for n in range(20) if n < 12 or n % 3 == 0],
        }
        assert result["went_on"] == after
        assert result["maintained"] == after
        assert result["dead"] == 0
