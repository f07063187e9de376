"""The main job as a user does it: start, make a source, send, see it in SQL and at a webhook, stop, start again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from segment_do import Analytics
from tests.load.platform import Platform, running_platform
from warehouse import query

pytestmark = pytest.mark.platform

SEED = (
    "SELECT event, count(*) AS count, avg(revenue) AS avgRevenue FROM events "
    "WHERE timestamp > now() - INTERVAL 7 DAY GROUP BY event ORDER BY count DESC"
)
COMMAND = str(Path(sys.executable).with_name("segment-do"))


def run(platform: Platform, *arguments: str, given: str | None = None, fails: bool = False) -> str:
    """stdout of one command of the CLI."""
    done = subprocess.run(
        [COMMAND, *arguments], env=platform.env, input=given, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout


@contextmanager
def webhook() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]], threading.Condition]]:
    """A server that keeps what it is sent."""
    received: list[tuple[dict[str, str], bytes]] = []
    changed = threading.Condition()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with changed:
                received.append((dict(self.headers), body))
                changed.notify_all()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received, changed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_from_the_first_event_to_sql_and_webhook(platform: Platform) -> None:
    """Source, destination, event, answer: by the commands and the shapes that programs rely on."""
    with webhook() as (url, received, changed):
        source = json.loads(run(platform, "sources", "create", "Shop", "--identity", "shop", "--json"))
        assert {"id", "name", "identity", "writeKey"} <= source.keys()
        assert (source["name"], source["identity"]) == ("Shop", "shop")
        added = json.loads(
            run(platform, "destinations", "add", "webhook", "--source", source["id"], "--set", f"url={url}", "--json")
        )
        event = {
            "userId": "ada",
            "anonymousId": "a1",
            "event": "Order Completed",
            "messageId": "first-order",
            "properties": {"revenue": 42.5, "note": "é \U0001f600"},
            "unknown": {"kept": True},
        }
        answer = httpx.post(f"{platform.url}/v1/track", json=event, auth=(source["writeKey"], ""))
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        with changed:
            assert changed.wait_for(lambda: received, timeout=20)
        delivered = json.loads(received[0][1])
        assert delivered["unknown"] == {"kept": True}
        assert delivered["messageId"] == "first-order"
        assert {"receivedAt", "timestamp", "originalTimestamp"} <= delivered.keys()
        rows = [json.loads(line) for line in run(platform, "sql", SEED, "--json").splitlines()]
        assert all(set(row) == {"event", "count", "avgRevenue"} for row in rows)
        assert [row["count"] for row in rows] == sorted((row["count"] for row in rows), reverse=True)
        mine = SEED.replace("GROUP BY", "AND identity = 'shop' GROUP BY")
        assert [json.loads(line) for line in run(platform, "sql", mine, "--json").splitlines()] == [
            {"event": "Order Completed", "count": 1, "avgRevenue": 42.5}
        ]
        (row,) = platform.sql("SELECT user_id, identity, properties FROM events WHERE message_id = 'first-order'")
        assert row[:2] == ["ada", "shop"]
        assert json.loads(row[2])["note"] == "é \U0001f600"
        traced = platform.api("GET", "/api/trace/first-order")
        assert traced["stages"]["queryable"] is True
        profile = platform.api("GET", "/api/profiles/shop/anonymous_id:a1")
        assert {"type": "user_id", "id": "ada"} in profile["externalIds"]
        run(platform, "destinations", "remove", added["id"])


def test_what_is_set_aside_can_be_read(platform: Platform) -> None:
    """One bad event of a batch: the others go on, and GET /api/rejected tells of it."""
    source = platform.create_source("bad", "bad")
    batch = [{"type": "track", "userId": "u", "event": "ok", "messageId": "bad-ok"}, {"type": "track", "userId": "u"}]
    answer = httpx.post(f"{platform.url}/v1/batch", json={"batch": batch}, auth=(source["writeKey"], ""))
    assert answer.json()["rejected"][0]["code"] == "missing_event"
    for _ in range(100):
        found = [one for one in platform.api("GET", "/api/rejected")["rejected"] if one["sourceId"] == source["id"]]
        if found:
            break
    assert (found[0]["code"], found[0]["identity"]) == ("missing_event", "bad")
    assert json.loads(found[0]["payload"]) == batch[1]


async def test_an_agent_has_its_own_pipeline(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Analytics.for_(agent): source, key, actor and graph on first use; awaiting waits for the 200; SQL finds it."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(platform.home))
    tom = Analytics.for_("tom")
    await tom.track("Code Review Completed", {"pr": 123})
    tom.identify("ralph@agents.do", {"role": "developer"})
    await tom.flush()
    for _ in range(100):
        (found,) = await query.sql("SELECT count(*) AS events FROM events WHERE identity = 'tom'")
        if found["events"] == 2:
            break
    rows = await query.sql("SELECT type, event, user_id, pr FROM events WHERE identity = 'tom' ORDER BY type")
    await tom.close()
    assert rows == [
        {"type": "identify", "event": None, "user_id": "ralph@agents.do", "pr": None},
        {"type": "track", "event": "Code Review Completed", "user_id": "tom", "pr": 123},
    ]
    profile = platform.api("GET", "/api/profiles/tom/user_id:ralph@agents.do")
    assert profile["traits"] == {"role": "developer"}
    assert [source["identity"] for source in platform.api("GET", "/api/sources")["sources"]].count("tom") == 1


def test_a_rotated_key_stops_working_at_once(platform: Platform) -> None:
    """After `sources rotate` the old key is refused and the new one works."""
    source = platform.create_source("rotating", "rotating")
    event = {"userId": "u", "event": "E"}
    assert httpx.post(f"{platform.url}/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 200
    renewed = json.loads(run(platform, "sources", "rotate", source["id"], "--json"))
    assert httpx.post(f"{platform.url}/v1/track", json=event, auth=(renewed["writeKey"], "")).status_code == 200
    for _ in range(200):  # the replica hears of it by its long poll, within milliseconds
        if httpx.post(f"{platform.url}/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 401:
            break
    else:
        raise AssertionError("the old key still works")


def test_send_and_wait_follows_an_event(platform: Platform) -> None:
    """`segment-do send --wait` ends when the event is queryable."""
    told = run(platform, "send", "--event", "Hello", "--user-id", "bob", "--wait", "--json")
    assert "queryable" in told


def test_import_keeps_old_times(platform: Platform, tmp_path: Path) -> None:
    """Historical JSON lines keep their timestamps, and a second import of the same file adds nothing."""
    source = platform.create_source("history", "history")
    file = tmp_path / "old.jsonl"
    file.write_text(
        "".join(
            json.dumps({"type": "track", "userId": "u", "event": "Old", "timestamp": f"2020-01-{day:02d}T00:00:00Z"})
            + "\n"
            for day in range(1, 29)
        )
    )
    for _ in range(2):
        run(platform, "import", str(file), "--source", source["id"])
        (file.with_name("old.jsonl.segment_do-import.json")).unlink(missing_ok=True)
    for _ in range(100):
        ((number, first),) = platform.sql(
            "SELECT count(*), min(timestamp)::VARCHAR FROM events WHERE identity = 'history'"
        )
        if number >= 28:
            break
    assert number == 28
    assert first.startswith("2020-01-01 00:00:00")


def test_only_the_owner_may_read_the_secrets(platform: Platform) -> None:
    """The admin token and the data directory are the owner's alone, and no log line holds a key or the token."""
    assert (platform.home / "token").stat().st_mode & 0o077 == 0
    keys = [source["writeKey"] for source in platform.api("GET", "/api/sources")["sources"]]
    secrets = [platform.token, *keys]
    for path in (platform.home / "logs").rglob("*.log"):
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path
    assert httpx.get(f"{platform.url}/api/status").status_code == 401


def test_the_admin_api_offers_no_cors(platform: Platform) -> None:
    """A page of another origin cannot read the control API even if it had a token."""
    answer = httpx.get(f"{platform.url}/api/status", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_two_platforms_and_a_restart(platform: Platform, tmp_path: Path) -> None:
    """A second platform with its own home and port runs beside the first; stopped and started it finds everything as it was."""
    home = tmp_path / "second"
    home.mkdir()
    with running_platform(home=home) as second:
        assert second.url != platform.url
        source = second.create_source("kept", "kept")
        event = {"userId": "u", "event": "Before", "messageId": "before"}
        assert httpx.post(f"{second.url}/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 200
        assert httpx.post(f"{platform.url}/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 401
        assert second.stop()
        assert not (home / "run.json").exists()
        assert "No platform runs" in run(second, "status", fails=True)
        second.start()
        event |= {"messageId": "after", "event": "After"}
        for _ in range(2):
            assert httpx.post(f"{second.url}/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 200
        for _ in range(100):
            rows = second.sql("SELECT event FROM events ORDER BY event DESC")
            if len(rows) >= 2:
                break
        assert rows == [["Before"], ["After"]]
        held = subprocess.run([COMMAND, "dev"], env=second.env, capture_output=True, text=True, timeout=60)
        assert held.returncode == 1
        assert "already" in held.stderr.lower() or "use" in held.stderr.lower()
    assert os.path.exists(home)
