"""The rate of a space holds for all replicas together."""

from __future__ import annotations

import pytest

from segment_do.errors import RateLimited
from segment_do.profile_api import Rates


@pytest.mark.parametrize(("per_second", "processes"), [(100, 1), (100, 4), (10, 3), (2, 8)])
def test_replicas_together_grant_the_rate(per_second: int, processes: int) -> None:
    """Asked far more often for a minute: what one grants is its share, after what its bucket held at first."""
    replicas = [Rates(per_second, processes) for _ in range(processes)]
    granted = 0
    for tick in range(60 * 1_000):
        try:
            replicas[tick % processes].spend("tom", tick / 1_000)
            granted += 1
        except RateLimited:
            pass
    at_first = max(per_second, processes)
    assert 60 * per_second - processes <= granted <= 60 * per_second + at_first


def test_retry_after_is_true() -> None:
    """After it there is room, whatever the share; other spaces have theirs."""
    rates = Rates(1, 4)
    rates.spend("tom", 0.0)
    with pytest.raises(RateLimited) as refused:
        rates.spend("tom", 0.0)
    assert refused.value.retry_after == 4
    rates.spend("ralph", 0.0)
    rates.spend("tom", 4.0)
