"""Profiles on the running platform: events in over HTTP, a person out of the Profile API, the command line and the SDK."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from segment_do import Analytics
from tests.load.platform import Platform
from tests.segment_do.cli.conftest import run

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
