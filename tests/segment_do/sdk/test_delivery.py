"""Delivery under trouble: every event stored once, in order, whatever the network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from segment_do import Analytics, InvalidEvent, InvalidRequest, SegmentDoError, Unauthorized, Unavailable
from segment_do.sdk.options import Timing
from tests.segment_do.sdk.platform import CUT, FakeTime, Platform, running

Make = Callable[..., Analytics]


@pytest.fixture
def patient(make: Make, timing: Timing) -> Analytics:
    """A client for whom time passes only in its waits."""
    return make(timing=timing, linger_seconds=0)


def retries(platform: Platform) -> list[str | None]:
    return [request.headers.get("x-retry-count") for request in platform.requests]


@pytest.mark.parametrize("status", [408, 429, 460, 500, 502, 503, 504])
def test_a_refusal_for_now_is_tried_again_with_the_same_ids(
    platform: Platform, patient: Analytics, fake: FakeTime, status: int
) -> None:
    """Backoff doubles, X-Retry-Count counts, sentAt is new, messageIds are not."""
    platform.answers.extend([(status, {}, {})] * 3)
    patient.track("X", user_id="u").wait(5)
    assert retries(platform) == [None, "1", "2", "3"]
    assert fake.waits == [0.5, 1.0, 2.0]
    assert len({tuple(request.message_ids) for request in platform.requests}) == 1
    assert len({request.body["sentAt"] for request in platform.requests}) == 4
    assert len({request.events[0]["timestamp"] for request in platform.requests}) == 1


def test_retry_after_is_respected_in_both_spellings(platform: Platform, patient: Analytics, fake: FakeTime) -> None:
    """Seconds or a date, capped at 300 s; the client adds at most half a second."""
    date = datetime.fromtimestamp(fake.wall(), UTC) + timedelta(seconds=18)
    platform.answers.extend(
        [
            (429, {"Retry-After": "7"}, {}),
            (503, {"Retry-After": format_datetime(date, usegmt=True)}, {}),
            (503, {"Retry-After": "86400"}, {}),
        ]
    )
    patient.track("X", user_id="u").wait(5)
    assert fake.waits == [7.5, 11.0, 300.5]


def test_a_connection_cut_after_the_request_was_read(platform: Platform, patient: Analytics, fake: FakeTime) -> None:
    """Nobody knows whether it was stored: the same event goes out again, and counts once."""
    platform.answers.extend([CUT, CUT])
    receipts = [patient.track("X", {"n": n}, user_id="u") for n in range(3)]
    for receipt in receipts:
        receipt.wait(5)
    assert retries(platform)[:3] == [None, "1", "2"]
    assert [event["properties"]["n"] for event in platform.distinct()] == [0, 1, 2]
    assert fake.waits[:2] == [0.5, 1.0]


def test_order_is_kept_across_retries(platform: Platform, make: Make, timing: Timing) -> None:
    """Later batches wait for the one in trouble."""
    platform.answers.extend([(503, {}, {}), (503, {}, {}), (200, {}, {}), (503, {}, {})])
    client = make(timing=timing, linger_seconds=0, batch_events=2)
    client.batch({"type": "track", "event": str(n), "userId": "u"} for n in range(6)).wait(5)
    assert [event["event"] for event in platform.distinct()] == list("012345")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidRequest), (401, Unauthorized), (404, SegmentDoError), (413, InvalidRequest), (501, SegmentDoError)],
)
def test_a_refusal_for_good_fails_its_batch_and_the_next_goes_on(
    platform: Platform, patient: Analytics, fake: FakeTime, status: int, kind: type[SegmentDoError]
) -> None:
    """Sending it again gives the same answer, so it is not sent again."""
    platform.answers.append((status, {}, {"code": "c", "message": "No."}))
    with pytest.raises(kind, match=rf"answered {status}: No\."):
        patient.track("bad", user_id="u").wait(5)
    patient.track("good", user_id="u").wait(5)
    assert [event["event"] for event in platform.events] == ["bad", "good"]
    assert fake.waits == []


def test_an_event_that_is_set_aside_fails_alone(platform: Platform, make: Make) -> None:
    """The platform names it in its 200; on_error hears of it as well."""
    told: list[tuple[SegmentDoError, list[str]]] = []
    client = make(on_error=lambda error, ids: told.append((error, ids)))
    platform.answers.append(
        (200, {}, {"success": True, "rejected": [{"index": 1, "messageId": "m1", "code": "blocked", "message": "No"}]})
    )
    batch = client.batch({"type": "track", "event": "X", "userId": "u", "messageId": f"m{n}"} for n in range(3))
    with pytest.raises(InvalidEvent, match=r"^No$"):
        batch.wait(5)
    assert [receipt.error and receipt.error.code for receipt in batch] == [None, "blocked", None]
    assert [(error.code, ids) for error, ids in told] == [("blocked", ["m1"])]


def test_trying_ends_with_the_budget(platform: Platform, make: Make, timing: Timing, fake: FakeTime) -> None:
    """A batch fails after `retry_seconds`; the error tells the last answer, and the next batch goes on."""
    platform.answers.extend([(503, {}, {"message": "Disk full."})] * 4)
    client = make(timing=timing, linger_seconds=0, retry_seconds=4)
    with pytest.raises(Unavailable, match=r"within 4 seconds.*Disk full") as caught:
        client.track("X", user_id="u").wait(5)
    assert caught.value.code == "retries_exhausted"
    assert fake.waits == [0.5, 1.0, 2.0]
    client.track("Y", user_id="u").wait(5)


def test_a_platform_that_starts_later_gets_the_events(make: Make, timing: Timing, fake: FakeTime) -> None:
    """Nobody listens, the events are kept, somebody listens, they arrive."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tried = threading.Semaphore(0)
    go = threading.Event()

    def wait(condition: threading.Condition, seconds: float) -> None:
        fake.wait(condition, seconds)
        tried.release()
        condition.release()
        go.wait(5)
        condition.acquire()

    patient = Timing(wall=fake.wall, monotonic=fake.monotonic, random=fake.random, wait=wait)
    with Analytics("wk", host=f"http://127.0.0.1:{port}", timing=patient, linger_seconds=0) as client:
        receipt = client.track("early", user_id="u")
        assert tried.acquire(timeout=5)
        assert not receipt.done
        with running(port) as platform:
            go.set()
            receipt.wait(5)
            client.close(2).wait()
        assert [event["event"] for event in platform.events] == ["early"]


def test_trouble_is_told_once_and_so_is_its_end(
    platform: Platform, patient: Analytics, caplog: pytest.LogCaptureFixture
) -> None:
    """A log line a second for hours helps nobody."""
    caplog.set_level("INFO", "segment_do")
    platform.answers.extend([(503, {}, {})] * 5)
    patient.track("X", user_id="u").wait(5)
    lines = [record.message for record in caplog.records if record.name == "segment_do"]
    assert len(lines) == 2
    assert lines[0].startswith("The platform answered 503.")
    assert lines[1].startswith("Events are delivered again")


def test_a_bug_in_the_programs_on_error_does_not_stop_the_sender(
    platform: Platform, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next event is delivered."""

    def broken(error: SegmentDoError, ids: list[str]) -> Any:
        raise ZeroDivisionError

    client = make(on_error=broken)
    platform.answers.append((400, {}, {}))
    with pytest.raises(InvalidRequest):
        client.track("bad", user_id="u").wait(5)
    client.track("good", user_id="u").wait(5)
    assert "on_error raised" in caplog.text
