"""Webhook sources on the running platform: set up on the command line, called over HTTP, found by SQL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.load.platform import Platform
from tests.segment_do.cli.conftest import run

pytestmark = pytest.mark.platform

NOTIFICATIONS = Path(__file__).parents[1] / "segment_do" / "webhooks" / "commercetools"


async def test_calls_reach_sql(platform: Platform, tmp_path: Path) -> None:
    """A mapping, a function, Segment's signed batch and commercetools' message, each from its own source, each stored once."""
    environment = {"SEGMENT_DO_URL": platform.url, "SEGMENT_DO_TOKEN": platform.token}
    (tmp_path / "mapping.json").write_text(
        json.dumps({"type": "track", "event": "Mapped", "userId": {"@path": "$.who"}})
    )
    (tmp_path / "function.py").write_text(
        'def on_request(request, settings):\n    return {"type": "track", "event": "Called", "userId": request["body"]["who"]}\n'
    )

    async def source(kind: str, *options: str) -> dict[str, Any]:
        made = platform.create_source(f"hook {kind} {options[:1]}", "hooks")
        ran = await asyncio.to_thread(
            run, "sources", "webhook", "set", made["id"], kind, *options, environment=environment
        )
        assert ran.code == 0, ran
        return made

    mapped = await source("custom", "--mapping", str(tmp_path / "mapping.json"))
    called = await source("custom", "--function", str(tmp_path / "function.py"))
    segment = await source("segment", "--set", "secret=s3cret")
    shop = await source("commercetools")
    event = json.dumps(
        {"type": "track", "event": "Forwarded", "userId": "ada", "messageId": "f1"}, separators=(",", ":")
    )
    signature = {"x-signature": hmac.new(b"s3cret", event.encode(), hashlib.sha1).hexdigest()}
    async with httpx.AsyncClient(base_url=platform.url, timeout=30.0) as http:
        for made, body, headers in (
            (mapped, '{"who": "ada"}', {}),
            (called, '{"who": "ada"}', {}),
            (segment, f"[{event}]", signature),
            (segment, event, signature),
            (shop, (NOTIFICATIONS / "customer_created.json").read_text(), {}),
        ):
            auth = None if headers else (made["writeKey"], "")
            answer = await http.post(f"/webhooks/{made['id']}", content=body, headers=headers, auth=auth)
            assert (answer.status_code, answer.json()["events"]) == (200, 1), answer.text
    sql = "SELECT type, event, user_id, count(*) FROM events WHERE identity = 'hooks' GROUP BY ALL ORDER BY ALL"
    expected = [
        ["identify", None, "ada@example.com", 1],
        ["track", "Called", "ada", 1],
        ["track", "Forwarded", "ada", 1],
        ["track", "Mapped", "ada", 1],
    ]
    until = time.monotonic() + 30
    while (found := await asyncio.to_thread(platform.sql, sql)) != expected and time.monotonic() < until:
        await asyncio.sleep(0)
    assert found == expected
