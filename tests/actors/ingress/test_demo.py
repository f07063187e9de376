"""The page at /demo: there for this machine's own browser alone, and for one source's data alone."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.control.model import Source
from actors.ingress.demo import Demo
from actors.supervisor import dev_settings
from segment_do.errors import NotFound
from segment_do.events.record import decode_pack
from segment_do.events.whole import whole_event
from segment_do.settings import BrowserSettings, DemoSettings, Settings, load_settings
from tests.actors.inprocess import SOURCES, NoPlatform, RunningPath, path
from tests.waiting import until

ENABLED = DemoSettings(enabled=True)
OWN = Source("src_demo", "demo-page", "demo-page", "key-<demo>", "2026-01-01T00:00:00.000Z")
DATA = ["/demo/events", "/demo/recent", "/demo/sql", "/demo/profile?user_id=ada"]
FILES = [
    "/demo/page.css",
    "/demo/page.js",
    "/demo/calls.js",
    "/demo/stored.js",
    "/demo/icon.svg",
    "/demo/analytics.min.js",
]
SAME = {"sec-fetch-site": "same-origin"}


class DemoPlatform(NoPlatform):
    """What the page asks for: the log is the real one; what SQL and profiles say is shown by the tests with Ray."""

    def __init__(self) -> None:
        super().__init__()
        self.running: RunningPath | None = None
        self.known = [*SOURCES, OWN]
        self.asked: list[Any] = []
        self.held: asyncio.Event | None = None

    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source:
        assert (name, identity, ensure) == ("demo-page", "demo-page", True)
        self.asked.append("create_source")
        assert self.running is not None
        if OWN not in self.running.sources:
            self.running.sources.append(OWN)
        return OWN

    async def sources(self) -> list[Source]:
        return self.known

    async def sql(self, sql: str) -> dict[str, Any]:
        self.asked.append(sql)
        if self.held is not None:
            await self.held.wait()
        return {"columns": ["event", "count"], "rows": [["E", 1]], "elapsedMs": 1.5, "truncated": False, "more": "kept"}

    async def profile(self, identity: str, kind: str, value: str) -> dict[str, Any]:
        self.asked.append((identity, kind, value))
        if value == "nobody":
            raise NotFound("Profile was not found.")
        return {"profileId": "use_1", "traits": {}}

    async def tail(self, source: str | None, identity: str | None, after: int | None) -> AsyncIterator[bytes]:
        assert (identity, after) == (None, None)
        assert self.running is not None
        hub = self.running.hub
        offset = hub.end
        yield b": connected\n\n"
        while True:
            for frame in await hub.read(offset, 1 << 20, 5.0):
                for record in decode_pack(frame.pack, frame.count):
                    if record.source_id == source:
                        yield b"event: event\ndata: %s\n\n" % whole_event(record, "demo-page")
                offset = max(offset, frame.first_offset + frame.count)


@contextlib.asynccontextmanager
async def demo(home: Path, **sections: Any) -> AsyncIterator[tuple[RunningPath, DemoPlatform]]:
    platform = DemoPlatform()
    async with path(home, platform, **{"demo": ENABLED, **sections}) as running:
        platform.running = running
        yield running, platform


async def test_it_is_not_there_unless_it_is_asked_for(tmp_path: Path) -> None:
    """By default each of its paths is 404, as any path that does not exist."""
    async with path(tmp_path) as running:
        nowhere = (await running.client.get("/nowhere")).json()
        for wanted in ("/demo", *FILES, *DATA):
            answer = await running.client.get(wanted, headers=SAME)
            assert (answer.status_code, answer.json()) == (404, nowhere), wanted


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "192.168.1.5"}, False),
        ({"host": "cdp.example.com"}, False),
        ({"browser": BrowserSettings(public_url="https://cdp.example.com")}, False),
        ({"demo": DemoSettings()}, False),
    ],
)
def test_a_platform_for_others_never_serves_it(given: dict[str, Any], served: bool) -> None:
    """Asked for or not: where other machines reach the platform, or are told to, there is no such page."""
    assert Settings(**{"demo": ENABLED, **given}).demo_served is served


@pytest.mark.parametrize(
    ("file", "variable", "enabled"),
    [
        ("", None, True),
        ("demo: {enabled: false}", None, False),
        ("", "false", False),
        ("demo: {enabled: false}", "1", True),
    ],
)
def test_dev_turns_it_on_where_nobody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, variable: str | None, enabled: bool
) -> None:
    """The settings file and the environment win; what holds is what the node and all below it will read."""
    (tmp_path / "segment_do.yaml").write_text(file)
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path))
    monkeypatch.setenv("SEGMENT_DO_DEMO__ENABLED", variable or "")
    if variable is None:
        monkeypatch.delenv("SEGMENT_DO_DEMO__ENABLED")
    assert dev_settings().demo.enabled is enabled
    assert load_settings().demo.enabled is enabled
    assert Settings().demo.enabled is enabled  # by the environment alone, as a node reads it


async def test_on_all_addresses_it_is_not_there(tmp_path: Path) -> None:
    """The setting alone does not open it."""
    async with path(tmp_path, demo=ENABLED, host="0.0.0.0") as running:
        assert (await running.client.get("/demo")).status_code == 404


async def test_the_page_has_the_key_and_no_secret(tmp_path: Path) -> None:
    """The write key is escaped, no place is left open, the script is that of the CDN's path, and the policy is strict."""
    async with demo(tmp_path) as (running, _platform):
        answer = await running.client.get("/demo")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert 'content="key-&lt;demo&gt;"' in answer.text
        assert 'src="/analytics.js/v1/key-&lt;demo&gt;/analytics.min.js"' in answer.text
        assert f"{running.url}/v1/track" in answer.text
        assert "{{" not in answer.text
        assert (
            re.findall(r"https?://[^/\s\"&]+", answer.text.replace("http://www.w3.org/2000/svg", ""))
            == [running.url] * 4
        )
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert re.search(r"\son[a-z]+=", answer.text) is None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy


async def test_every_answer_is_guarded_and_without_the_token(tmp_path: Path) -> None:
    """No cache keeps one, no browser guesses its type, no other origin may read it, and none has the admin token."""
    async with demo(tmp_path) as (running, _platform):
        token = running.settings.paths.token()
        for wanted in ("/demo", *FILES, *DATA[1:], "/demo/nowhere", "/demo/profile", "/demo/"):
            answer = await running.client.get(wanted, headers=SAME)
            assert answer.headers["cache-control"] == "no-store", wanted
            assert answer.headers["x-content-type-options"] == "nosniff", wanted
            assert answer.headers["cross-origin-resource-policy"] == "same-origin", wanted
            assert not any(name.startswith("access-control") for name in answer.headers), wanted
            assert int(answer.headers["content-length"]) == len(answer.content), wanted
            assert token not in answer.text, wanted
        for wanted in FILES:
            assert (await running.client.get(wanted, headers=SAME)).status_code == 200, wanted
            assert "key-" not in (await running.client.get(wanted, headers=SAME)).text, wanted


@pytest.mark.parametrize(
    "given",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1@evil.example"},
        {"host": "localhost:80:80"},
        {"host": "192.168.0.4"},
        {"host": "0.0.0.0"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"x-forwarded-for": "10.0.0.1"},
        {"x-forwarded-host": "cdp.example.com"},
        {"forwarded": "for=10.0.0.1"},
        {"x-real-ip": "10.0.0.1"},
        {"via": "1.1 proxy"},
    ],
)
async def test_only_this_machines_own_browser_is_answered(tmp_path: Path, given: dict[str, str]) -> None:
    """Another host name (a rebound one), another origin, a proxy in between: 404, and nothing was asked of the platform."""
    async with demo(tmp_path) as (running, platform):
        for wanted in ("/demo", *FILES, *DATA):
            answer = await running.client.get(wanted, headers={**SAME, **given})
            assert answer.status_code == 404, wanted
            assert answer.json()["message"] == "There is nothing at this path."
            assert "access-control-allow-origin" not in answer.headers
        assert platform.asked == []


@pytest.mark.parametrize(
    "given",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of this machine: another program's page
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"referer": "https://evil.example/"},
        {"referer": "http://["},
    ],
)
async def test_data_is_for_the_page_alone(tmp_path: Path, given: dict[str, str]) -> None:
    """What the page fetches is told to no other page, and not to an address bar."""
    async with demo(tmp_path) as (running, platform):
        for wanted in (*FILES, *DATA):
            assert (await running.client.get(wanted, headers=given)).status_code == 404, wanted
        assert platform.asked == []


async def test_the_page_may_be_opened_by_a_link_and_not_be_framed(tmp_path: Path) -> None:
    """A link from a document elsewhere opens it in a tab of its own; in another page it is not there."""
    opened = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    async with demo(tmp_path) as (running, _platform):
        for given in (opened, opened | {"referer": "https://docs.example/"}, {"sec-fetch-site": "none"}, {}):
            assert (await running.client.get("/demo", headers=given)).status_code == 200
        for given in (opened | {"sec-fetch-dest": "iframe"}, {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}):
            assert (await running.client.get("/demo", headers=given)).status_code == 404


@pytest.mark.parametrize(
    ("hosts", "client", "status"),
    [
        ([b"127.0.0.1:1"], ("127.0.0.1", 5), 200),
        ([b"LOCALHOST"], ("::1", 5), 200),
        ([b"[::1]:80"], ("::ffff:127.0.0.1", 5), 200),
        ([b"127.0.0.1"], ("10.0.0.7", 5), 404),
        ([b"127.0.0.1"], ("::ffff:10.0.0.7", 5), 404),
        ([b"127.0.0.1"], None, 404),
        ([b"127.0.0.1"], ("testclient", 5), 404),
        ([b"127.0.0.1", b"evil.example"], ("127.0.0.1", 5), 404),
        ([], ("127.0.0.1", 5), 404),
    ],
)
async def test_who_asks_is_on_this_machine(hosts: list[bytes], client: Any, status: int) -> None:
    """By the address that the connection comes from, and one host name; where there is none, nobody is known to be here."""
    answered: list[int] = []

    async def elsewhere(_scope: Any, _receive: Any, _send: Any) -> None:
        answered.append(404)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    app = Demo(BrowserSettings(), DemoPlatform(), asyncio.Event(), elsewhere)
    scope = {
        "type": "http", "method": "GET", "path": "/demo/page.css", "scheme": "http", "query_string": b"",
        "client": client, "headers": [(b"host", host) for host in hosts],
    }  # fmt: skip
    await app(scope, receive, send)
    assert answered == [status]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_only_reads(tmp_path: Path, method: str) -> None:
    """Other methods are refused, preflights too: there is no CORS."""
    async with demo(tmp_path) as (running, platform):
        for wanted in ("/demo", *FILES, *DATA):
            answer = await running.client.request(method, wanted, headers=SAME)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET"), wanted
            assert "access-control-allow-origin" not in answer.headers
        assert platform.asked == []
        assert (await running.client.head("/demo/page.css", headers=SAME)).status_code == 200
        assert (await running.client.head("/demo/events", headers=SAME)).status_code == 405  # it would have no end


async def test_the_sql_is_fixed(tmp_path: Path) -> None:
    """Whatever is asked, the statements are the page's own, of the one source, with a limit; and of the answer only rows are told."""
    async with demo(tmp_path) as (running, platform):
        for query in ("", "?sql=SELECT+1", "?source_id=src_tom", "?q=%27;DROP"):
            answer = await running.client.get(f"/demo/sql{query}", headers=SAME)
            assert answer.json() == {"columns": ["event", "count"], "rows": [["E", 1]], "elapsedMs": 1.5}
            assert (await running.client.get(f"/demo/recent{query}", headers=SAME)).json() == {
                "events": [{"event": "E", "count": 1}]
            }
        statements = {asked for asked in platform.asked if asked != "create_source"}
        assert len(statements) == 2
        for statement in statements:
            assert re.findall(r"'(src_\w+)'", statement) == ["src_demo"]
            assert re.search(r"LIMIT \d+$", statement)


async def test_a_profile_is_of_the_pages_own_identity(tmp_path: Path) -> None:
    """One id at a time; null where it was not seen; 400 for what is no id."""
    async with demo(tmp_path) as (running, platform):
        asked = "/demo/profile?user_id=ada%20%C3%A9%27"
        assert (await running.client.get(asked, headers=SAME)).json() == {
            "profile": {"profileId": "use_1", "traits": {}}
        }
        assert platform.asked[-1] == ("demo-page", "user_id", "ada é'")
        none = await running.client.get("/demo/profile?anonymous_id=nobody", headers=SAME)
        assert (none.status_code, none.json()) == (200, {"profile": None})
        before = len(platform.asked)
        for query in (
            "",
            "?",
            "?user_id=",
            "?group_id=g",
            "?identity=tom",
            f"?user_id={'a' * 201}",
            "?user_id=a&user_id=b",
        ):
            answer = await running.client.get(f"/demo/profile{query}", headers=SAME)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), query
        assert len(platform.asked) == before


async def test_profiles_that_another_source_feeds_are_not_shown(tmp_path: Path) -> None:
    """A source of the user's own with the same identity would have its traits in them."""
    async with demo(tmp_path) as (running, platform):
        platform.known.append(Source("src_x", "mine", "demo-page", "key-x", "2026-01-01T00:00:00.000Z"))
        answer = await running.client.get("/demo/profile?user_id=ada", headers=SAME)
        assert answer.status_code == 404
        assert "profile" not in answer.json()


async def test_the_stream_has_the_one_sources_events(tmp_path: Path) -> None:
    """It says when it is whole; then each event of the page's source, and none of any other."""
    async with demo(tmp_path) as (running, _platform):
        await running.client.get("/demo")
        async with asyncio.timeout(20), running.client.stream("GET", "/demo/events", headers=SAME) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers
            lines = answer.aiter_lines()
            await read_until(lines, "event: connected")
            for key, user in (
                ("key-tom", "private"),
                (OWN.write_key, "shown"),
                ("key-ralph", "private"),
                (OWN.write_key, "last"),
            ):
                assert (await running.post("/v1/track", {"event": "E", "userId": user}, key=key)).status_code == 200
            told = await read_until(lines, '"userId":"last"')
            assert '"userId":"shown"' in told
            assert "private" not in told
            assert OWN.write_key not in told


async def read_until(lines: AsyncIterator[str], wanted: str) -> str:
    """The lines up to one that holds this."""
    told = ""
    async for line in lines:
        told += line
        if wanted in line:
            return told
    raise AssertionError(f"ended before {wanted}: {told}")


async def test_questions_and_streams_are_bounded(tmp_path: Path) -> None:
    """429 with a time to come again; a stream whose reader has gone makes room."""
    async with demo(tmp_path) as (running, platform), asyncio.timeout(30):
        platform.held = asyncio.Event()
        asking = [asyncio.create_task(running.client.get("/demo/sql", headers=SAME)) for _ in range(4)]
        await until(lambda: sum(asked != "create_source" for asked in platform.asked) >= 4)
        refused = await running.client.get("/demo/recent", headers=SAME)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "busy", "1")
        platform.held.set()
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 4
        async with contextlib.AsyncExitStack() as last:
            async with contextlib.AsyncExitStack() as first:
                for number in range(16):
                    stack = first if number < 8 else last
                    opened = await stack.enter_async_context(running.client.stream("GET", "/demo/events", headers=SAME))
                    assert opened.status_code == 200
                assert (await running.client.get("/demo/events", headers=SAME)).status_code == 429
            while True:  # the server hears of a closed connection a moment later
                async with running.client.stream("GET", "/demo/events", headers=SAME) as again:
                    if again.status_code == 200:
                        break
                    assert again.status_code == 429


async def test_open_streams_end_when_the_platform_stops(tmp_path: Path) -> None:
    """In order, at once: a page that is looked at does not hold Ctrl-C up until the server cuts it off."""
    platform = DemoPlatform()
    running = RunningPath(tmp_path, platform, demo=ENABLED)
    platform.running = running
    await running.start()
    async with httpx.AsyncClient(timeout=20.0) as client, asyncio.timeout(30):
        async with client.stream("GET", f"{running.url}/demo/events", headers=SAME) as answer:
            lines = answer.aiter_lines()
            await read_until(lines, "event: connected")
            stopping = asyncio.create_task(running.stop())
            assert [line async for line in lines if line.startswith('data: {"')] == []  # and no error: the end was sent
        await stopping


async def test_where_the_cdn_has_another_sdk_the_page_brings_its_own(tmp_path: Path) -> None:
    """With `browser.script_directory` the CDN's path is the operator's."""
    browser = BrowserSettings(script_directory=tmp_path)
    async with demo(tmp_path, browser=browser) as (running, _platform):
        assert 'src="/demo/analytics.min.js"' in (await running.client.get("/demo")).text
