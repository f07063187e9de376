"""What follows from an attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destinations.base import Outcome
from destinations.retry import backoff_seconds, decide, reason_of, retry_after_seconds, verdict
from segment_do.settings import DeliverySettings

NOW = 1_700_000_000_000_000
SETTINGS = DeliverySettings(retry_first_seconds=1, retry_max_seconds=600, retry_hours=4)
HOURS = 3600 * 1_000_000


@pytest.mark.parametrize("status", [408, 425, 429, 460, 500, 502, 503, 504, 507, 520, 599])
def test_statuses_that_are_retried(status: int) -> None:
    """The set that Segment's clients retry."""
    assert verdict(Outcome(status)) == "retry"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 451, 501, 505, 511, 100])
def test_statuses_that_are_given_up(status: int) -> None:
    """Other answers say that the same request would fail again."""
    assert verdict(Outcome(status)) == "discard"
    assert reason_of(Outcome(status)) == f"status_{status}"


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirect_is_a_failure_of_its_own(status: int) -> None:
    """A redirect is not followed and not retried."""
    assert verdict(Outcome(status)) == "discard"
    assert reason_of(Outcome(status)) == "redirect"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_statuses_that_are_fine(status: int) -> None:
    """Every 2xx is a delivery."""
    assert verdict(Outcome(status)) == "ok"
    assert reason_of(Outcome(status)) == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("timeout", "retry"),
        ("connection_refused", "retry"),
        ("connection_reset", "retry"),
        ("name_not_found", "retry"),
        ("tls", "retry"),
        ("network", "retry"),
        ("address_refused", "discard"),
        ("sender_failed", "discard"),
        ("unreadable", "discard"),
        ("unsendable", "discard"),
    ],
)
def test_errors_without_an_answer(error: str, expected: str) -> None:
    """The network may heal; our own refusal or fault does not."""
    assert verdict(Outcome(error=error)) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("99999", 600),
        ("9" * 5000, 600),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),  # a digit, not an ASCII one
        (format_datetime(datetime.fromtimestamp(NOW / 1e6 + 30, UTC), usegmt=True), 30),
        (format_datetime(datetime.fromtimestamp(NOW / 1e6 - 30, UTC), usegmt=True), 0),
        ("Wed, 99 Nov 2026 99:00:00 GMT", None),
    ],
)
def test_retry_after(header: str, expected: float | None) -> None:
    """Whole seconds or an HTTP date, capped; anything else is as if it were not there."""
    assert retry_after_seconds(header, NOW, 600) == expected


@given(st.text())
def test_retry_after_never_raises(header: str) -> None:
    """Whatever a receiver sends, there is a wait between 0 and the cap, or none."""
    found = retry_after_seconds(header, NOW, 600)
    assert found is None or 0 <= found <= 600


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_within_its_bounds(attempts: int, chance: float) -> None:
    """Between half and all of first x 2^(n-1), never above the longest wait."""
    full = min(2.0 ** min(attempts - 1, 60), 600)
    assert full / 2 <= backoff_seconds(attempts, SETTINGS, lambda: chance) <= full


outcomes = st.builds(
    Outcome,
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.sampled_from(["timeout", "network", "sender_failed"]),
    retry_after=st.none() | st.sampled_from(["0", "3", "100000", "x"]),
)


@given(outcomes, st.integers(1, 500), st.integers(0, 6 * HOURS), st.floats(0, 1, exclude_max=True))
def test_every_decision_is_sound(outcome: Outcome, attempts: int, age: int, chance: float) -> None:
    """Retries lie in the future and within bounds; after the hours there are none; what succeeds is never retried."""
    decision = decide(
        outcome, attempts=attempts, first_failed_at=NOW - age, now=NOW, settings=SETTINGS, random=lambda: chance
    )
    assert (decision.kind == "ok") == (outcome.status is not None and 200 <= outcome.status < 300)
    assert (decision.reason == "") == (decision.kind == "ok")
    if decision.kind == "retry":
        assert age < 4 * HOURS
        assert NOW < decision.next_at <= NOW + 660 * 1_000_000
    if verdict(outcome) == "retry" and age >= 4 * HOURS:
        assert decision.kind == "discard"
        assert decision.reason.startswith("gave_up:")


def test_last_attempt_is_at_the_deadline() -> None:
    """A wait that would pass the hours is cut to them: the event is tried once more before it is given up."""
    first = NOW - 4 * HOURS + 5_000_000
    decision = decide(Outcome(503), attempts=20, first_failed_at=first, now=NOW, settings=SETTINGS, random=lambda: 0.5)
    assert decision.next_at == NOW + 5_000_000


def test_retry_after_is_never_undercut() -> None:
    """The next attempt is not before what the receiver asked for, also when the deadline is nearer."""
    decision = decide(
        Outcome(429, retry_after="60"),
        attempts=1,
        first_failed_at=NOW - 4 * HOURS + 5_000_000,
        now=NOW,
        settings=SETTINGS,
        random=lambda: 0.0,
    )
    assert decision.next_at == NOW + 60_000_000
