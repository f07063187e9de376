"""A small seeded round of what ``make crash`` does for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.load.crash import Plan, crash
from tests.load.platform import running_platform

pytestmark = pytest.mark.platform


async def test_kill_9_of_anything_loses_no_acknowledged_event(tmp_path: Path) -> None:
    """Under load, every part is killed once, then all at once: acknowledged events are there exactly once, refused ones not."""
    plan = Plan(
        seed=20,
        seconds=14.0,
        gap_seconds=(0.5, 2.5),
        parts=("ingress", "identity", "queue", "warehouse", "control", "everything"),
        events_per_second=200.0,
        connections=8,
        identities=2,
        profiles=20,
        quiet_seconds=45.0,
    )
    home = tmp_path / "home"
    home.mkdir()
    with running_platform(home=home) as platform:
        rounds = await crash(plan, platform, tmp_path, Console(stderr=True))
    assert [str(violation) for violation in rounds[0].violations] == []
    assert any(kill["processes"] for kill in rounds[0].kills)
    assert rounds[0].summary["ids"]["acknowledged"] > 100
