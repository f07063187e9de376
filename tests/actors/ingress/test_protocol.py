"""The public port byte by byte: what HTTP lets clients do, and what they may not cost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.ingress import protocol
from segment_do.settings import IngressSettings
from tests.actors.inprocess import RunningPath, path
from tests.waiting import until

_KEY = base64.b64encode(b"key-tom:")


class Client:
    """A connection that writes what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        async with asyncio.timeout(10.0):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def closed(self) -> bytes:
        """What else comes before the other side closes."""
        async with asyncio.timeout(10.0):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def connected(running: RunningPath) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.replica.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def track(message_id: str, *headers: bytes, version: bytes = b"1.1") -> bytes:
    body = json.dumps({"event": "E", "userId": "ada", "messageId": message_id}).encode()
    lines = [b"host: x", b"authorization: Basic " + _KEY, b"content-length: %d" % len(body), *headers]
    return b"POST /v1/track HTTP/%s\r\n%s\r\n\r\n%s" % (version, b"\r\n".join(lines), body)


HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_requests_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    """Pipelining, tracking and others mixed: as many answers as requests, in their order, and every event once."""
    async with path(tmp_path) as running, connected(running) as client:
        client.writer.write(track("a") + track("b") + HEALTH + track("c") + HEALTH + HEALTH + track("d"))
        bodies = [json.loads((await client.answer())[2]) for _ in range(7)]
        assert ["success" in body for body in bodies] == [True, True, False, True, False, False, True]
        client.writer.write(track("e"))
        assert (await client.answer())[0] == 200
        assert sorted(record.message_id for record in await running.logged(5)) == ["a", "b", "c", "d", "e"]


async def test_a_request_may_come_byte_by_byte(tmp_path: Path) -> None:
    """Wherever the network cuts it, the request is the same."""
    async with path(tmp_path) as running, connected(running) as client:
        for byte in track("slow"):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
        assert (await client.answer())[0] == 200
        assert [record.message_id for record in await running.logged(1)] == ["slow"]


@pytest.mark.parametrize(
    ("headers", "version", "stays"),
    [((), b"1.1", True), ((b"connection: close",), b"1.1", False), ((), b"1.0", False)],
)
async def test_the_connection_stays_where_the_client_wants_it(
    tmp_path: Path, headers: tuple[bytes, ...], version: bytes, stays: bool
) -> None:
    """Keep-alive by default; `Connection: close` and HTTP/1.0 end it after the answer, which says so."""
    async with path(tmp_path) as running, connected(running) as client:
        client.writer.write(track("a", *headers, version=version))
        status, answered, _body = await client.answer()
        assert (status, answered.get("connection")) == (200, None if stays else "close")
        if stays:
            client.writer.write(track("b"))
            assert (await client.answer())[0] == 200
        else:
            assert await client.closed() == b""


async def test_a_client_that_asks_first_is_told_to_go_on(tmp_path: Path) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body."""
    async with path(tmp_path) as running, connected(running) as client:
        head, _, body = track("a", b"expect: 100-continue").partition(b"\r\n\r\n")
        client.writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(10.0):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(body)
        assert (await client.answer())[0] == 200


async def test_what_is_no_http_is_told_in_json(tmp_path: Path) -> None:
    """400, a JSON body with a code, and the connection ends."""
    async with path(tmp_path) as running, connected(running) as client:
        client.writer.write(b"\x16\x03\x01\x02\x00\x01")  # a TLS greeting
        status, headers, body = await client.answer()
        assert (status, headers["content-type"], json.loads(body)["code"]) == (
            400,
            "application/json",
            "malformed_request",
        )
        assert await client.closed() == b""


async def test_a_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    """Half a head holds a connection no longer than a body may take."""
    async with (
        path(tmp_path, ingress=IngressSettings(body_timeout_seconds=0.2)) as running,
        connected(running) as fresh,
        connected(running) as used,
    ):
        fresh.writer.write(b"POST /v1/track HTTP/1.1\r\nhost:")
        used.writer.write(track("a"))
        assert (await used.answer())[0] == 200
        used.writer.write(b"POST /v1/track HTTP/1.1\r\nhost:")
        assert await fresh.closed() == b""
        assert await used.closed() == b""


async def test_a_head_has_a_bound(tmp_path: Path) -> None:
    """A head larger than any client's is refused before it has filled the memory."""
    async with path(tmp_path) as running, connected(running) as client:
        client.writer.write(b"POST /v1/track HTTP/1.1\r\n" + b"x: " + b"y" * 2_000_000)
        assert (await client.answer())[0] == 400
        assert await client.closed() == b""


async def test_an_idle_connection_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing happens is closed, whether it ever sent a request or not."""
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.1)
    async with (
        path(tmp_path, ingress=IngressSettings(body_timeout_seconds=0.5)) as running,
        connected(running) as fresh,
        connected(running) as used,
    ):
        used.writer.write(track("a"))
        assert (await used.answer())[0] == 200
        assert await fresh.closed() == b""
        assert await used.closed() == b""


async def test_a_body_that_never_ends_is_refused_and_then_cut_off(tmp_path: Path) -> None:
    """The client hears why; what it goes on sending is thrown away, up to a bound, then the connection ends."""
    async with path(tmp_path, ingress=IngressSettings(max_body_bytes=10_000)) as running, connected(running) as client:
        client.writer.write(b"POST /v1/batch HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        client.writer.write(chunk * 3)
        status, _headers, body = await client.answer()
        assert (status, json.loads(body)["code"]) == (400, "body_too_large")
        client.writer.write(chunk * 30)
        assert await client.closed() == b""
        assert running.replica.door.inflight_bytes == 0


async def test_bodies_without_a_length_are_counted_as_they_come(tmp_path: Path) -> None:
    """What a chunked body does not announce counts all the same: together they cannot pass the bound on bytes in flight."""
    ingress = IngressSettings(max_body_bytes=100_000, max_inflight_bytes=120_000)
    async with path(tmp_path, ingress=ingress) as running, connected(running) as one, connected(running) as two:
        head = b"POST /v1/batch HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        part = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        door = running.replica.door
        one.writer.write(head + part)
        await until(lambda: door.inflight_bytes >= 65_536)
        two.writer.write(head + part)
        status, headers, body = await two.answer()
        assert (status, json.loads(body)["code"], headers["retry-after"]) == (429, "busy", "1")
        assert door.inflight_bytes <= 120_000
        one.writer.write(b"0\r\n\r\n")
        assert (await one.answer())[0] == 401  # read to its end, and it has no key
        assert door.inflight_bytes == 0


async def test_one_connections_trouble_leaves_the_others_looked_after() -> None:
    """The sweep goes on past a connection that fails."""
    looked = asyncio.Event()

    class Broken:
        def look(self, _now: float) -> None:
            raise RuntimeError("its transport is gone")

    class Sound:
        def look(self, _now: float) -> None:
            looked.set()

    settings = IngressSettings(body_timeout_seconds=0.01)
    sweeping = asyncio.create_task(protocol.sweep({Broken(), Sound()}, settings))
    for _ in range(2):
        looked.clear()
        async with asyncio.timeout(5.0):
            await looked.wait()
    sweeping.cancel()


async def test_connections_have_a_bound(tmp_path: Path) -> None:
    """Beyond it: 429, to try again, and the connection ends; those that are there go on."""
    async with (
        path(tmp_path, ingress=IngressSettings(max_connections=2)) as running,
        connected(running) as one,
        connected(running) as two,
    ):
        for client in (one, two):
            client.writer.write(track("a"))
            assert (await client.answer())[0] == 200
        async with connected(running) as three:
            three.writer.write(track("b"))
            refused, headers, body = await three.answer()
            assert (refused, json.loads(body)["code"], headers["retry-after"]) == (429, "busy", "1")
            assert await three.closed() == b""
        one.writer.write(track("c"))
        assert (await one.answer())[0] == 200


async def test_answers_carry_the_date(tmp_path: Path) -> None:
    """Clients that correct their clocks read it (contract, OAuth; RFC 9110)."""
    async with path(tmp_path) as running, connected(running) as client:
        async with asyncio.timeout(10.0):
            while True:  # the server writes it down once a second
                client.writer.write(track("a"))
                _status, headers, _body = await client.answer()
                if "date" in headers:
                    break
        assert headers["date"].endswith("GMT")


async def test_a_client_that_leaves_before_its_answer_keeps_its_events(tmp_path: Path) -> None:
    """The request had come whole: its events are stored although nobody hears it."""
    async with path(tmp_path) as running:
        async with connected(running) as client:
            client.writer.write(track("left"))
            await client.writer.drain()
        assert [record.message_id for record in await running.logged(1)] == ["left"]
        assert running.replica.door.inflight_bytes == 0
