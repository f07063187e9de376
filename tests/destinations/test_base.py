"""A configured destination keeps its secrets to itself."""

from __future__ import annotations

from destinations.base import DestinationConfig


def config() -> DestinationConfig:
    return DestinationConfig(
        id="d1", type="webhook", source_id=None, name="Hook", settings={"secret": "hunter2"}, created_at=5
    )


def test_repr_shows_no_settings() -> None:
    """Neither repr, str nor what rich prints holds a setting."""
    for shown in (repr(config()), str(config()), f"{[config()]}", str(config().__rich_repr__())):
        assert "hunter2" not in shown
        assert "d1" in shown
