from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.segment_do.cli.api import CUT, Api
from tests.segment_do.cli.conftest import run

FLAGS = ["--event", "Order Completed", "--user-id", "u1"]


def lines(count: int, **fields: object) -> str:
    return "".join(
        json.dumps({"type": "track", "event": "E", "userId": "u", "n": n, **fields}) + "\n" for n in range(count)
    )


def test_event_from_flags(api: Api) -> None:
    """Flags become one event of the source `cli`, which is made; numbers in --properties stay as written."""
    ran = run(
        "send", *FLAGS, "--properties", '{"total": 1.0, "big": 12345678901234567890123}', "--message-id", "m1", "--json"
    )
    assert ran.rows == [{"messageId": "m1", "accepted": True}]
    (event,) = api.events.values()
    assert (event["type"], event["event"], event["userId"]) == ("track", "Order Completed", "u1")
    assert b'"total":1.0,"big":12345678901234567890123' in api.bodies[0].replace(b" ", b"")
    assert [source["name"] for source in api.sources.values()] == ["cli"]
    assert "sentAt" not in api.batches[0]


def test_every_type_from_flags(api: Api) -> None:
    """All six types can be sent."""
    assert run("send", "--type", "identify", "--user-id", "u", "--traits", '{"plan": "pro"}').code == 0
    assert run("send", "--type", "group", "--user-id", "u", "--group-id", "g").code == 0
    assert run("send", "--type", "alias", "--user-id", "u", "--previous-id", "a").code == 0
    assert run("send", "--type", "page", "--anonymous-id", "a", "--name", "Home").code == 0
    assert run("send", "--type", "screen", "--anonymous-id", "a", "--timestamp", "2020-01-01T00:00:00Z").code == 0
    assert [event["type"] for event in api.events.values()] == ["identify", "group", "alias", "page", "screen"]
    assert list(api.events.values())[-1]["timestamp"] == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["--event", "E"],
            "Error: The event has neither userId nor anonymousId.\n  Add --user-id or --anonymous-id.\n",
        ),
        ([*FLAGS, "--properties", "[1]"], "Error: --properties is not a JSON object"),
        (["--type", "nonsense", "--user-id", "u"], "Error: The event's type must be one of"),
        ([*FLAGS, "--timestamp", "yesterday"], "Error: `timestamp` is text that is not ISO 8601."),
        ([*FLAGS, "--source", "nobody"], "Error: There is no source 'nobody'.\n"),
        ([*FLAGS, "--write-key", "wrong"], "Error: The write key is not known.\n"),
        (["--file", "/nonexistent"], "Error: The file /nonexistent cannot be read: No such file or directory.\n"),
    ],
)
def test_events_that_cannot_be_sent(api: Api, args: list[str], told: str) -> None:
    """What is wrong is said in a sentence; exit code 1 and nothing is stored."""
    ran = run("send", *args)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(told)
    assert not api.events


def test_many_from_stdin_go_in_batches(api: Api) -> None:
    """JSON lines on stdin: at most 100 events and 475,000 bytes a request, in order, none lost, all with a messageId."""
    api.add_source("Web")
    ran = run("send", "-", "--source", "Web", "--json", stdin=lines(250) + lines(30, pad="x" * 30_000))
    assert (ran.code, len(ran.rows)) == (0, 280)
    assert max(len(batch["batch"]) for batch in api.batches) == 100
    assert max(len(body) for body in api.bodies) <= 500_000
    assert [event["n"] for event in api.events.values()] == [*range(250), *range(30)]
    assert [row["messageId"] for row in ran.rows] == list(api.events)


def test_write_key_from_environment(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEGMENT_DO_WRITE_KEY keeps a key off the command line; then no source is made."""
    api.add_source("Web")
    monkeypatch.setenv("SEGMENT_DO_WRITE_KEY", "wk_1")
    assert run("send", *FLAGS).code == 0
    assert list(api.sources) == ["src_1"]


@pytest.mark.parametrize(
    "text", ['{\n "event": "E", "type": "track",\n "userId": "u"\n}\n', '[{"userId":"u"}, {"userId":"v"}]']
)
def test_file_may_be_one_document(api: Api, tmp_path: Path, text: str) -> None:
    """A file may hold one JSON document over several lines, an object or an array."""
    file = tmp_path / "events.json"
    file.write_text(text)
    assert run("send", "--file", str(file)).code == 0
    assert len(api.events) == text.count("userId")


def test_file_of_lines(api: Api, tmp_path: Path) -> None:
    """A file of lines larger than a document may be is sent whole."""
    file = tmp_path / "events.jsonl"
    file.write_text(lines(1500, pad="x" * 1000))
    ran = run("send", "--file", str(file), "--json")
    assert (ran.code, len(api.events)) == (0, 1500)


def test_bad_lines_cost_no_other(api: Api) -> None:
    """Lines that are no events, and events that are set aside, are told with their line; the others are stored; exit 1."""
    ran = run("send", "-", stdin='nonsense\n\n{"event": "nobody"}\n{"userId": "u"}\n[1]\n' + "x" * 480_000 + "\n")
    assert ran.code == 1
    assert len(api.events) == 1
    assert "Line 1: The line is not a JSON object" in ran.err
    assert "Line 3: The event has neither userId nor anonymousId." in ran.err
    assert "Line 6: it is longer than 475,000 bytes." in ran.err
    assert "Error: 4 of 5 events were set aside; the others are stored." in ran.err


def test_refused_events_in_json(api: Api) -> None:
    """With --json an event that was set aside is a line with its reason."""
    ran = run("send", "-", "--json", stdin='{"event": "nobody", "messageId": "m"}\n')
    assert ran.code == 1
    (row,) = ran.rows
    told = {"accepted": False, "code": "no_user_anon_id", "message": "The event has neither userId nor anonymousId."}
    assert row == {"messageId": "m", **told, "line": 1}


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(api: Api, pauses: list[float], status: int) -> None:
    """429 and 503 are tried again, not before what Retry-After asks for; stdout stays pure data."""
    api.misbehave += [(status, {"retry-after": "3"}), (status, {})]
    ran = run("send", *FLAGS, "--json")
    assert (ran.code, len(ran.rows), api.received) == (0, 1, 1)
    assert 3 <= pauses[0] <= 3.5
    assert 0 <= pauses[1] <= 2
    assert "Too many requests are in flight. Trying again in 3." in ran.err


def test_cut_connection_doubles_nothing(api: Api, pauses: list[float]) -> None:
    """A connection cut after the events were stored: they are sent again under the same messageIds."""
    api.misbehave.append(CUT)
    ran = run("send", "-", "--json", stdin=lines(5))
    assert (ran.code, len(ran.rows)) == (0, 5)
    assert (api.received, len(api.events)) == (10, 5)


def test_patience_ends(api: Api, pauses: list[float]) -> None:
    """A platform that asks for longer than anybody waits ends the command, saying what it said."""
    api.misbehave.append((503, {"retry-after": "120"}))
    ran = run("send", *FLAGS)
    assert (ran.code, pauses) == (1, [])
    assert ran.err == "Error: Too many requests are in flight.\n"


def test_wait_follows_each_stage(api: Api, pauses: list[float]) -> None:
    """--wait tells each stage with its time as it is reached, asking less and less often."""
    api.trace_after, api.delivered = 3, {"dst_1": True}
    ran = run("send", *FLAGS, "--message-id", "a/b ü", "--wait")
    assert ran.code == 0
    stages = [line.removeprefix("a/b ü  ").rsplit("  ", 1)[0] for line in ran.out.splitlines()]
    assert stages == ["accepted", "applied", "queryable", "delivered to dst_1"]
    assert len(pauses) == 5
    assert pauses == sorted(pauses)


def test_wait_in_json(api: Api, pauses: list[float]) -> None:
    """--wait --json prints one object an event, with every stage and its seconds."""
    api.delivered = {"dst_1": True}
    (row,) = run("send", *FLAGS, "--message-id", "m", "--wait", "--json").rows
    assert row["stages"] == {"accepted": True, "applied": True, "queryable": True, "delivered": {"dst_1": True}}
    assert (row["messageId"], row["complete"]) == ("m", True)
    seconds = row["seconds"]
    assert isinstance(seconds, dict)
    assert 0 < seconds["accepted"] <= seconds["applied"] <= seconds["queryable"] <= seconds["delivered"]["dst_1"]


def test_wait_runs_out(api: Api) -> None:
    """Time that runs out: exit code 1, and what was not reached."""
    api.delivered = {"dst_1": "retrying"}
    ran = run("send", *FLAGS, "--wait", "--timeout", "0.3", "--json")
    assert ran.code == 1
    assert ran.rows[0]["complete"] is False
    assert "of 1 events: 1 not delivered to dst_1 (it is being tried again)." in ran.err


def test_wait_for_a_dead_letter(api: Api, pauses: list[float]) -> None:
    """An event that a destination has given up ends the wait with exit code 1 and where to look."""
    api.delivered = {"dst_1": "dead"}
    ran = run("send", *FLAGS, "--wait")
    assert ran.code == 1
    assert "given up by dst_1" in ran.out
    assert "`segment-do destinations dead dst_1` shows why." in ran.err
