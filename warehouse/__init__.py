"""Every accepted event once, in Iceberg tables, and SQL over them.

Imported lazily: ``from warehouse import query`` loads an HTTP client, and nothing of Arrow, Iceberg or DuckDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse import query
    from warehouse.columns import Frame
    from warehouse.maintenance import Report
    from warehouse.store import WarehouseStore

__all__ = ["Frame", "Report", "WarehouseStore", "query"]

_HOMES = {"Frame": "warehouse.columns", "Report": "warehouse.maintenance", "WarehouseStore": "warehouse.store"}


def __getattr__(name: str) -> Any:
    if name == "query":
        return import_module("warehouse.query")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
