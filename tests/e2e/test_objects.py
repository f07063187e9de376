"""Objects on the running platform: set over HTTP, merged in SQL, unseen by destinations."""

from __future__ import annotations

import asyncio
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
