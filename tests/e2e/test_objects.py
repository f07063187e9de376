"""Objects on the running platform: set over HTTP or uploaded in bulk, merged in SQL, unseen by destinations."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import httpx
import pytest

from tests.destinations.receiver import Receiver
from tests.load.platform import Platform

pytestmark = pytest.mark.platform


async def test_objects_reach_sql_and_no_destination(platform: Platform) -> None:
    """What `/v1/set` acknowledged is merged in `objects` within seconds; a webhook gets the event beside it alone."""
    source = platform.create_source("hotel", "hotel")
    key = (source["writeKey"], "")
    async with Receiver() as receiver, httpx.AsyncClient(base_url=platform.url, auth=key, timeout=20.0) as http:
        platform.add_webhook(receiver.url, source["id"])

        async def sets(object_id: str, **properties: Any) -> None:
            body = {"collection": "rooms", "objects": [{"id": object_id, "properties": properties}]}
            answer = await http.post("/v1/set", json=body)
            assert (answer.status_code, answer.json()) == (200, {"success": True})

        await sets("1", name="Blue", seats=4)
        await sets("1", seats=6)
        await sets("2", name="Red")
        sent = await http.post("/v1/track", json={"event": "Room Booked", "userId": "ada", "properties": {"room": "1"}})
        assert sent.status_code == 200
        sql = (
            "SELECT id, properties->>'name', properties->>'seats' FROM objects"
            " WHERE identity = 'hotel' AND collection = 'rooms' ORDER BY id"
        )
        expected = [["1", "Blue", "6"], ["2", "Red", None]]
        until = time.monotonic() + 30
        while (found := await asyncio.to_thread(platform.sql, sql)) != expected and time.monotonic() < until:
            await asyncio.sleep(0)
        assert found == expected
        counted = "SELECT count(*) FROM object_changes WHERE identity = 'hotel'"
        assert await asyncio.to_thread(platform.sql, counted) == [[3]]
        await receiver.until(lambda: bool(receiver.got))
        assert [json.loads(got.body)["event"] for got in receiver.got] == ["Room Booked"]


async def test_a_finished_sync_outlives_its_replica(platform: Platform) -> None:
    """After the 202 the ingress is killed with -9 while it stores: each line is one change, bad ones are told, and of each
    object the last line counts."""
    source = platform.create_source("chain", "chain")
    key = (source["writeKey"], "")
    lines = [
        json.dumps({"id": str(n % 20_000), "collection": "rooms", "properties": {"n": n, "note": "x" * 100}})
        if n % 10_000
        else "not an object"
        for n in range(60_000)
    ]
    async with httpx.AsyncClient(base_url=platform.url, auth=key, timeout=30.0) as http:
        sync = (await http.post("/v0/start")).json()["sync_id"]
        for first in (0, 30_000):
            file = gzip.compress("\n".join(lines[first : first + 30_000]).encode())
            answer = await http.post(f"/v0/upload/{sync}", content=file, headers={"content-encoding": "gzip"})
            assert answer.status_code == 201, answer.text
        assert (await http.post(f"/v0/finish/{sync}", json={"error": ""})).status_code == 202

    async def status() -> dict[str, Any]:
        told: dict[str, Any] = (await asyncio.to_thread(platform.api, "GET", "/api/status"))["ingress"]
        return told

    begun = time.monotonic() + 30
    while not (await status())["bulk_objects"] and time.monotonic() < begun:
        await asyncio.sleep(0)
    stored = (await status())["bulk_objects"]
    assert await asyncio.to_thread(platform.kill, "ingress") == 1
    assert 0 < stored < 59_994, "it was killed too late to show anything"
    await asyncio.to_thread(platform.wait_ready)
    counted = (
        "SELECT (SELECT count(*) FROM object_changes WHERE identity = 'chain'),"
        " (SELECT count(*) FROM rejected WHERE identity = 'chain'),"
        " (SELECT count(*) FROM objects WHERE identity = 'chain'),"
        " (SELECT count(*) FROM objects WHERE identity = 'chain' AND CAST(properties->>'n' AS BIGINT) = 40000 + CAST(id AS BIGINT))"
    )
    # Of ids 0 and 10000 every line is a bad one.
    expected = [[60_000 - 6, 6, 19_998, 19_998]]
    until = time.monotonic() + 120
    while (found := await asyncio.to_thread(platform.sql, counted)) != expected and time.monotonic() < until:
        await asyncio.sleep(0.2)
    assert found == expected
    left = [path.name for path in (platform.home / "syncs").rglob("*.gz")]
    assert left == []
