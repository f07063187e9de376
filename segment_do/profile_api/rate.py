"""How often a space may ask: a bucket each, refilled evenly."""

from __future__ import annotations

from typing import Final

from segment_do.errors import RateLimited

__all__ = ["Rates"]

_MOST_SPACES: Final = 10_000
"""Buckets kept; at the bound all begin anew, full."""


class Rates:
    """One process's count. Only those who proved who they are get a bucket."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, space: str, now: float) -> None:
        """Count one request at ``now``, seconds of a clock that only grows.

        Raises:
            RateLimited: the space asks more than ``per_second`` times a second.
        """
        left, at = self._buckets.get(space, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - at) * self._per_second)
        if len(self._buckets) >= _MOST_SPACES and space not in self._buckets:
            self._buckets.clear()
        if left < 1.0:
            self._buckets[space] = (left, now)
            raise RateLimited(f"A space may ask {self._per_second:,} times a second.", retry_after=1)
        self._buckets[space] = (left - 1.0, now)
