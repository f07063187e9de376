"""Follows events through the platform by asking where each has come, less and less often."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from segment_do.cli.client import Client, path_part
from segment_do.errors import NotFound, Unavailable

__all__ = ["Followed", "follow"]

_FIRST_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 1.0
_GROWTH: Final = 1.5


class Followed:
    """One event under way. Times are seconds since ``began``, a moment of ``clock``, as seen from here."""

    def __init__(self, message_id: str, began: float, accepted: float) -> None:
        self.message_id = message_id
        self.began = began
        self.seconds: dict[str, float] = {"accepted": accepted}
        """Stage → when it was first seen to be reached: accepted, applied, queryable."""
        self.delivered: dict[str, Any] = {}
        """Destination → True, False (not yet), ``retrying`` or ``dead``."""
        self.delivered_seconds: dict[str, float] = {}

    @property
    def complete(self) -> bool:
        """Nothing more will change: it can be queried, and every destination has it or has given it up."""
        return "queryable" in self.seconds and all(
            state is True or state == "dead" for state in self.delivered.values()
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        stages = {stage: stage in self.seconds for stage in ("accepted", "applied", "queryable")}
        return {
            "messageId": self.message_id,
            "accepted": True,
            "complete": self.complete,
            "stages": {**stages, "delivered": self.delivered},
            "seconds": {**_rounded(self.seconds), "delivered": _rounded(self.delivered_seconds)},
        }


def follow(
    platform: Client,
    events: Sequence[Followed],
    *,
    timeout_seconds: float,
    on_stage: Callable[[Followed, str, float], None],
    deliveries: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Ask until every event is complete (without ``deliveries``: queryable), or time is up; whether all are.
    ``on_stage(event, stage, seconds)`` hears of news:
    ``applied``, ``queryable``, ``delivered to <id>``, ``given up by <id>``, ``retrying to <id>``.

    Answers "later" are asked again; they cost time, not the wait.
    """
    deadline = clock() + timeout_seconds
    wait = _FIRST_SECONDS
    open_events = list(events)
    while True:
        for event in open_events:
            try:
                stages = platform.get(f"/api/trace/{path_part(event.message_id)}").get("stages") or {}
            except (Unavailable, NotFound):
                continue
            _take(event, stages, clock() - event.began, on_stage)
            if clock() > deadline:
                break
        open_events = [
            event for event in open_events if not (event.complete if deliveries else "queryable" in event.seconds)
        ]
        left = deadline - clock()
        if not open_events or left <= 0:
            return not open_events
        platform.pause(min(wait, left))
        wait = min(wait * _GROWTH, _LONGEST_SECONDS)


def _take(
    event: Followed, stages: dict[str, Any], seconds: float, on_stage: Callable[[Followed, str, float], None]
) -> None:
    for stage in ("applied", "queryable"):
        if stages.get(stage) and stage not in event.seconds:
            event.seconds[stage] = seconds
            on_stage(event, stage, seconds)
    for destination, state in (stages.get("delivered") or {}).items():
        if event.delivered.get(destination) == state:
            continue
        event.delivered[destination] = state
        if state is True:
            event.delivered_seconds[destination] = seconds
            on_stage(event, f"delivered to {destination}", seconds)
        elif state:
            on_stage(event, f"{'given up by' if state == 'dead' else 'retrying to'} {destination}", seconds)


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 4) for stage, value in seconds.items()}
