"""`POST /v1/set` over real sockets, up to the log: what is acknowledged is stored, what is refused is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from segment_do.events.record import OBJECT
from segment_do.settings import JournalSettings
from tests.actors.inprocess import path

ROOMS: dict[str, Any] = {
    "collection": "rooms",
    "objects": [{"id": "1", "properties": {"name": "Blue"}}, {"id": "2", "properties": {"name": "Red"}}],
}


async def test_objects_are_acknowledged_and_logged(tmp_path: Path) -> None:
    """200 and `{"success": true}`, with and without a slash, plain and gzip; each object is a record of its identity."""
    async with path(tmp_path) as running:
        for spelled, body, headers in (
            ("/v1/set", ROOMS, {"synchronous": "true"}),
            ("/v1/set/", gzip.compress(json.dumps(ROOMS).encode()), {"content-encoding": "gzip"}),
        ):
            answer = await running.post(spelled, body, headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"success": True})
        records = await running.logged(4)
        assert {(record.type, record.event, record.source_id) for record in records} == {(OBJECT, "rooms", "src_tom")}
        assert [json.loads(record.payload)["id"] for record in records] == ["1", "2", "1", "2"]
        assert len({record.message_id for record in records}) == 4


async def test_objects_and_events_share_the_path(tmp_path: Path) -> None:
    """Both come out of the log in the order in which they were acknowledged, and make nobody's profile."""
    async with path(tmp_path) as running:
        await running.post("/v1/track", {"event": "E", "userId": "ada"})
        await running.post("/v1/set", ROOMS)
        await running.post("/v1/track", {"event": "F", "userId": "ada"})
        records = await running.logged(4)
        assert [record.event for record in records] == ["E", "rooms", "rooms", "F"]
        assert [record.profile_id is None for record in records] == [False, True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        {"collection": "_rooms", "objects": ROOMS["objects"]},
        {"collection": "rooms", "objects": []},
        {"collection": "rooms", "objects": ROOMS["objects"] * 6},
        {"collection": "rooms", "objects": [*ROOMS["objects"], {"id": "3"}]},
    ],
)
async def test_what_is_malformed_is_refused_whole(tmp_path: Path, wrong: Any) -> None:
    """400 with a code and a sentence, and nothing of it is stored."""
    async with path(tmp_path) as running:
        answer = await running.post("/v1/set", wrong)
        assert (answer.status_code, answer.json()["success"]) == (400, False)
        assert answer.json()["code"]
        await running.post("/v1/track", {"event": "E", "userId": "ada"})
        assert [record.type for record in await running.logged(1)] == ["track"]


async def test_the_write_key_is_asked_for(tmp_path: Path) -> None:
    """401 without one or with an unknown one."""
    async with path(tmp_path) as running:
        for key in (None, "nobody"):
            assert (await running.post("/v1/set", ROOMS, key=key)).status_code == 401


async def test_nothing_is_acknowledged_that_cannot_be_stored(tmp_path: Path) -> None:
    """503 with Retry-After while the journal is at its bound."""
    async with path(tmp_path, journal=JournalSettings(min_free_disk_bytes=2**62)) as running:
        answer = await running.post("/v1/set", ROOMS)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
