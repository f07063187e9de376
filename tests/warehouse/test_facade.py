from __future__ import annotations

import pytest

import warehouse
from warehouse.schema import COLUMNS


def test_exports_are_there() -> None:
    """What the package names, it has; what it does not name, it has not."""
    for name in warehouse.__all__:
        assert getattr(warehouse, name) is not None
    assert sorted(warehouse.__all__) == warehouse.__all__
    with pytest.raises(AttributeError):
        warehouse.nothing  # noqa: B018


def test_field_numbers_are_never_shared() -> None:
    """Files name columns by number: no two columns of a table have one."""
    for columns in COLUMNS.values():
        assert len({column.number for column in columns}) == len({column.name for column in columns}) == len(columns)
