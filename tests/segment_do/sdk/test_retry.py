"""Which answers mean "again", and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.sdk.retry import (
    FIRST_BACKOFF_SECONDS,
    MAX_BACKOFF_SECONDS,
    backoff_seconds,
    is_retryable,
    retry_after_seconds,
    wait_seconds,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_statuses_that_segments_clients_retry() -> None:
    """408, 429, 460 and 5xx but for 501, 505 and 511."""
    retried = {status for status in range(300, 700) if is_retryable(status)}
    assert retried == {408, 429, 460, *range(500, 600)} - {501, 505, 511}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("301", 300.0),
        ("9" * 500, 300.0),
        (format_datetime(NOW + timedelta(seconds=12), usegmt=True), 12.0),
        (format_datetime(NOW - timedelta(seconds=12), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=2), usegmt=True), 300.0),
        ("Fri, 99 Jan 2026 03:04:05 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    """Believed up to 300 seconds; what cannot be read is as if it were not there."""
    assert retry_after_seconds(header, NOW.timestamp()) == seconds


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_no_header_can_break_it(header: str) -> None:
    """Servers write anything."""
    found = retry_after_seconds(header, NOW.timestamp())
    assert found is None or 0 <= found <= 300


def test_backoff_is_full_jitter_under_a_doubling_ceiling() -> None:
    """0.5 s, 1 s, 2 s … 30 s, and anywhere below."""
    assert [backoff_seconds(n, 1.0) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff_seconds(1_000_000, 1.0) == MAX_BACKOFF_SECONDS
    assert backoff_seconds(5, 0.0) == 0.0


def test_the_servers_wish_comes_before_the_backoff() -> None:
    """Never earlier than asked, and not all clients in one moment; `Retry-After: 0` is no invitation to hammer."""
    assert wait_seconds(9, 2.0, 0.0) == 2.0
    assert wait_seconds(9, 2.0, 1.0) == 2.0 + FIRST_BACKOFF_SECONDS
    assert wait_seconds(3, 0.0, 1.0) == 2.0
    assert wait_seconds(9, None, 1.0, soon=True) == 2.0
