from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.types import LongType, StringType, TimestamptzType
from sqlalchemy import text

from segment_do.errors import OwnershipLost, SettingsError
from segment_do.settings import WarehouseSettings
from warehouse.schema import COLUMNS, TABLES
from warehouse.tables import open_catalog, open_table
from warehouse.writer import Writer


def test_the_catalog_syncs_its_commits(tmp_path: Path) -> None:
    """SQLite runs with synchronous=FULL: a commit that returned is on disk."""
    catalog = open_catalog(tmp_path)
    with catalog.engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    catalog.close()


def test_tables_have_their_columns_and_days(tmp_path: Path) -> None:
    """Types are Iceberg's, times have a zone, and both tables are partitioned by the day of arrival."""
    catalog = open_catalog(tmp_path)
    kinds = {"text": StringType(), "time": TimestamptzType(), "long": LongType()}
    for name in TABLES:
        table = open_table(catalog, tmp_path, name)
        fields = [(field.field_id, field.name, field.field_type) for field in table.schema().fields]
        assert fields == [(column.number, column.name, kinds[column.kind]) for column in COLUMNS[name]]
        (partition,) = table.spec().fields
        assert table.schema().find_field(partition.source_id).name == "received_at"
        assert str(partition.transform) == "day"
        assert open_table(catalog, tmp_path, name).metadata.table_uuid == table.metadata.table_uuid
    catalog.close()


def test_a_moved_warehouse_says_so(tmp_path: Path) -> None:
    """Iceberg stores absolute paths: a renamed folder is refused with what to do, not read by halves."""
    Writer.open(tmp_path / "a", WarehouseSettings()).close()
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(SettingsError, match="move the data directory back"):
        Writer.open(tmp_path / "b", WarehouseSettings())


def test_one_process_has_it(tmp_path: Path) -> None:
    """A second writer is refused while the first is open, and takes over after it."""
    first = Writer.open(tmp_path, WarehouseSettings())
    with pytest.raises(OwnershipLost):
        Writer.open(tmp_path, WarehouseSettings())
    first.close()
    Writer.open(tmp_path, WarehouseSettings()).close()
