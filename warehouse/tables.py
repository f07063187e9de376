"""The Iceberg tables and the local catalog that names them.

``events`` holds every accepted event, ``rejected`` every event that was set aside, ``object_changes`` whatever was set on
an object, ``external_id_changes`` whatever external id came to belong to another profile, each once. A table that an
older version did not have is made when the warehouse is opened. All are partitioned by the day of ``received_at``. That is the server's clock, so the rows of one commit fall into one day, or two around
midnight, whatever times the clients claim; partitioned by ``timestamp``, one historical import would scatter every
commit over hundreds of days, each a file to write and to sync. Queries on ``timestamp`` lose little by it: live
events carry nearly the same time in both columns, and readers skip by the bounds of ``timestamp`` that every file
and every row group carries.

The catalog is SQLite at ``<directory>/catalog.db``, with ``synchronous=FULL``: a commit that returned survives a power
cut. Iceberg stores absolute paths, so a warehouse cannot be moved by renaming its folder; that is found at the start.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType
from sqlalchemy import event as sqlalchemy_event

from segment_do.errors import SettingsError
from segment_do.home import sync_directory
from warehouse.durable_io import make_directories
from warehouse.schema import COLUMNS, OFFSET, TableName

__all__ = ["open_catalog", "open_table"]

_NAMESPACE = "segment_do"

_TYPES = {"text": StringType(), "time": TimestamptzType(), "long": LongType()}

_SCHEMAS = {
    table: Schema(*(NestedField(column.number, column.name, _TYPES[column.kind], required=False) for column in columns))
    for table, columns in COLUMNS.items()
}

_PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    # Bounds where they let a reader skip a file; JSON text has none worth its bytes in every manifest.
    "write.metadata.metrics.default": "none",
    **{f"write.metadata.metrics.column.{column}": "full" for column in ("timestamp", "received_at", "offset")},
    **{
        f"write.metadata.metrics.column.{column}": "truncate(16)"
        for column in ("type", "event", "identity", "user_id", "code", "collection", "object_id", "external_id_value")
    },
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "32",
    # There is one writer. A conflict means that there are two, and repeating the append would store its rows twice.
    "commit.retry.num-retries": "0",
    "write.metadata.previous-versions-max": "20",
}


def open_catalog(directory: Path) -> SqlCatalog:
    """The catalog in ``directory``, made at the first start. Close it when done."""
    make_directories(str(directory))
    path = directory / "catalog.db"
    new = not path.exists()
    catalog = SqlCatalog(
        _NAMESPACE,
        uri=f"sqlite:///{quote(str(path))}",  # SQLAlchemy takes it apart as a URL
        warehouse=str(directory),
        **{"py-io-impl": "warehouse.durable_io.DurableFileIO"},
    )
    sqlalchemy_event.listen(catalog.engine, "connect", _configure)
    catalog.engine.dispose()  # the constructor's connection came before the listener
    with contextlib.suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(_NAMESPACE)
    if new:
        sync_directory(directory)
    return catalog


def open_table(catalog: SqlCatalog, directory: Path, name: TableName) -> Table:
    """One of :data:`TABLES`, made where there is none yet.

    Raises:
        SettingsError: the table was made in another folder.
    """
    location = str(directory / name)
    try:
        table = catalog.load_table((_NAMESPACE, name))
    except NoSuchTableError:
        schema = _SCHEMAS[name]
        day = PartitionField(schema.find_field("received_at").field_id, 1000, DayTransform(), "received_day")
        return catalog.create_table(
            (_NAMESPACE, name),
            schema=schema,
            location=location,
            partition_spec=PartitionSpec(day),
            properties={**_PROPERTIES, OFFSET: "0"},
        )
    except FileNotFoundError:
        table = None
    if table is None or table.location() != location:
        raise SettingsError(
            f"The warehouse in {directory} was made in another place, or its metadata is gone.",
            hint="Iceberg stores absolute paths: move the data directory back, or restore it where it was.",
        )
    return table


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
