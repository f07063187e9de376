"""An assertion buys one token, an app so many a minute, and what is remembered has a bound."""

from __future__ import annotations

import pytest

from segment_do.errors import Busy, ClientRefused, RateLimited
from segment_do.oauth import Redemptions


def test_an_assertion_buys_one_token() -> None:
    """The same jti of the same app is refused until it would be refused by its time; another app may have used it too."""
    redemptions = Redemptions(100)
    redemptions.redeem("a", "j", 60.0, 0.0)
    redemptions.redeem("b", "j", 60.0, 0.0)
    with pytest.raises(ClientRefused) as refused:
        redemptions.redeem("a", "j", 60.0, 59.9)
    assert refused.value.code == "replayed"
    redemptions.redeem("a", "j", 120.0, 60.0)


def test_the_rate_is_an_apps_own() -> None:
    """Beyond it: when to come back, in whole seconds; then it works, with the same assertion. Others are not held up."""
    redemptions = Redemptions(6)
    for number in range(6):
        redemptions.redeem("a", str(number), 1000.0, 0.0)
    with pytest.raises(RateLimited) as limited:
        redemptions.redeem("a", "next", 1000.0, 0.0)
    assert limited.value.retry_after == 10
    redemptions.redeem("b", "next", 1000.0, 0.0)
    with pytest.raises(RateLimited):
        redemptions.redeem("a", "next", 1000.0, 9.9)
    redemptions.redeem("a", "next", 1000.0, 10.0)


def test_a_replay_does_not_use_up_the_rate() -> None:
    """Whoever has seen somebody's assertion cannot keep that somebody from getting tokens."""
    redemptions = Redemptions(2)
    redemptions.redeem("a", "j", 60.0, 0.0)
    for _ in range(10):
        with pytest.raises(ClientRefused):
            redemptions.redeem("a", "j", 60.0, 0.0)
    redemptions.redeem("a", "k", 60.0, 0.0)


def test_what_is_remembered_is_bounded() -> None:
    """Assertions: at the bound no token, until one has expired. Apps: the one that asked longest ago is forgotten."""
    redemptions = Redemptions(1, most_assertions=3, most_apps=2)
    for number, app in enumerate("abc"):
        redemptions.redeem(app, "j", 10.0 + number, 0.0)
    with pytest.raises(Busy):
        redemptions.redeem("d", "j", 60.0, 9.0)
    redemptions.redeem("a", "k", 60.0, 10.0)  # forgotten, so it begins anew
    with pytest.raises(RateLimited):
        redemptions.redeem("c", "k", 60.0, 12.0)
    assert len(redemptions._levels) == 2


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time that runs backwards refills nothing and breaks nothing."""
    redemptions = Redemptions(1)
    redemptions.redeem("a", "j", 60.0, 10.0)
    with pytest.raises(RateLimited):
        redemptions.redeem("a", "k", 60.0, 0.0)
