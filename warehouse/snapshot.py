"""What one table consists of at one moment: the files of its current snapshot and its mark in the log.

A snapshot is a plain value. Whoever holds one can go on reading its files while commits and compactions go on, until
maintenance deletes them, which it does only a grace time after they were replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import date, timedelta
from typing import NamedTuple

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

from warehouse.schema import COLUMNS, OFFSET, TableName

__all__ = ["File", "Manifests", "Snapshot", "mark_of"]

_MANIFESTS_MAX = 4_096

_EPOCH = date(1970, 1, 1)

_OFFSET_NUMBERS = {
    table: column.number for table, columns in COLUMNS.items() for column in columns if column.name == "offset"
}


class File(NamedTuple):
    """One Parquet file of a table."""

    path: str
    rows: int
    size_bytes: int
    day: date | None
    """Day of ``received_at`` of all its rows, UTC."""
    iceberg: DataFile
    """As the manifest has it; compaction names the files that it replaces by this."""

    def may_hold(self, table: TableName, begin: int, end: int) -> bool:
        """Whether rows of log offsets ``[begin, end)`` can be in it, by the bounds that its manifest has."""
        number = _OFFSET_NUMBERS[table]
        lowest, highest = (self.iceberg.lower_bounds or {}).get(number), (self.iceberg.upper_bounds or {}).get(number)
        if lowest is None or highest is None:
            return True
        return int.from_bytes(lowest, "little", signed=True) < end and begin <= int.from_bytes(
            highest, "little", signed=True
        )


class Snapshot(NamedTuple):
    """A table at one moment."""

    files: tuple[File, ...]
    mark: int
    """Log offset after the last event that the table holds."""

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)


def mark_of(table: Table) -> int:
    """The table's mark. A property of the table has it, and every snapshot's summary; the larger one counts.

    The property outlives the snapshots, the summary is what other tools look at.
    """
    marks = [int(table.metadata.properties.get(OFFSET, "0"))]
    newest = table.metadata.current_snapshot()
    if newest is not None and newest.summary is not None:
        marks.append(int(newest.summary.additional_properties.get(OFFSET, "0")))
    return max(marks)


class Manifests:
    """Reads snapshots, each manifest once: manifests and their lists never change.

    At the bound of 4,096 the ones read longest ago are forgotten, and read again when they are needed.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[str, list[ManifestFile]] = OrderedDict()
        self._files: OrderedDict[str, tuple[File, ...]] = OrderedDict()

    def snapshot(self, table: Table) -> Snapshot:
        """The current snapshot of a table."""
        current = table.metadata.current_snapshot()
        files: list[File] = []
        if current is not None:
            for manifest in self.manifests(current, table.io):
                files += self.files(manifest, table.io)
        return Snapshot(tuple(files), mark_of(table))

    def manifests(self, snapshot: IcebergSnapshot, io: FileIO) -> list[ManifestFile]:
        """The manifests of one snapshot."""
        found = self._lists.get(snapshot.manifest_list)
        if found is None:
            found = self._lists[snapshot.manifest_list] = list(snapshot.manifests(io))
        _touch(self._lists, snapshot.manifest_list)
        return found

    def files(self, manifest: ManifestFile, io: FileIO) -> tuple[File, ...]:
        """The live files of one manifest."""
        found = self._files.get(manifest.manifest_path)
        if found is None:
            found = self._files[manifest.manifest_path] = tuple(
                _file(entry.data_file) for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
            )
        _touch(self._files, manifest.manifest_path)
        return found


def _touch(
    cache: OrderedDict[str, object] | OrderedDict[str, list[ManifestFile]] | OrderedDict[str, tuple[File, ...]],
    key: str,
) -> None:
    cache.move_to_end(key)
    if len(cache) > _MANIFESTS_MAX:
        cache.popitem(last=False)


def _file(found: DataFile) -> File:
    day = found.partition[0]
    if isinstance(day, int):
        day = _EPOCH + timedelta(days=day)
    return File(found.file_path, found.record_count, found.file_size_in_bytes, day, found)
