from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.io.pyarrow import PyArrowFile
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import track_frames
from warehouse.columns import rows_of
from warehouse.durable_io import DurableFileIO
from warehouse.writer import Writer


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was synced, by path, and `COMMIT` where the catalog commits."""
    entries: list[str] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        entries.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def commit(_session: Session) -> None:
        entries.append("COMMIT")

    monkeypatch.setattr(os, "fsync", record)
    event.listen(Session, "before_commit", commit)
    yield entries
    event.remove(Session, "before_commit", commit)


def test_everything_is_on_disk_before_the_catalog_names_it(tmp_path: Path, log: list[str]) -> None:
    """Data file, manifest, manifest list and metadata are synced, each before its folder, all before the commit."""
    writer = Writer.open(tmp_path / "warehouse", WarehouseSettings())
    log.clear()
    writer.commit({"events": rows_of(track_frames(range(3)), 0).events}, 3)
    table = writer.tables["events"]
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    manifests = snapshot.manifests(table.io)
    named = [
        table.metadata_location,
        snapshot.manifest_list,
        *(manifest.manifest_path for manifest in manifests),
        *(file.path for manifest in manifests for file in writer.manifests.files(manifest, table.io)),
    ]
    writer.close()
    assert log.count("COMMIT") == 1
    before = log[: log.index("COMMIT")]
    assert len(named) == 4
    for path in named:
        at = before.index(path)
        assert os.path.dirname(path) in before[at:]
    data = tmp_path / "warehouse" / "events" / "data"
    assert str(data) in before, "the day's new folder is synced into its parent"
    assert str(data.parent) in before


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    """Two outputs of one name are a bug, not a replacement."""
    output = DurableFileIO().new_output(str(tmp_path / "a" / "b"))
    with output.create() as stream:
        stream.write(b"one")
    with pytest.raises(FileExistsError):
        output.create(overwrite=True)
    assert output.to_input_file().open().read() == b"one"


def test_a_failed_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses to sync, closing raises, and no descriptor is left open."""
    output = DurableFileIO().new_output(f"file://{tmp_path}/c")

    def refuse(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    stream = output.create()
    monkeypatch.setattr(os, "fsync", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        stream.close()
    stream.close()
    assert len(os.listdir("/proc/self/fd")) <= before - 1


def test_other_schemes_are_left_alone() -> None:
    """An object store's outputs are pyiceberg's own."""
    io = DurableFileIO({"s3.region": "eu-west-1", "s3.endpoint": "http://127.0.0.1:1"})
    assert type(io.new_output("s3://bucket/key")) is PyArrowFile
