"""The SDK for Node.js."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import HERE
from tests.browser.recorder import CUT, Recorder


def run(node: str, platform: Recorder, what: str, **env: str) -> list[Any]:
    """What node_calls.mjs prints."""
    done = subprocess.run(
        [node, "node_calls.mjs", platform.url, what],
        cwd=HERE, check=True, capture_output=True, text=True, timeout=30, env={"PATH": os.environ["PATH"], **env},
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


@pytest.mark.parametrize("answer", [(503, {}), (503, {"Retry-After": "1"}), (429, {"Retry-After": "1"}), CUT])
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


def home(folder: Path, run_json: str) -> str:
    (folder / "run.json").write_text(run_json)
    (folder / "token").write_text("the-token\n")
    return str(folder)


def test_the_platform_is_found_by_its_home_directory(node: str, platform: Recorder, tmp_path: Path) -> None:
    """Address and admin token, where the program gives neither."""
    assert run(node, platform, "home", SEGMENT_DO_HOME=home(tmp_path, json.dumps({"url": platform.url}))) == ["stored"]
    assert platform.sources == [({"name": "tom", "identity": "tom", "ensure": True}, "Bearer the-token")]


def test_a_platform_that_is_starting_is_waited_for(node: str, platform: Recorder, tmp_path: Path) -> None:
    """Half a run.json is no reason to let events go."""
    assert run(node, platform, "late home", SEGMENT_DO_HOME=home(tmp_path, '{"url": "ht')) == ["stored"]


def test_the_token_stays_on_this_machine(node: str, platform: Recorder, tmp_path: Path) -> None:
    """The home directory's token is sent to no other machine, whatever address a program gives."""
    found = home(tmp_path, json.dumps({"url": platform.url}))
    assert run(node, platform, "elsewhere", SEGMENT_DO_HOME=found) == ["settings"]
    assert (platform.sources, platform.requests) == ([], [])


def test_calls_one_after_another(node: str, platform: Recorder) -> None:
    """A call made the moment that the one before was stored is sent as well: nobody has to wake the client."""
    assert run(node, platform, "one by one") == ["done"]
    assert [event["properties"]["n"] for event in platform.events] == list(range(5))
    assert len(platform.requests) == 5


def test_values(node: str, platform: Recorder) -> None:
    """What has no JSON or is too large rejects its own promise; the rest is as it was when the call was made."""
    assert run(node, platform, "values") == [
        ["wrong_type", "wrong_type", "event_too_large", "stored", "stored", "stored", "wrong_type"]
    ]
    date, copied, identify = platform.events
    assert date["properties"] == {"at": "1970-01-01T00:00:00.000Z", "half": "\ud83d", "nan": None}
    assert date["userId"] == "12"
    assert (copied["properties"], copied["userId"]) == ({"n": 1}, "12345678901234567890")
    assert (identify["userId"], identify["traits"]) == ("optional", {"plan": "pro"})


def test_closing_takes_no_longer_than_it_may(node: str, platform: Recorder) -> None:
    """A request that is not answered is cut off, and its events are told to be undelivered."""
    never = threading.Event()
    platform.answers.append(never)
    ((code, milliseconds),) = run(node, platform, "close")
    never.set()
    assert code == "not_delivered"
    assert 290 < milliseconds < 2_000


def test_the_middleware(node: str, platform: Recorder) -> None:
    """In Express: method, path without its query, the whole route, status and duration, under the visitor's cookie ids."""
    run(node, platform, "express")
    user, broken, nothing = platform.events
    assert {event["event"] for event in platform.events} == {"HTTP Request"}
    assert (user["userId"], user["anonymousId"]) == ("u1", "a1")
    properties = user["properties"]
    assert (properties["method"], properties["path"], properties["route"]) == ("GET", "/users/7", "/users/:id")
    assert (properties["status"], properties["completed"], properties["agent"]) == (200, True, "tom")
    assert 0 <= properties["durationMs"] < 10_000
    assert (broken["properties"]["status"], broken["anonymousId"]) == (500, "%E0%A4%A")
    assert broken.get("userId") is None
    assert (nothing["properties"]["status"], nothing["properties"]["path"]) == (404, "/nothing/here")
    assert "route" not in nothing["properties"]
    assert nothing["anonymousId"].startswith("server-")
