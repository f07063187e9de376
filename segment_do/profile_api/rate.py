"""How often a space may ask: a bucket each, refilled evenly."""

from __future__ import annotations

import math
from typing import Final

from segment_do.errors import RateLimited

__all__ = ["Rates"]

_MOST_SPACES: Final = 10_000
"""Buckets kept; at the bound all begin anew, full."""


class Rates:
    """One process's count, and its share of the platform's rate. Only those who proved who they are get a bucket."""

    def __init__(self, per_second: int, processes: int) -> None:
        """``per_second``: of all ``processes`` together, each of which counts by itself."""
        self._per_second = per_second
        self._share = per_second / processes
        self._full = max(1.0, self._share)
        """Requests at once; a bucket that holds less than one would never let any through."""
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, space: str, now: float) -> None:
        """Count one request at ``now``, seconds of a clock that only grows.

        Raises:
            RateLimited: the space asks more than ``per_second`` times a second.
        """
        left, at = self._buckets.get(space, (self._full, now))
        left = min(self._full, left + (now - at) * self._share)
        if len(self._buckets) >= _MOST_SPACES and space not in self._buckets:
            self._buckets.clear()
        if left < 1.0:
            self._buckets[space] = (left, now)
            wait = math.ceil((1.0 - left) / self._share)
            raise RateLimited(f"A space may ask {self._per_second:,} times a second.", retry_after=wait)
        self._buckets[space] = (left - 1.0, now)
