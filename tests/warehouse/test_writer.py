from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.errors import CorruptData, OwnershipLost, StorageFailed
from segment_do.settings import WarehouseSettings
from tests.warehouse.crashes import commit_range, found
from tests.warehouse.samples import frame, record, track_frames
from warehouse.columns import rows_of
from warehouse.schema import OFFSET
from warehouse.writer import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer.open(tmp_path / "warehouse", WarehouseSettings())
    yield writer
    writer.close()


def commit(writer: Writer, lo: int, hi: int) -> int:
    return writer.commit({"events": rows_of(track_frames(range(lo, hi)), lo).events}, hi)


def crash_runs(scenario: str, directory: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.warehouse.crashes", scenario, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_step_every_offset_is_there_once(tmp_path: Path) -> None:
    """SIGKILL at each step of a commit over three tables, then going on with other bounds: nothing lost, nothing twice.

    What the crash left behind is deleted, and nothing that is named is missing.
    """
    runs = crash_runs("commit", tmp_path)
    table = ["data", "manifest", "manifest list", "metadata", "before catalog", "after catalog"]
    assert [run["step"] for run in runs] == ["none", *table, *table, *table]
    assert [run["killed"] for run in runs] == [False] + [True] * 18
    every = {
        "events": [n for n in range(20) if n % 3 == 0],
        "rejected": [n for n in range(20) if n % 3 == 1],
        "external_id_changes": [n for n in range(20) if n % 3 == 2],
        "object_changes": [],
    }
    for number, run in enumerate(runs):
        result = run["result"]
        # The step at which each table has its commit, in the order in which they come.
        for name, lands in (("rejected", 6), ("external_id_changes", 12), ("events", 18)):
            reached = 10 if number == 0 or number >= lands else 4
            assert result["left"][name] == [n for n in every[name] if n < reached], run["step"]
        assert result["left"]["committed"] == (10 if number in (0, 18) else 4), run["step"]
        assert result["went_on"] == {"committed": 20, **every}
        assert result["maintained"] == {"committed": 20, **every}
        assert result["dead"] == 0


def test_offset_is_in_property_and_summary(writer: Writer) -> None:
    """One transaction sets the rows, the snapshot's mark and the table's mark."""
    before = writer.tables["events"].metadata_location
    assert commit(writer, 0, 3) == 3
    metadata = writer.tables["events"].metadata
    snapshot = metadata.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties[OFFSET] == "3"
    assert metadata.properties[OFFSET] == "3"
    assert [entry.metadata_file for entry in metadata.metadata_log] == [before]


def test_replayed_ranges_change_nothing(writer: Writer) -> None:
    """A range that comes again, whole or in part, is stored once; one below what is committed is refused."""
    commit(writer, 0, 5)
    rows = rows_of(track_frames(range(8)), 0).events
    assert writer.commit({"events": rows}, 5) == 5
    assert writer.commit({"events": rows}, 8) == 8
    assert found(writer)["events"] == list(range(8))
    with pytest.raises(CorruptData, match="ends at offset 7, but the warehouse holds it up to 8"):
        writer.commit({"events": rows}, 7)


def test_a_range_without_rows_moves_the_mark(writer: Writer) -> None:
    """Where every event was set aside, `events` gets no file, and is committed all the same."""
    commit_range(writer, 1, 3)
    ticket, snapshots = writer.snapshots()
    assert writer.committed == 3
    assert snapshots["events"].files == ()
    rows = {"events": [], "rejected": [1], "object_changes": [], "external_id_changes": [2]}
    assert found(writer) == {"committed": 3, **rows}
    assert writer.snapshots()[0] > ticket


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_an_unknown_outcome_is_looked_up(writer: Writer, moment: str) -> None:
    """A commit that fails after it landed has landed; one that fails before did not, and can be repeated."""
    commit(writer, 0, 2)

    def fail(_session: Session) -> None:
        raise OSError(28, "No space left on device")

    event.listen(Session, moment, fail)
    try:
        if moment == "after_commit":
            assert commit(writer, 2, 4) == 4
        else:
            with pytest.raises(StorageFailed, match="No space left"):
                commit(writer, 2, 4)
    finally:
        event.remove(Session, moment, fail)
    assert commit(writer, 2, 6) == 6
    assert found(writer)["events"] == list(range(6))


def test_an_outcome_that_cannot_be_looked_up_is_looked_up_later(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the catalog fails after the commit landed and then cannot be read, the next commit finds out first."""

    def fail(_session: Session) -> None:
        monkeypatch.setattr(writer._catalog, "load_table", broken)
        raise OSError(5, "Input/output error")

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    event.listen(Session, "after_commit", fail)
    with pytest.raises(StorageFailed):
        commit(writer, 0, 2)
    event.remove(Session, "after_commit", fail)
    with pytest.raises(StorageFailed, match="could not be read"):
        commit(writer, 0, 2)
    monkeypatch.undo()
    assert commit(writer, 0, 4) == 4
    assert found(writer)["events"] == list(range(4))


def test_a_second_writer_is_noticed(writer: Writer) -> None:
    """Should the lock ever fail, rows are not stored twice: the writer that loses stops."""
    commit(writer, 0, 1)
    zombie = Writer(writer.directory, writer.settings, writer._catalog, os.open(os.devnull, os.O_RDONLY))
    commit(writer, 1, 3)
    with pytest.raises(OwnershipLost, match="from offset 1 to 3"):
        commit(zombie, 1, 3)
    zombie.close()
    assert found(writer)["events"] == [0, 1, 2]


def test_one_file_for_each_day_of_arrival(writer: Writer) -> None:
    """Clients' times far in the past and future do not scatter a commit: its files follow the server's clock."""
    day = 86_400_000_000
    records = [record(n, timestamp=n * 40 * day) for n in range(300)]
    rows = rows_of([frame(0, records)], 0).events
    writer.commit({"events": rows}, 300)
    (file,) = writer.snapshots()[1]["events"].files
    assert (file.rows, str(file.day)) == (300, "2026-11-02")
    stored = pq.read_metadata(file.path)
    assert stored.row_group(0).column(0).compression == "ZSTD"
    assert b"PARQUET:field_id" in str(pq.read_schema(file.path).field("offset").metadata).encode()
