"""What unmodified clients were seen to send goes in, byte for byte; the events that must come out lie beside it.

Each file of ``requests/`` is one run of a client (:mod:`.capture`), ``*.events.json`` the records that its requests make, by
a clock that stands still. After a change that is meant to change them: ``WIRE_REWRITE=1 pytest tests/wire``, and read the diff.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.control.model import Source
from segment_do.events.record import Record
from tests.actors.ingress.test_protocol import Client, connected
from tests.actors.inprocess import RunningPath
from tests.wire.capture import WRITE_KEY
from tests.wire.message import Message, read_capture

REQUESTS = Path(__file__).parent / "requests"
CAPTURES = sorted(file for file in REQUESTS.rglob("*.json") if not file.name.endswith(".events.json"))
NOW = datetime(2026, 12, 1, tzinfo=UTC)
SOURCE = Source("src_wire", "wire", "wire", WRITE_KEY, "2026-01-01T00:00:00.000Z")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

every_capture = pytest.mark.parametrize(
    "file", CAPTURES, ids=[str(file.relative_to(REQUESTS).with_suffix("")) for file in CAPTURES]
)


@contextlib.asynccontextmanager
async def platform(home: Path) -> AsyncIterator[RunningPath]:
    """The whole path in process, its clock stopped and the ids it gives counted."""
    running = RunningPath(home)
    running.sources = [SOURCE]
    await running.start()
    numbers = itertools.count(1)
    running.replica.door._clock = lambda: int(NOW.timestamp()) * 10**9
    running.replica.door._new_id = lambda: f"given-{next(numbers)}"
    try:
        yield running
    finally:
        await running.stop()


async def send(running: RunningPath, messages: list[Message], *, handed_over: bool = True) -> None:
    """Each as it is, one after another, and what its client needs of the answer (contract, section 1.6).

    With ``handed_over`` the next is sent when the events of the last are in the log, so that its order is the requests'.
    """
    async with contextlib.AsyncExitStack() as connections:
        connection = None
        for message in messages:
            if connection is None:
                connection = await connections.enter_async_context(connected(running))
            headers = await answered(connection, message)
            if handed_over:
                await running.logged(running.replica.door.counts.events)
            if headers.get("connection") == "close":
                connection = None


async def answered(connection: Client, message: Message) -> dict[str, str]:
    """The headers of an answer that its client can use."""
    connection.writer.write(message.wire)
    status, headers, body = await connection.answer()
    assert status == 200
    assert headers["content-type"] == "application/json"
    if origin := message.header("origin"):
        assert headers["access-control-allow-origin"] == origin
    if message.method == "POST":
        assert json.loads(body) == {"success": True}
    elif message.method == "GET":
        assert json.loads(body)["integrations"]["Segment.io"]["apiKey"] == WRITE_KEY
    elif asked := message.header("access-control-request-headers"):
        assert headers["access-control-allow-headers"] == asked
        assert "POST" in headers["access-control-allow-methods"]
    return headers


def shown(record: Record) -> dict[str, Any]:
    """A record for a reader: the event as JSON, moments as ISO 8601."""

    def moment(microseconds: int | None) -> str | None:
        return None if microseconds is None else (EPOCH + timedelta(microseconds=microseconds)).isoformat()

    return {
        "messageId": record.message_id,
        "type": record.type,
        "userId": record.user_id,
        "anonymousId": record.anonymous_id,
        "event": record.event,
        "timestamp": moment(record.timestamp),
        "receivedAt": moment(record.received_at),
        "sentAt": moment(record.sent_at),
        "originalTimestamp": moment(record.original_timestamp),
        "ip": record.ip,
        "profileId": record.profile_id,
        "payload": json.loads(record.payload),
    }


def expected(file: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(file.with_suffix(".events.json").read_text(encoding="utf-8"))
    return events


@every_capture
async def test_the_events_that_come_out(tmp_path: Path, file: Path) -> None:
    """Requests, in their order, with method, path, headers and body as they were."""
    async with platform(tmp_path) as running:
        await send(running, read_capture(file).messages)
        events = [shown(record) for record in await running.logged(running.replica.door.counts.events)]
    if os.environ.get("WIRE_REWRITE"):
        assert not os.environ.get("CI"), "expectations are written by hand, and read"
        text = json.dumps(events, indent=1, ensure_ascii=False) + "\n"
        file.with_suffix(".events.json").write_text(text, encoding="utf-8")
        pytest.fail("Expectations were written, not checked.")
    assert events == expected(file)


@every_capture
async def test_a_slash_at_the_end_changes_nothing(tmp_path: Path, file: Path) -> None:
    """The same events, with a slash where the client sends none, and without where it sends one."""
    async with platform(tmp_path) as running:
        await send(running, [other_slash(message) for message in read_capture(file).messages])
        events = [shown(record) for record in await running.logged(running.replica.door.counts.events)]
    assert events == expected(file)


@every_capture
async def test_sent_again_it_counts_once(tmp_path: Path, file: Path) -> None:
    """A client that did not hear the answer sends the same bytes: 200, and no more events in the log."""
    messages = [message for message in read_capture(file).messages if message.method == "POST"]
    last = b'{"event": "Last", "userId": "u", "messageId": "last", "writeKey": "%s"}' % WRITE_KEY.encode()
    after = Message("POST", "/v1/track", "HTTP/1.1", [("host", "x"), ("content-length", str(len(last)))], last)
    async with platform(tmp_path) as running:
        await send(running, [*messages, *messages, after], handed_over=False)
        ids = [record.message_id for record in await running.logged(len(expected(file)) + 1)]
    assert sorted(ids) == sorted([*(event["messageId"] for event in expected(file)), "last"])


def other_slash(message: Message) -> Message:
    path = message.path.removesuffix("/") if message.path.endswith("/") else message.path + "/"
    return Message(message.method, path, message.version, message.headers, message.body)


def test_every_client_sent_every_call() -> None:
    """No capture is of a client that failed half-way: each has all calls that its client has, and one by defaults alone."""
    for file in CAPTURES:
        types = sorted(event["type"] for event in expected(file))
        calls = ["alias", "group", "identify", "page", "screen", "track", "track"]
        if "kotlin" in file.parent.name:
            calls.remove("page")  # it has none outside Android
        assert types == calls, file


def test_a_file_holds_the_bytes() -> None:
    """What is written and read again is the same request: text, compressed bytes, chunks."""
    for body in ('{"a": "é"}'.encode(), b"\x1f\x8b\x08\x00\xff", b"3\r\nabc\r\n0\r\n\r\n"):
        message = Message("POST", "/v1/batch", "HTTP/1.1", [("Host", "x"), ("X", "a: b"), ("x", "")], body)
        assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message
