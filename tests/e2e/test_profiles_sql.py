"""Profiles in SQL on the running platform: who was unknown is read under the profile of today; nobody else sees the id map."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from segment_do.identity import profile_id
from tests.destinations.receiver import Receiver
from tests.load.platform import Platform

pytestmark = pytest.mark.platform

ADA = profile_id("user_id", "ada")
IDS = [
    ["anonymous_id", "laptop"],
    ["anonymous_id", "phone"],
    ["email", "ada@example.com"],
    ["user_id", "ada"],
]


async def live_until(platform: Platform, last: str, connected: asyncio.Event) -> list[dict[str, Any]]:
    """What the live stream of the identity shows, up to the event of that name."""
    found: list[dict[str, Any]] = []
    headers = {"authorization": f"Bearer {platform.token}"}
    async with (
        httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30.0) as http,
        http.stream("GET", "/api/tail", params={"identity": "diary"}) as answer,
    ):
        async for line in answer.aiter_lines():
            connected.set()
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if found[-1].get("event") == last:
                    break
    return found


async def rows_once(platform: Platform, sql: str, expected: list[list[Any]]) -> None:
    """Ask until the answer is there; each look waits for what the platform has taken in."""
    until = time.monotonic() + 30
    while (found := await asyncio.to_thread(answer, platform, sql)) != expected and time.monotonic() < until:
        await asyncio.sleep(0)
    assert found == expected


def answer(platform: Platform, sql: str) -> list[list[Any]] | None:
    """The rows; None while a killed warehouse is on its way back, which is said with a 503."""
    try:
        return platform.sql(sql)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 503:
            raise
        return None


async def test_past_anonymous_events_count_for_the_person(platform: Platform) -> None:
    """Unknown on a phone and on a laptop; known on the phone by user id and email, on the laptop by the email alone."""
    source = platform.create_source("diary", "diary")
    connected = asyncio.Event()
    async with (
        Receiver() as receiver,
        httpx.AsyncClient(base_url=platform.url, auth=(source["writeKey"], ""), timeout=20.0) as http,
    ):
        platform.add_webhook(receiver.url, source["id"])
        live = asyncio.ensure_future(live_until(platform, "Goodbye", connected))
        await asyncio.wait_for(connected.wait(), 30)

        async def sends(kind: str, **body: Any) -> None:
            answer = await http.post(f"/v1/{kind}", json=body)
            assert answer.status_code == 200, answer.text

        email = {"email": "Ada@Example.com"}
        await sends("track", event="Page Read", anonymousId="phone", properties={"page": 1})
        await sends("track", event="Page Read", anonymousId="phone", properties={"page": 2})
        await sends("track", event="Page Read", anonymousId="laptop", properties={"page": 3})
        await sends("track", event="Page Read", anonymousId="stranger", properties={"page": 4})
        # Stored under the profiles of that time, before anybody is known.
        await rows_once(platform, "SELECT count(*) FROM events WHERE identity = 'diary'", [[4]])
        await sends("identify", userId="ada", anonymousId="phone", traits={**email, "plan": "free", "left": None})
        await sends("identify", anonymousId="laptop", traits={**email, "plan": "pro"})
        await sends("track", event="Goodbye", userId="ada")

        read = (
            "SELECT count(*), count(DISTINCT profile_id), sum(page) FROM profile_events WHERE identity = 'diary'"
            f" AND event = 'Page Read' AND canonical_profile_id = '{ADA}'"
        )
        await rows_once(platform, read, [[3, 2, 6]])
        listed = (
            "SELECT external_id_type, external_id_value FROM user_identifiers WHERE identity = 'diary'"
            f" AND canonical_segment_id = '{ADA}' ORDER BY ALL"
        )
        await rows_once(platform, listed, IDS)
        merges = (
            "SELECT segment_id FROM profile_merges"
            f" WHERE identity = 'diary' AND canonical_segment_id = '{ADA}' ORDER BY 1"
        )
        await rows_once(platform, merges, sorted([profile_id(*each)] for each in IDS if each[0] != "user_id"))
        graph = "SELECT canonical_segment_id, count(*) FROM id_graph WHERE identity = 'diary' GROUP BY 1 ORDER BY 2"
        await rows_once(platform, graph, [[profile_id("anonymous_id", "stranger"), 1], [ADA, 4]])
        traits = "SELECT name, value->>'$' FROM user_traits WHERE identity = 'diary' ORDER BY name"
        await rows_once(platform, traits, [["email", "Ada@Example.com"], ["left", None], ["plan", "pro"]])
        changes = "SELECT count(*) >= 3, count(*) = count(DISTINCT \"offset\") FROM external_id_changes WHERE identity = 'diary'"
        await rows_once(platform, changes, [[True, True]])

        sent = ["track"] * 4 + ["identify"] * 2 + ["track"]
        await receiver.until(lambda: len(receiver.got) >= len(sent))
        assert sorted(json.loads(got.body)["type"] for got in receiver.got) == sorted(sent)
        assert [each["type"] for each in await asyncio.wait_for(live, 30)] == sent

    # What was told of ids outlives its actor, once: the log is read again from the last commit.
    before = await asyncio.to_thread(platform.sql, listed.replace("ORDER BY ALL", "ORDER BY 1, 2"))
    told = "SELECT count(*), count(DISTINCT \"offset\") FROM external_id_changes WHERE identity = 'diary'"
    counted = await asyncio.to_thread(platform.sql, told)
    assert await asyncio.to_thread(platform.kill, "warehouse") == 1
    await asyncio.to_thread(platform.wait_ready)
    await rows_once(platform, told, counted)
    await rows_once(platform, listed, before)
