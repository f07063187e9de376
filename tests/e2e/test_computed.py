"""Computed traits on the running platform: counted as events come, or from the warehouse, and told to the destination that a definition names."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from tests.destinations.receiver import Receiver
from tests.load.platform import Platform, running_platform

pytestmark = pytest.mark.platform


async def test_a_change_reaches_the_named_destination_alone(platform: Platform) -> None:
    """Each value once, in order; the profile has the last."""
    source = platform.create_source("counted", "counted")
    key = (source["writeKey"], "")
    async with Receiver() as named, Receiver() as other, httpx.AsyncClient(base_url=platform.url, timeout=30.0) as http:
        made: list[dict[str, Any]] = []
        for name, receiver, source_id in (("Counted", named, "computed"), ("Other", other, None)):
            told = {"type": "webhook", "name": name, "sourceId": source_id, "settings": {"url": receiver.url}}
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
        assert len(named.got) == 2
        found = await asyncio.to_thread(platform.api, "GET", "/api/profiles/counted/user_id:ada")
        assert found["computed"]["orders"]["value"] == 2
        for each in made:
            await asyncio.to_thread(platform.api, "DELETE", f"/api/destinations/{each['id']}")


async def test_what_was_before_is_counted_through_kill_9() -> None:
    """Events first, then a definition: the warehouse dies, and the identity, while they are counted. Each counts once, and is told once."""
    events, batch = 12_000, 2_000
    with running_platform() as platform:
        key = (platform.create_source("late", "late")["writeKey"], "")
        path = "/api/identities/late/computations"

        async def ask(method: str, where: str, body: Any = None) -> Any:
            until = time.monotonic() + 60
            while True:  # what was just killed is away for a moment
                try:
                    return await asyncio.to_thread(platform.api, method, where, body)
                except httpx.HTTPError:
                    assert time.monotonic() < until

        async with Receiver() as receiver, httpx.AsyncClient(base_url=platform.url, timeout=60.0) as http:
            await ask(
                "POST", "/api/destinations", {"type": "webhook", "name": "Late", "settings": {"url": receiver.url}}
            )
            for first in range(0, events, batch):
                told = [
                    {
                        "type": "track",
                        "event": "Paid",
                        "userId": f"u{n % 3}",
                        "messageId": f"m{n}",
                        "properties": {"n": 1},
                    }
                    for n in range(first, first + batch)
                ]
                assert (
                    await http.post("/v1/batch", json={"batch": told, "integrations": {"All": False}}, auth=key)
                ).status_code == 200
            count = {"sql": "SELECT count(*) FROM events WHERE identity = 'late'"}
            until = time.monotonic() + 60
            while (await ask("POST", "/api/sql", count))["rows"] != [[events]]:  # none is on its way any more
                assert time.monotonic() < until
            definition = {"class": "trait", "kind": "sum", "event": "Paid", "property": "n", "destinations": ["Late"]}
            await ask("PUT", f"{path}/paid", {**definition, "backfill": True})
            assert platform.kill("warehouse")
            (found,) = (await ask("GET", path))["computations"]
            assert found["filling"]
            assert platform.kill("identity")
            until = time.monotonic() + 90
            while (await ask("GET", path))["computations"][0]["filling"]:
                assert time.monotonic() < until

            def paid() -> list[tuple[str, Any]]:
                bodies = [json.loads(got.body) for got in receiver.got]
                return sorted((each["userId"], each["traits"]["paid"]) for each in bodies if each["type"] == "identify")

            expected = [(f"u{n}", events // 3) for n in range(3)]
            await receiver.until(lambda: len(paid()) >= len(expected))
            assert paid() == expected
            for user, value in expected:
                profile = await ask("GET", f"/api/profiles/late/user_id:{user}")
                assert profile["computed"]["paid"]["value"] == value
