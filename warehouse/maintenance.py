"""Keeping the tables small: one file where there were many, few snapshots, no dead files.

pyiceberg appends and expires; it neither rewrites data files nor deletes anything. Done here, under the writer's turn,
a bounded amount a call:

1. *Compaction.* When one day has ``compact_files`` small files, they are read, sorted by ``timestamp`` and written as
   one, and one snapshot replaces exactly these files. It carries the table's mark, so nothing about exactly-once
   changes: a crash before its commit leaves a file that nothing names, a crash after it leaves the old ones.
2. *Expiry.* All but ``keep_snapshots`` snapshots leave the metadata.
3. *Deletion.* A file in the table's folder that neither the metadata nor a live snapshot names is dead: replaced,
   expired, or left by a crash. A query may be reading it, so it is deleted only when it has been seen dead for the
   grace time. At the first call after a start no query of this process can be reading, so the file's age counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.table import Table

from segment_do.errors import StorageFailed
from warehouse.schema import ARROW, OFFSET, TABLES, TableName
from warehouse.snapshot import File, mark_of
from warehouse.writer import Writer

__all__ = ["Maintenance", "Report"]

_COMPACT_ROWS_MAX = 300_000
_COMPACT_BYTES_MAX = 128 * 2**20
"""What one compaction holds in memory, as Parquet counts it uncompressed."""

_DELETIONS_MAX = 2_000

_SUFFIXES = (".parquet", ".avro", ".metadata.json")
"""What Iceberg writes; a file of any other kind is somebody else's."""


class Report(NamedTuple):
    """What one call did."""

    compacted_files: int = 0
    expired_snapshots: int = 0
    deleted_files: int = 0


class Maintenance:
    """Maintenance of one warehouse, beside its writer. Blocks; run it in a thread."""

    def __init__(self, writer: Writer, grace_seconds: float = 900.0) -> None:
        self._writer = writer
        self._grace_seconds = grace_seconds
        self._dead_since: dict[TableName, dict[str, float]] = {}

    def run(self, now: float) -> Report:
        """One round over both tables: at most one compaction, one expiry and 2,000 deletions each.

        ``now`` is the time in seconds since the epoch.

        Raises:
            StorageFailed: the disk or the catalog failed. Nothing is lost; the next round goes on.
        """
        done = dict.fromkeys(("compacted", "expired", "deleted"), 0)
        for name in TABLES:
            # Deletion comes first, so that it never meets files that this very round has replaced.
            done["deleted"] += self._step(name, lambda table: self._delete(table, now))
            done["compacted"] += self._step(name, self._compact)
            done["expired"] += self._step(name, self._expire)
        return Report(done["compacted"], done["expired"], done["deleted"])

    def _step(self, name: TableName, step: Callable[[TableName], int]) -> int:
        # One turn a step: a commit that waits gets in between.
        with self._writer.turn:
            if self._writer.closed:
                return 0
            # As the catalog has it now, for what no metadata names is going to be deleted.
            self._writer.reload(name)
            try:
                return step(name)
            except Exception as error:
                self._writer.reload(name)
                raise StorageFailed(f"Maintenance of the table {name} failed: {error}") from error

    def _compact(self, name: TableName) -> int:
        settings = self._writer.settings
        table = self._writer.tables[name]
        days: dict[object, list[File]] = {}
        for file in self._writer.manifests.snapshot(table).files:
            if file.size_bytes < settings.small_file_bytes and file.rows < _COMPACT_ROWS_MAX // 2:
                days.setdefault(file.day, []).append(file)
        for small in sorted(days.values(), key=len, reverse=True):
            chosen = _within_bounds(small) if len(small) >= max(2, settings.compact_files) else []
            if len(chosen) > 1:
                self._rewrite(name, table, chosen)
                return len(chosen)
        return 0

    def _rewrite(self, name: TableName, table: Table, chosen: list[File]) -> None:
        rows = pa.concat_tables([pq.read_table(file.path, schema=ARROW[name], partitioning=None) for file in chosen])
        if name == "events":
            rows = rows.sort_by([("timestamp", "ascending"), ("offset", "ascending")])
        transaction = table.transaction()
        mark = str(mark_of(table))
        update = transaction.update_snapshot(snapshot_properties={OFFSET: mark}).overwrite()
        for written in _dataframe_to_data_files(table.metadata, rows, table.io):
            update.append_data_file(written)
        for file in chosen:
            update.delete_data_file(file.iceberg)
        update.commit()
        transaction.set_properties({OFFSET: mark})
        transaction.commit_transaction()

    def _expire(self, name: TableName) -> int:
        table = self._writer.tables[name]
        snapshots = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
        keep = self._writer.settings.keep_snapshots
        # A commit for every snapshot that leaves would be dear; they leave some at a time.
        if len(snapshots) < keep + max(1, keep // 10):
            return 0
        oldest_kept = datetime.fromtimestamp(snapshots[-keep].timestamp_ms / 1000, UTC)
        before = len(snapshots)
        table.maintenance.expire_snapshots().older_than(oldest_kept).commit()
        return before - len(table.metadata.snapshots)

    def _delete(self, name: TableName, now: float) -> int:
        table = self._writer.tables[name]
        named = self._named(table)
        first = name not in self._dead_since
        before = self._dead_since.get(name, {})
        dead: dict[str, float] = {}
        deleted = 0
        for path, modified in _files_below(os.path.join(self._writer.directory, name)):
            if path in named:
                continue
            since = modified if first else before.get(path, now)
            if now - since >= self._grace_seconds and deleted < _DELETIONS_MAX:
                try:
                    os.unlink(path)
                except OSError:
                    dead[path] = since
                else:
                    deleted += 1
            else:
                dead[path] = since if not first else now
        self._dead_since[name] = dead
        return deleted

    def _named(self, table: Table) -> set[str]:
        manifests = self._writer.manifests
        named = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
        for snapshot in table.metadata.snapshots:
            named.add(snapshot.manifest_list)
            for manifest in manifests.manifests(snapshot, table.io):
                if manifest.manifest_path not in named:
                    named.add(manifest.manifest_path)
                    named.update(file.path for file in manifests.files(manifest, table.io))
        return named


def _within_bounds(files: list[File]) -> list[File]:
    """As many of the files, the smallest first, as one compaction may hold in memory."""
    chosen: list[File] = []
    rows = size = 0
    for file in sorted(files, key=lambda file: file.size_bytes):
        rows += file.rows
        metadata = pq.read_metadata(file.path)
        size += sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if rows > _COMPACT_ROWS_MAX or size > _COMPACT_BYTES_MAX:
            break
        chosen.append(file)
    return chosen


def _files_below(folder: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for root, _, names in os.walk(folder):
        for file in names:
            if not file.endswith(_SUFFIXES):
                continue
            path = os.path.join(root, file)
            try:
                found.append((path, os.stat(path).st_mtime))
            except FileNotFoundError:
                continue
    return found
