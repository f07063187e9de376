"""Profiles on the running platform: events in over HTTP, a person out of the Profile API, the command line and the SDK."""

from __future__ import annotations

import ast
import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from segment_do import Analytics
from segment_do.errors import NotFound
from tests.load.platform import Platform, running_platform
from tests.segment_do.cli.conftest import run
from tests.waiting import until

pytestmark = pytest.mark.platform


async def test_a_person_comes_out(platform: Platform) -> None:
    """A visitor who becomes a user: traits, ids, events; then undone by hand, and the id map hears of it."""
    environment = {"SEGMENT_DO_URL": platform.url, "SEGMENT_DO_TOKEN": platform.token}
    source = platform.create_source("profiles", "profiles")
    ran = await asyncio.to_thread(run, "profile", "tokens", "create", "profiles", "--json", environment=environment)
    token = str(ran.rows[0]["token"])
    events = [
        {"type": "track", "event": "Seen", "anonymousId": "a1", "messageId": "p1"},
        {"type": "identify", "userId": "ada", "anonymousId": "a1", "traits": {"plan": "pro"}, "messageId": "p2"},
    ]
    path = "/v1/spaces/profiles/collections/users/profiles/anonymous_id:a1"
    async with httpx.AsyncClient(base_url=platform.url, timeout=30.0) as http:
        sent = await http.post("/v1/batch", json={"batch": events}, auth=(source["writeKey"], ""))
        assert sent.status_code == 200, sent.text
        until = time.monotonic() + 30
        while (answer := await http.get(f"{path}/events?sort=asc", auth=(token, ""))).status_code != 200 or len(
            answer.json()["data"]
        ) < 2:
            assert time.monotonic() < until, answer.text
            await asyncio.sleep(0)
        assert [one["message_id"] for one in answer.json()["data"]] == ["p1", "p2"]
        assert (await http.get(f"{path}/traits", auth=(token, ""))).json()["traits"] == {"plan": "pro"}
    async with Analytics.for_("profiles", host=platform.url, token=platform.token) as agent:
        chain = await agent.profile("user_id:ada").why("anonymous_id:a1")
        assert chain is not None
        bond = str(chain[0]["bond"])
        ran = await asyncio.to_thread(run, "profile", "unmerge", "profiles", bond, environment=environment)
        assert ran.code == 0, ran
        assert await agent.profile("anonymous_id:a1").traits() == {}


async def test_a_sleeping_identity_answers_at_once() -> None:
    """An actor that left with its identity comes back for whoever asks, and for what is changed by hand: nobody is told that it is away."""

    def asleep() -> bool:
        return all(each.name != "identity" for each in platform.processes())

    with running_platform(settings={"IDENTITY__IDLE_SECONDS": "1"}) as platform:
        key = platform.create_source("diary", "diary")["writeKey"]
        event = {"userId": "ada", "anonymousId": "phone", "event": "Seen", "messageId": "s1"}
        httpx.post(f"{platform.url}/v1/track", json=event, auth=(key, "")).raise_for_status()
        await until(lambda: platform.sql("SELECT count(*) FROM events") == [[1]])
        for method, path, body in [
            ("GET", "/api/profiles/diary/anonymous_id:phone", None),
            ("GET", "/api/identities/diary/history?id=user_id:ada", None),
            ("POST", "/api/identities/diary/split", {"ids": ["anonymous_id:phone"]}),
        ]:
            await until(asleep)
            platform.api(method, path, body)
        assert platform.api("GET", "/api/identities/diary/history?id=user_id:ada") == {"steps": []}


PAGE = (Path(__file__).parent.parent.parent / "docs" / "python.md").read_text()


async def answers(code: str, names: dict[str, Any]) -> list[Any]:
    """Run an example; the values of its lines that are expressions."""
    tree = ast.parse(code)
    for statement in tree.body:
        if isinstance(statement, ast.Expr):
            statement.value = ast.Call(ast.Name("told", ast.Load()), [statement.value], [])
    told: list[Any] = []
    compiled = compile(ast.fix_missing_locations(tree), "python.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(compiled, names | {"told": told.append})
    return told


async def test_the_page_on_profiles_runs(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/python.md as it stands, of an identity of its own; what its comments say comes out."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(platform.home))
    (code,) = re.findall(r"```python\n((?:(?!```).)*?\.profile\(.*?)```", PAGE, re.DOTALL)
    async with Analytics.for_("page") as agent:
        await agent.identify("ada", {"plan": "free"}, message_id="q1")
        await agent.identify("ada", {"plan": "pro"}, context={"traits": {"email": "ada@example.com"}}, message_id="q2")
        await agent.group("acme", user_id="ada", message_id="q3")
        until = time.monotonic() + 30
        seen: list[Any] = []
        while len(seen) < 3:
            assert time.monotonic() < until, seen
            try:
                seen = await agent.profile("user_id:ada").events()
            except NotFound:
                await asyncio.sleep(0)
    assert '"tom"' in code
    traits, ids, events, links, chain, steps, values, waited = await answers(code.replace('"tom"', '"page"'), {})
    assert traits == waited == {"plan": "pro"}
    assert ids == [{"type": "user_id", "id": "ada"}, {"type": "email", "id": "ada@example.com"}]
    assert {one["message_id"] for one in events} == {"q1", "q2", "q3"}
    assert [each["external_ids"][0]["id"] for each in links] == ["acme"]
    assert [edge["messageId"] for edge in chain] == ["q2"]
    assert [step["joined"] for step in steps] == [["user_id:ada", "email:ada@example.com"]]
    assert [(each["value"], each["messageId"]) for each in values] == [("pro", "q2"), ("free", "q1")]
