"""The bulk Object API over real sockets, up to the log: what a finish promises is stored once, what is refused is not."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from segment_do.events.record import OBJECT, REJECTED
from segment_do.settings import BulkSettings, IngressSettings, JournalSettings
from tests.actors.ingress.test_oauth import guarded
from tests.actors.inprocess import RunningPath, path
from tests.waiting import until


def lines(first: int, last: int, **properties: Any) -> bytes:
    """One object a line, ids from ``first`` to before ``last``."""
    return b"".join(
        json.dumps({"id": str(number), "collection": "rooms", "properties": {"n": number, **properties}}).encode()
        + b"\n"
        for number in range(first, last)
    )


async def started(running: RunningPath, **options: Any) -> str:
    answer = await running.post("/v0/start", **options)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sync_id"])


async def uploaded(running: RunningPath, sync: str, text: bytes, **options: Any) -> str:
    answer = await running.post(f"/v0/upload/{sync}", gzip.compress(text), **options)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["part_id"])


async def finished(running: RunningPath, sync: str, error: str = "", **options: Any) -> httpx.Response:
    return await running.post(f"/v0/finish/{sync}", {"error": error}, **options)


async def until_stored(running: RunningPath, syncs: int = 1) -> None:
    await until(lambda: running.replica.ingest.stored_syncs >= syncs)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()
    assert (told["success"], told["message"], answer.headers["content-type"]) == (
        False,
        told["error"],
        "application/json",
    )
    return answer.status_code, told["code"]


def files(home: Path) -> list[str]:
    """Of all syncs; folders that are being removed meanwhile are passed over."""
    root = home / "syncs"
    walked = os.walk(root)
    return sorted(str((Path(folder) / name).relative_to(root)) for folder, _below, names in walked for name in names)


async def test_a_sync_is_stored_when_it_is_finished(tmp_path: Path) -> None:
    """201, 201, 200, 202; each object once, in the order of parts and lines, and nothing before the finish."""
    async with path(tmp_path) as running:
        for slash in ("", "/"):
            answer = await running.post(f"/v0/start{slash}")
            assert answer.status_code == 201
            sync = answer.json()["sync_id"]
            for first, encoding in ((0, {"content-encoding": "gzip"}), (50, {})):
                answer = await running.post(
                    f"/v0/upload/{sync}{slash}", gzip.compress(lines(first, first + 50)), headers=encoding
                )
                assert answer.status_code == 201
                assert answer.json()["part_id"]
            assert (await running.post(f"/v0/keep-alive/{sync}{slash}")).status_code == 200
            await running.post("/v1/track", {"event": "E", "userId": "ada"})
            before = await running.logged(1 if not slash else 102)
            assert before[-1].type == "track"
            answer = await running.post(f"/v0/finish/{sync}{slash}", {"error": ""})
            assert (answer.status_code, answer.json()) == (202, {"success": True})
            assert "access-control-allow-origin" not in answer.headers
            records = (await running.logged(101 if not slash else 202))[-100:]
            assert [json.loads(one.payload)["id"] for one in records] == [str(number) for number in range(100)]
            assert {(one.type, one.event, one.source_id) for one in records} == {(OBJECT, "rooms", "src_tom")}
        await until_stored(running, 2)
        text = (await running.client.get("/metrics")).text
        for line in ("objects_total 200.0", "parts_total 4.0", "stored_syncs_total 2.0", "rejected_lines_total 0.0"):
            assert f"segment_do_bulk_{line}" in text


async def test_lines_that_break_a_rule_are_set_aside(tmp_path: Path) -> None:
    """They cost no other line anything, and are told as rejected events are."""
    async with path(tmp_path) as running:
        sync = await started(running)
        await uploaded(
            running, sync, lines(0, 2) + b"{\n" + lines(2, 3) + b'{"id":"x","collection":"_a","properties":{}}'
        )
        assert (await finished(running, sync)).status_code == 202
        records = await running.logged(5)
        assert [one.type for one in records] == [OBJECT, OBJECT, REJECTED, OBJECT, REJECTED]
        assert [one.event for one in records if one.type == REJECTED] == ["malformed_object", "invalid_collection"]
        await until_stored(running)
        assert running.replica.status()["bulk_rejectedLines"] == 2
        assert running.replica.status()["bulk_objects"] == 3


async def test_a_sync_that_is_finished_with_an_error_is_dropped(tmp_path: Path) -> None:
    """202, nothing of it is stored, its files go; a second call hears the same, another one a conflict."""
    async with path(tmp_path) as running:
        sync = await started(running)
        await uploaded(running, sync, lines(0, 5))
        for _ in range(2):
            assert (await finished(running, sync, "the database went away")).status_code == 202
        assert refusal(await finished(running, sync)) == (409, "sync_dropped")
        assert refusal(await running.post(f"/v0/keep-alive/{sync}")) == (409, "sync_finished")
        await until(lambda: not any(name.endswith(".gz") for name in files(tmp_path)))
        other = await started(running)
        await uploaded(running, other, lines(7, 8))
        await finished(running, other)
        assert [json.loads(one.payload)["id"] for one in await running.logged(1)] == ["7"]


async def test_calls_that_are_made_again_have_one_effect(tmp_path: Path) -> None:
    """The same file twice in a row is one part, a finish may be repeated before and after it was stored."""
    async with path(tmp_path) as running:
        sync = await started(running)
        file = gzip.compress(lines(0, 5))
        parts = [(await running.post(f"/v0/upload/{sync}", file)).json()["part_id"] for _ in range(2)]
        assert parts[0] == parts[1]
        assert (await finished(running, sync)).status_code == 202
        assert (await finished(running, sync)).status_code == 202
        await until_stored(running)
        assert (await finished(running, sync)).status_code == 202
        assert refusal(await finished(running, sync, "no")) == (409, "sync_finished")
        assert refusal(await running.post(f"/v0/upload/{sync}", file)) == (409, "sync_finished")
        assert len(await running.logged(5)) == 5


async def test_an_empty_sync_ends_well(tmp_path: Path) -> None:
    """Nothing was there to send."""
    async with path(tmp_path) as running:
        sync = await started(running)
        assert (await running.post(f"/v0/finish/{sync}", b"{}")).status_code == 202
        await until_stored(running)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, (400, "malformed_gzip")),
        (lines(0, 2), {}, (400, "malformed_gzip")),
        (lines(0, 2), {"content-encoding": "gzip"}, (400, "malformed_gzip")),
        (gzip.compress(lines(0, 2))[:-3], {}, (400, "malformed_gzip")),
        (gzip.compress(lines(0, 2)), {"content-encoding": "br"}, (400, "unsupported_encoding")),
        (gzip.compress(secrets.token_bytes(3_000)), {}, (400, "file_too_large")),
        (gzip.compress(bytes(30_000)), {}, (400, "unpacked_too_large")),
    ],
)
async def test_what_is_no_file_of_lines_is_refused(
    tmp_path: Path, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """Before any part is made, whether its length is told before or not; the sync goes on without it."""

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    bulk = BulkSettings(max_file_bytes=2_000, max_unpacked_bytes=20_000)
    async with path(tmp_path, bulk=bulk) as running:
        sync = await started(running)
        assert refusal(await running.post(f"/v0/upload/{sync}", body, headers=headers)) == expected
        answer = await running.client.post(
            f"/v0/upload/{sync}", auth=("key-tom", ""), content=chunks(), headers=headers
        )
        assert refusal(answer) == expected
        await uploaded(running, sync, lines(0, 1))
        await finished(running, sync)
        await running.logged(1)
        await until_stored(running)
        assert [name for name in files(tmp_path) if "upload" in name] == []


async def test_unknown_syncs_paths_and_methods(tmp_path: Path) -> None:
    """404 for what is not there, 405 for GET and OPTIONS, 400 for a finish that says nothing; always JSON, never CORS."""
    async with path(tmp_path) as running:
        sync = await started(running)
        for call, body in (("upload", gzip.compress(b"{}")), ("finish", {"error": ""}), ("keep-alive", None)):
            for wrong in ("0" * 32, "nothing", "%2e%2e", "A" * 32):
                assert refusal(await running.post(f"/v0/{call}/{wrong}", body)) == (404, "unknown_sync")
            # Another source's sync is as good as none.
            assert refusal(await running.post(f"/v0/{call}/{sync}", body, key="key-ralph")) == (404, "unknown_sync")
        assert (await running.post("/v0/nowhere")).status_code == 404
        assert (await running.post("/v0/upload")).status_code == 404
        for body in (b"{", b"[]", b'{"error": 7}', b""):
            assert refusal(await running.post(f"/v0/finish/{sync}", body)) == (400, "malformed_body")
        for method in ("GET", "OPTIONS"):
            answer = await running.client.request(method, "/v0/start", headers={"origin": "https://shop.example"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert "access-control-allow-origin" not in answer.headers


async def test_the_write_key_is_asked_for(tmp_path: Path) -> None:
    """401 without one or with an unknown one, also where unknown keys are accepted elsewhere; it may stand in the address."""
    for settings in (IngressSettings(), IngressSettings(unknown_key="accept")):
        async with path(tmp_path, ingress=settings) as running:
            assert refusal(await running.post("/v0/start", key=None)) == (401, "missing_write_key")
            assert refusal(await running.post("/v0/start", key="nobody")) == (401, "unknown_write_key")
            assert (await running.post("/v0/start?writeKey=key-tom", key=None)).status_code == 201


async def test_a_source_may_require_an_access_token(tmp_path: Path) -> None:
    """The bare key is refused at each step; with a token beside the key the sync is stored."""
    async with guarded(tmp_path) as running:
        await running.require()
        key, token = running.source.write_key, await running.token()
        bearer = {"authorization": f"Bearer {token}"}
        assert refusal(await running.post("/v0/start", key=key)) == (401, "oauth_required")
        answer = await running.client.post(f"/v0/start?writeKey={key}", headers=bearer)
        assert answer.status_code == 201
        sync = answer.json()["sync_id"]
        file = gzip.compress(lines(0, 3))
        assert refusal(await running.post(f"/v0/upload/{sync}", file, key=key)) == (401, "oauth_required")
        for call, body in (("upload", file), ("finish", b"{}")):
            answer = await running.client.post(f"/v0/{call}/{sync}?writeKey={key}", headers=bearer, content=body)
            assert answer.status_code in (201, 202), answer.text
        await running.logged(3)


async def test_a_source_has_so_many_open_syncs(tmp_path: Path) -> None:
    """The 21st is 429 with Retry-After; another source is not asked to wait; one that ends makes room."""
    async with path(tmp_path) as running:
        syncs = [await started(running) for _ in range(20)]
        answer = await running.post("/v0/start")
        assert refusal(answer) == (429, "too_many_syncs")
        assert int(answer.headers["retry-after"]) >= 1
        await started(running, key="key-ralph")
        await finished(running, syncs[0])
        await started(running)
        await until(lambda: running.replica.status()["bulk_openSyncs"] == 21)


async def test_a_session_lives_from_call_to_call(tmp_path: Path) -> None:
    """Ten minutes after its last call it is gone, with its files; a call begins them anew, and a finish ends them."""
    async with path(tmp_path) as running:
        now = time.time()
        running.replica.bulk._sessions._clock = running.replica.ingest._clock = lambda: now
        kept, left, done = [await started(running) for _ in range(3)]
        for sync in (kept, left):
            await uploaded(running, sync, lines(0, 2))
        now += 599
        assert (await running.post(f"/v0/keep-alive/{kept}")).status_code == 200
        assert (await finished(running, done)).status_code == 202
        now += 2
        assert refusal(await running.post(f"/v0/keep-alive/{left}")) == (404, "unknown_sync")
        assert refusal(await finished(running, left)) == (404, "unknown_sync")
        await until(lambda: not any(left in name for name in files(tmp_path)))
        assert (await finished(running, kept)).status_code == 202
        await running.logged(2)
        await until_stored(running, 2)
        now += 601  # what has ended is forgotten in its turn
        await until(lambda: files(tmp_path) == ["ingest.lock", "src_tom/lock"])
        assert refusal(await finished(running, kept)) == (404, "unknown_sync")


async def test_uploads_at_a_time_are_bounded(tmp_path: Path) -> None:
    """One more is 429 at once; when a client leaves in the middle, its place and its bytes are free again."""
    bulk = BulkSettings(max_uploads=1)
    async with path(tmp_path, bulk=bulk) as running:
        sync = await started(running)
        _reader, writer = await opened(running, sync, 1000)
        await until(lambda: running.replica.bulk._uploads != 0)
        answer = await running.post(f"/v0/upload/{sync}", gzip.compress(b""))
        assert refusal(answer) == (429, "busy")
        writer.transport.abort()
        await until(lambda: not (running.replica.bulk._uploads or any("upload" in name for name in files(tmp_path))))
        await uploaded(running, sync, lines(0, 1))


async def opened(running: RunningPath, sync: str, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.replica.port)
    key = base64.b64encode(b"key-tom:")
    writer.write(
        b"POST /v0/upload/%s HTTP/1.1\r\nhost: x\r\nauthorization: Basic %s\r\ncontent-length: %d\r\n\r\n"
        % (sync.encode(), key, length)
    )
    await writer.drain()
    return reader, writer


async def test_an_upload_may_take_its_time_but_must_go_on(tmp_path: Path) -> None:
    """Longer than any other request may take, as long as bytes come; where they stay away it is 408."""
    ingress = IngressSettings(body_timeout_seconds=0.3)
    async with path(tmp_path, ingress=ingress) as running:
        sync = await started(running)
        text = b"".join(lines(number, number + 1, t=secrets.token_hex(2_000)) for number in range(300))
        file = gzip.compress(text)
        reader, writer = await opened(running, sync, len(file))
        begun = time.monotonic()
        for at in range(0, len(file), 66_000):
            writer.write(file[at : at + 66_000])
            await writer.drain()
            await asyncio.sleep(0.12)  # the slow client is what is tested
        assert time.monotonic() - begun > 0.6
        async with asyncio.timeout(10.0):
            assert b" 201 " in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        writer.close()
        reader, writer = await opened(running, sync, len(file))
        writer.write(file[:1000])
        async with asyncio.timeout(10.0):
            assert b" 408 " in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
            await reader.read()  # and the connection is closed when the rest does not come
        writer.close()
        await finished(running, sync)
        await running.logged(300)


async def test_room_on_disk_is_bounded(tmp_path: Path) -> None:
    """429 where uploads take what they may, 503 where the disk is nearly full; nothing is left of what was refused."""
    async with path(tmp_path, bulk=BulkSettings(max_bytes=3_000)) as running:
        sync = await started(running)
        await uploaded(running, sync, lines(0, 1))
        answer = await running.post(f"/v0/upload/{sync}", gzip.compress(secrets.token_bytes(4_000)))
        assert refusal(answer) == (429, "bulk_full")
        assert int(answer.headers["retry-after"]) >= 1
        running.replica.bulk._sessions._room._min_free_bytes = 2**62
        for answer in (await running.post("/v0/start"), await running.post(f"/v0/upload/{sync}", gzip.compress(b""))):
            assert refusal(answer) == (503, "storage_failed")
            assert int(answer.headers["retry-after"]) >= 1
        await until(lambda: not [name for name in files(tmp_path) if "upload" in name])


async def test_a_full_journal_holds_a_sync_up_and_loses_nothing(tmp_path: Path) -> None:
    """A finish is answered; its objects wait until the identities have caught up."""
    async with path(tmp_path, journal=JournalSettings(max_bytes=1 << 20)) as running:
        journal = running.replica.journal
        sync = await started(running)
        await uploaded(running, sync, lines(0, 5))
        journal.unapplied_bytes += 1 << 20
        assert (await finished(running, sync)).status_code == 202
        assert (await running.post("/v1/track", {"event": "E", "userId": "ada"})).status_code == 429
        assert running.replica.ingest.objects == 0
        journal.unapplied_bytes -= 1 << 20
        assert len(await running.logged(5)) == 5


async def test_two_replicas_share_all_syncs(tmp_path: Path) -> None:
    """What one began the other goes on with; one of them stores, and when it has gone the other does."""
    async with path(tmp_path) as one:
        await until(lambda: one.replica.ingest._lock >= 0)
        two = await second(one)
        sync = await started(one)
        await uploaded(two, sync, lines(0, 3))
        assert (await finished(two, sync)).status_code == 202
        await one.logged(3)
        await until_stored(one)
        assert two.replica.ingest.stored_syncs == 0
        sync = await started(two)
        await uploaded(one, sync, lines(3, 6))
        one.replica._ingesting.cancel()
        await asyncio.wait([one.replica._ingesting])
        one.replica.ingest.close()
        assert (await finished(one, sync)).status_code == 202
        await one.logged(6)
        await until_stored(two)
        await two.client.aclose()
        await two.replica.stop()


async def second(one: RunningPath) -> RunningPath:
    """Another replica on the same home, identities and log."""
    from actors.ingress.replica import Replica
    from actors.naming import identity_actor

    two = RunningPath(one.settings.home)
    two.hub, two.household = one.hub, one.household
    name_for = identity_actor(two.settings.identity)
    two.replica = Replica(two.settings, two._keys, two._apply, name_for, two.platform)  # type: ignore[arg-type]
    await two.replica.start()
    two.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{two.replica.port}", timeout=20.0)
    return two


def sixty_four_megabytes() -> Iterator[bytes]:
    chance = random.Random(1)
    for first in range(0, 64_000, 1_000):
        yield b"".join(lines(n, n + 1, t=chance.randbytes(490).hex()) for n in range(first, first + 1_000))


def compressed(texts: Iterable[bytes], to: Path) -> None:
    with gzip.open(to, "wb", compresslevel=1) as file:
        for text in texts:
            file.write(text)


async def test_a_large_file_costs_little_memory(tmp_path: Path) -> None:
    """64 MB of lines, on their way in and on their way to the journal: a few megabytes at any moment."""
    file = tmp_path / "large.gz"
    await asyncio.to_thread(compressed, sixty_four_megabytes(), file)

    async def content() -> AsyncIterator[bytes]:
        with file.open("rb") as reading:
            while data := reading.read(65_536):
                yield data

    async with path(tmp_path / "home") as running:
        stored = 0

        async def store(_identity: str, count: int, _pack: bytes) -> None:
            nonlocal stored
            stored += count

        running.replica.ingest._store = store  # the identities' memory has tests of its own
        sync = await started(running)
        await uploaded(running, sync, lines(0, 1))
        process, most = psutil.Process(os.getpid()), 0
        before = process.memory_info().rss

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, process.memory_info().rss)
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        answer = await running.client.post(f"/v0/upload/{sync}", auth=("key-tom", ""), content=content(), timeout=120.0)
        assert answer.status_code == 201, answer.text
        await finished(running, sync)
        await until(lambda: running.replica.ingest.stored_syncs > 0, seconds=120.0)
        watching.cancel()
        assert stored == 64_001
        assert most - before < 32 * 2**20, f"{(most - before) / 2**20:.0f} MB"
