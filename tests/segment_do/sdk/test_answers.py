"""What the platform's answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.errors import (
    InvalidEvent,
    InvalidRequest,
    NotFound,
    SegmentDoError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from segment_do.sdk.answers import outcomes, refusal
from segment_do.sdk.transport import Answer


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    return Answer(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, InvalidRequest, False),
        (401, Unauthorized, False),
        (403, Unauthorized, False),
        (404, NotFound, False),
        (413, TooLarge, False),
        (302, SegmentDoError, False),
        (501, SegmentDoError, False),
        (408, Unavailable, True),
        (429, Unavailable, True),
        (503, Unavailable, True),
    ],
)
def test_each_status_becomes_an_error_of_the_tree(status: int, kind: type[SegmentDoError], retryable: bool) -> None:
    """With the platform's own code and sentence."""
    found = refusal(answer(status, {"code": "its_code", "message": "Its sentence"}), 0)
    assert found is not None
    assert type(found.error) is kind
    assert found.error.code == "its_code"
    assert found.error.message == f"The platform answered {status}: Its sentence."
    assert found.retryable is retryable


def test_retry_after_travels_with_the_refusal() -> None:
    """Into the wait, and into the error."""
    found = refusal(Answer(429, {"retry-after": "17"}, b"not json"), 0)
    assert found is not None
    assert found.retry_after == 17
    assert isinstance(found.error, Unavailable)
    assert found.error.retry_after == 17


def test_success_is_any_2xx() -> None:
    """Whatever its body."""
    assert refusal(answer(200, b"<html>"), 0) is None
    assert outcomes(answer(204), ["a", "b"]) == [None, None]


def test_rejections_hit_their_events_alone() -> None:
    """By index, or by messageId where the index says nothing."""
    body = {
        "success": True,
        "rejected": [
            {"index": 2, "messageId": "c", "code": "missing_event", "message": "No name."},
            {"index": 99, "messageId": "a", "code": "wrong_type", "message": "Wrong."},
            {"index": "x", "messageId": "nobody's"},
            "noise",
        ],
    }
    first, second, third = outcomes(answer(200, body), ["a", "b", "c"])
    assert second is None
    assert isinstance(first, InvalidEvent)
    assert isinstance(third, InvalidEvent)
    assert (first.code, third.code, third.message) == ("wrong_type", "missing_event", "No name.")


@settings(max_examples=60)
@given(
    st.integers(100, 599),
    st.binary(max_size=30)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["rejected", "index", "code", "message"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_answer_breaks_the_sender(status: int, body: bytes) -> None:
    """A proxy may answer anything at all."""
    found = refusal(Answer(status, {}, body), 0)
    assert (found is None) == (200 <= status <= 299)
    assert len(outcomes(Answer(200, {}, body), ["a"])) == 1
