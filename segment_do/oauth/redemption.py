"""An assertion buys one token, and an app buys so many a minute.

Both are counted in one place for all replicas, in memory: after a restart of that place an assertion that is still within its
minute could be used once more. Both have a bound, written beside it.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from typing import Final

from segment_do.errors import Busy, ClientRefused, RateLimited

__all__ = ["Redemptions"]

_MOST_ASSERTIONS: Final = 100_000
"""Assertions remembered until they expire by themselves. At the bound no token is issued (503) rather than one forgotten."""
_MOST_APPS: Final = 10_000
"""Apps whose rate is known. Of more, the one that asked longest ago is forgotten: it begins anew with its full rate."""


class Redemptions:
    """What was redeemed. All times are seconds since 1970."""

    def __init__(
        self, tokens_per_minute: int, *, most_assertions: int = _MOST_ASSERTIONS, most_apps: int = _MOST_APPS
    ) -> None:
        self._per_second = tokens_per_minute / 60
        self._burst = float(tokens_per_minute)
        self._most_assertions = most_assertions
        self._most_apps = most_apps
        self._used: set[bytes] = set()
        self._until: list[tuple[float, bytes]] = []
        self._levels: dict[str, tuple[float, float]] = {}
        """App → tokens it may still have, and when that was so; the app that asked last comes last."""

    def redeem(self, app_id: str, jti: str, expires_at: float, now: float) -> None:
        """Use an assertion up; ``expires_at`` is when it would be refused by itself.

        Raises:
            ClientRefused: it was used before.
            RateLimited: the app has had its tokens of this minute; the assertion is not used up.
            Busy: too many are remembered.
        """
        while self._until and self._until[0][0] <= now:
            self._used.discard(heapq.heappop(self._until)[1])
        used = hashlib.blake2b(f"{app_id}\0{jti}".encode(), digest_size=16).digest()
        if used in self._used:  # before the rate: who replays another's assertion must not use up the other's rate
            raise ClientRefused(
                "The assertion was used before.", hint="Make a new one, with a new jti.", code="replayed"
            )
        if len(self._used) >= self._most_assertions:
            raise Busy("Too many tokens were asked for within the last minute.", retry_after=60)
        self._count(app_id, now)
        self._used.add(used)
        heapq.heappush(self._until, (expires_at, used))

    def _count(self, app_id: str, now: float) -> None:
        level, at = self._levels.pop(app_id, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._per_second)
        if level < 1:
            self._levels[app_id] = (level, now)
            raise RateLimited(
                "The app asks for tokens too often.",
                hint="Keep a token until half of its time is over.",
                retry_after=math.ceil((1 - level) / self._per_second),
            )
        if len(self._levels) >= self._most_apps:
            del self._levels[next(iter(self._levels))]
        self._levels[app_id] = (level - 1, now)
