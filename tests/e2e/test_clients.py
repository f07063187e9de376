"""Unmodified Segment clients from PyPI and npm, by their own options alone, against the running platform."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from segment.analytics.client import Client  # type: ignore[import-untyped]

from tests.load.platform import Platform

pytestmark = pytest.mark.platform

CLIENTS = Path(__file__).parent.parent / "clients"
TYPES = ["alias", "group", "identify", "page", "screen", "track"]


def stored(platform: Platform, identity: str, events: int) -> list[list[Any]]:
    """(message_id, type, user_id, event) of an identity once there are so many; each look waits for the newest event."""
    for _ in range(100):
        rows = platform.sql(
            f"SELECT message_id, type, user_id, event FROM events WHERE identity = '{identity}' ORDER BY type"
        )
        if len(rows) >= events:
            return rows
    raise AssertionError(f"{len(rows)} of {events} events of {identity} are there")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batched", {}),
        ("gzip", {"gzip": True}),
        ("single", {"sync_mode": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")
def test_segment_analytics_python(platform: Platform, name: str, options: dict[str, Any]) -> None:
    """Each of the six calls arrives exactly once: batched, compressed, and one a request."""
    identity = f"python-{name}"
    source = platform.create_source(identity, identity)
    errors: list[Any] = []
    client = Client(source["writeKey"], host=platform.url, on_error=lambda *error: errors.append(error), **options)
    user = f"py-{name}"
    client.identify(user, {"email": "py@example.com"})
    client.track(user, "Order Completed", {"revenue": 12.5, "client": "python"})
    client.page(user, None, "Home", {"path": "/"})
    client.screen(user, None, "Start")
    client.group(user, "acme", {"plan": "pro"})
    client.alias(f"before-{name}", user)
    if not options.get("sync_mode"):
        client.flush()
        client.join()
    assert errors == []
    rows = stored(platform, identity, 6)
    assert [row[1] for row in rows] == TYPES
    assert {row[2] for row in rows} == {user}
    assert len({row[0] for row in rows}) == 6


@pytest.mark.skipif(shutil.which("node") is None or shutil.which("npm") is None, reason="needs Node.js and npm")
@pytest.mark.parametrize(("name", "flush_at"), [("batched", 15), ("single", 1)])
def test_analytics_node(platform: Platform, name: str, flush_at: int) -> None:
    """Each of the six calls arrives exactly once, in one batch and in batches of one."""
    if not (CLIENTS / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENTS, check=True, capture_output=True)
    identity = f"node-{name}"
    source = platform.create_source(identity, identity)
    sent = subprocess.run(
        ["node", "send_all.mjs", platform.url, source["writeKey"], str(flush_at), name],
        cwd=CLIENTS, check=True, capture_output=True, text=True, timeout=60,
    ).stdout.split()  # fmt: skip
    rows = stored(platform, identity, 6)
    assert [row[1] for row in rows] == TYPES
    assert Counter(row[0] for row in rows) == Counter(sent)


def test_the_same_messages_again_are_stored_once(platform: Platform) -> None:
    """What a client sends twice, because it did not hear the answer, counts once."""
    source = platform.create_source("python-twice", "python-twice")
    for _ in range(2):
        client = Client(source["writeKey"], host=platform.url)
        for number in range(50):
            client.track("u", "E", {"n": number}, message_id=f"twice-{number}")
        client.flush()
        client.join()
    client = Client(source["writeKey"], host=platform.url)
    client.track("u", "Last")
    client.join()
    rows = stored(platform, "python-twice", 51)
    assert len(rows) == 51
