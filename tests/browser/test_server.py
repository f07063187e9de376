"""The SDK for Node.js."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from typing import Any

import pytest

from tests.browser.conftest import HERE
from tests.browser.recorder import CUT, Recorder


def run(node: str, platform: Recorder, what: str) -> list[Any]:
    """What node_calls.mjs prints."""
    done = subprocess.run(
        [node, "node_calls.mjs", platform.url, what],
        cwd=HERE, check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_call_resolves_when_stored(node: str, platform: Recorder) -> None:
    """All calls in both spellings, in one compressed batch, in order, each once."""
    assert run(node, platform, "six") == [["stored"] * 8]
    (request,) = platform.requests
    assert request.path == "/v1/batch"
    assert request.headers["authorization"] == "Basic " + b64encode(b"k:").decode()
    assert request.headers["content-encoding"] == "gzip"
    types = ["identify", "track", "track", "page", "screen", "group", "alias", "track"]
    assert [event["type"] for event in request.events] == types
    assert [event.get("userId") for event in request.events] == ["u1", "u1", "u1", None, "u1", "u1", "u2", "7"]
    assert all(event["messageId"].startswith("node-sdo-") for event in request.events)


@pytest.mark.parametrize("answer", [(503, {}), (429, {"Retry-After": "1"}), CUT])
def test_tried_again(node: str, platform: Recorder, answer: object) -> None:
    """The same messageIds again, with X-Retry-Count; the promises resolve all the same."""
    platform.answers.extend([answer, answer])
    assert run(node, platform, "six") == [["stored"] * 8]
    assert [request.retry for request in platform.requests] == [None, "1", "2"]
    assert len({tuple(request.message_ids) for request in platform.requests}) == 1


def test_refused_for_good(node: str, platform: Recorder) -> None:
    """A refused batch rejects each of its promises, once, with a code."""
    platform.answers.append((401, {}))
    assert run(node, platform, "six") == [["unauthorized"] * 8]
    assert len(platform.requests) == 1


def test_wrong_calls_and_bounds(node: str, platform: Recorder) -> None:
    """A call never throws: its promise rejects; one that nobody looks at does not end the process."""
    assert run(node, platform, "wrong") == [
        ["no_user_anon_id", "missing_event", "stored", "stored", "busy"],
        "client_closed",
    ]


def test_an_agent_makes_its_source(node: str, platform: Recorder) -> None:
    """Once, at the first event, with the admin token; then it speaks for itself and for whom it identified."""
    assert run(node, platform, "agent") == [[True]]
    assert platform.sources == [({"name": "tom", "identity": "tom", "ensure": True}, "Bearer t")]
    assert [event["userId"] for event in platform.events] == ["tom", "ralph", "ralph"]
    assert platform.requests[0].headers["authorization"] == "Basic " + b64encode(b"key-of-the-agent:").decode()


def test_the_middleware(node: str, platform: Recorder) -> None:
    """A request is tracked with method, path without its query, status and duration, under the visitor's cookie id."""
    run(node, platform, "express")
    (event,) = platform.events
    assert (event["event"], event["anonymousId"]) == ("HTTP Request", "a1")
    properties = event["properties"]
    assert (properties["method"], properties["path"], properties["status"]) == ("GET", "/path", 404)
    assert properties["durationMs"] >= 0
