"""Computed traits on the running platform: counted as events come, told to the destination that a definition names, found by SQL."""

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


async def test_a_change_reaches_the_named_destination_alone(platform: Platform) -> None:
    """Each value once, in order; the profile has the last."""
    source = platform.create_source("counted", "counted")
    key = (source["writeKey"], "")
    async with Receiver() as named, Receiver() as other, httpx.AsyncClient(base_url=platform.url, timeout=30.0) as http:
        made: list[dict[str, Any]] = []
        for name, receiver in (("Counted", named), ("Other", other)):
            told = {"type": "webhook", "name": name, "settings": {"url": receiver.url}}
            made.append(await asyncio.to_thread(platform.api, "POST", "/api/destinations", told))

        async def order(number: int) -> None:
            event = {"event": "Order Completed", "userId": "ada", "messageId": f"order-{number}"}
            assert (await http.post("/v1/track", json=event, auth=key)).status_code == 200

        def computed(receiver: Receiver) -> list[Any]:
            traits = [json.loads(got.body).get("traits") or {} for got in receiver.got]
            return [each["orders"] for each in traits if "orders" in each]

        await order(0)
        definition = {
            "class": "trait",
            "kind": "event_count",
            "event": "Order Completed",
            "destinations": ["Counted"],
        }
        until = time.monotonic() + 30
        while True:  # the identity is known with its first event
            try:
                path = "/api/identities/counted/computations/orders"
                await asyncio.to_thread(platform.api, "PUT", path, definition)
                break
            except httpx.HTTPStatusError:
                assert time.monotonic() < until
        await order(1)
        await named.until(lambda: computed(named) == [1])
        await order(2)
        await named.until(lambda: computed(named) == [1, 2])
        await other.until(lambda: sum(b"order-" in got.body for got in other.got) >= 3)
        assert computed(other) == []
        found = await asyncio.to_thread(platform.api, "GET", "/api/profiles/counted/user_id:ada")
        assert found["computed"]["orders"]["value"] == 2
        for each in made:
            await asyncio.to_thread(platform.api, "DELETE", f"/api/destinations/{each['id']}")
