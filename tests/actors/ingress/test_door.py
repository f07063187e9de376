"""The HTTP door over real sockets: answers, limits, statuses of the contract; nothing acknowledged that is not stored."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from actors.ingress.journal import entry
from actors.segment import HEADER
from segment_do.events.record import REJECTED, Record, encode_pack
from segment_do.settings import IngressSettings, JournalSettings
from tests.actors.inprocess import path
from tests.waiting import until

EVENT = {"type": "track", "event": "E", "userId": "ada", "messageId": "m1"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("track", {"event": "E", "userId": "ada"}),
        ("identify", {"userId": "ada", "traits": {"email": "a@b.c"}}),
        ("page", {"anonymousId": "a1", "name": "Home"}),
        ("screen", {"anonymousId": "a1", "name": "Home"}),
        ("group", {"userId": "ada", "groupId": "g"}),
        ("alias", {"userId": "ada", "previousId": "a1"}),
    ],
)
async def test_each_call_is_answered_as_segment_does_and_stored(
    tmp_path: Path, kind: str, body: dict[str, Any]
) -> None:
    """200, exactly `{"success": true}`, JSON, with a length; the event is in the log with its type."""
    async with path(tmp_path) as running:
        for spelled in (f"/v1/{kind}", f"/v1/{kind}/"):
            answer = await running.post(spelled, body)
            assert (answer.status_code, answer.json()) == (200, {"success": True})
            assert answer.headers["content-type"] == "application/json"
            assert int(answer.headers["content-length"]) == len(answer.content)
        records = await running.logged(2)
        assert [record.type for record in records] == [kind, kind]
        assert {record.source_id for record in records} == {"src_tom"}


async def test_batch_and_import_take_many(tmp_path: Path) -> None:
    """`/v1/batch` and its alias `/v1/import` (with and without slash) store every event once."""
    async with path(tmp_path) as running:
        for number, spelled in enumerate(("/v1/batch", "/v1/import", "/v1/import/", "/v1/batch/")):
            batch = [{**EVENT, "messageId": f"{number}-{position}"} for position in range(10)]
            assert (await running.post(spelled, {"batch": batch})).status_code == 200
        assert len({record.message_id for record in await running.logged(40)}) == 40


async def test_the_key_is_taken_from_header_or_body(tmp_path: Path) -> None:
    """Basic with and without colon, Bearer beside a key in the body, and the body alone."""
    import base64

    async with path(tmp_path) as running:
        plain = base64.b64encode(b"key-tom").decode()
        for headers, extra in (
            ({"authorization": f"Basic {plain}"}, {}),
            ({"authorization": "Bearer x"}, {"writeKey": "key-tom"}),
            ({}, {"writeKey": "key-tom"}),
        ):
            answer = await running.post("/v1/track", {**EVENT, **extra}, key=None, headers=headers)
            assert answer.status_code == 200, answer.text


async def test_an_unknown_key_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """401 with code and sentence, whether missing or unknown, and the key itself is not repeated."""
    async with path(tmp_path) as running:
        for key, code in (("nobody", "unknown_write_key"), (None, "missing_write_key")):
            answer = await running.post("/v1/track", EVENT, key=key)
            told = answer.json()
            assert (answer.status_code, told["code"]) == (401, code)
            assert told["message"] == told["error"]
            assert "nobody" not in answer.text
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_setting_answers_200_to_an_unknown_key_and_stores_nothing(tmp_path: Path) -> None:
    """As Segment does: well-formed but unknown keys hear success, and their events are dropped."""
    async with path(tmp_path, ingress=IngressSettings(unknown_key="accept")) as running:
        assert (await running.post("/v1/track", EVENT, key="nobody")).status_code == 200
        assert running.replica.door.counts.events == 0


async def test_a_new_key_works_at_once(tmp_path: Path) -> None:
    """A key made a moment ago is looked up before it is called unknown."""
    async with path(tmp_path) as running:
        running.sources.append(type(running.sources[0])("src_new", "n", "tom", "key-new", ""))
        assert (await running.post("/v1/track", EVENT, key="key-new")).status_code == 200


async def test_known_keys_go_on_working_when_control_is_away(tmp_path: Path) -> None:
    """The control actor may restart: events with known keys are stored; unknown ones hear 503, to try again."""
    async with path(tmp_path) as running:
        running.up = False
        assert (await running.post("/v1/track", EVENT)).status_code == 200
        answer = await running.post("/v1/track", EVENT, key="who")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


async def test_gzip_and_plain_text_bodies(tmp_path: Path) -> None:
    """gzip, also in several members, and any content type: clients send JSON as text/plain."""
    async with path(tmp_path) as running:
        body = json.dumps({"batch": [EVENT]}).encode()
        for content in (gzip.compress(body), gzip.compress(body[:10]) + gzip.compress(body[10:])):
            answer = await running.post(
                "/v1/batch", content, headers={"content-encoding": "gzip", "content-type": "text/plain"}
            )
            assert answer.status_code == 200, answer.text
        await running.logged(1)


async def test_a_chunked_body_without_a_length(tmp_path: Path) -> None:
    """Kotlin streams: no content-length."""

    async def chunks() -> Any:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    body = json.dumps(EVENT).encode()
    async with path(tmp_path) as running:
        answer = await running.client.post("/v1/track", content=chunks(), auth=("key-tom", ""))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"{", None, "malformed_body"),
        (b'{"event": NaN}', None, "malformed_body"),
        (b"[" * 100_000, None, "body_too_large"),
        (b'{"a":' * 5_000, None, "malformed_body"),
        (b"x" * 600_000, None, "body_too_large"),
        (zlib.compress(b"x"), "gzip", "malformed_body"),
        (gzip.compress(b"x" * 100)[:-9], "gzip", "malformed_body"),
        (gzip.compress(b"0" * 50_000_000), "gzip", "body_too_large"),
        (b"{}", "br", "unsupported_encoding"),
        (json.dumps({**EVENT, "properties": {"x": "y" * 33_000}}).encode(), None, "event_too_large"),
    ],
)
async def test_a_bad_body_is_a_clear_400(tmp_path: Path, body: bytes, encoding: str | None, code: str) -> None:
    """Malformed, endless, oversize or bombed: 400 with code and sentence, nothing stored, and the next request works."""
    if code == "body_too_large" and encoding is None and len(body) < 512_000:
        code = "event_too_large"
    async with path(tmp_path) as running:
        headers = {"content-encoding": encoding} if encoding else {}
        answer = await running.post("/v1/track", body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert answer.json()["message"].endswith(".")
        assert (await running.post("/v1/track", EVENT)).status_code == 200
        assert len(await running.logged(1)) == 1


async def test_bad_events_of_a_batch_are_told_and_set_aside(tmp_path: Path) -> None:
    """The answer stays 200 and names each; the good ones are stored as if alone."""
    async with path(tmp_path) as running:
        batch = [EVENT, {"type": "track", "userId": "u"}, {**EVENT, "messageId": "m2"}]
        answer = await running.post("/v1/batch", {"batch": batch})
        told = answer.json()
        assert answer.status_code == 200
        assert told["success"] is True
        assert [(one["index"], one["code"]) for one in told["rejected"]] == [(1, "missing_event")]
        assert sorted(record.type for record in await running.logged(3)) == [REJECTED, "track", "track"]


async def test_too_many_events_are_answered_200_and_rejected(tmp_path: Path) -> None:
    """2,501 events: the contract answers 200 and takes none of them."""
    async with path(tmp_path) as running:
        answer = await running.post("/v1/batch", {"batch": [EVENT] * 2501})
        assert answer.status_code == 200
        assert answer.json()["rejected"][0]["code"] == "batch_too_large"
        (record,) = await running.logged(1)
        assert record.type == REJECTED


async def test_browsers_may_send_from_anywhere(tmp_path: Path) -> None:
    """Preflight and answer, errors among them, carry CORS headers for the asking origin, and expose Retry-After."""
    async with path(tmp_path) as running:
        origin = {"origin": "https://shop.example"}
        preflight = await running.client.options(
            "/v1/track", headers={**origin, "access-control-request-headers": "authorization,x-retry-count,x-own"}
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-headers"] == "authorization,x-retry-count,x-own"
        for key in ("key-tom", "nobody"):
            answer = await running.post("/v1/track", EVENT, key=key, headers=origin)
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert (await running.logged(1))[0].ip == "127.0.0.1"
        assert "access-control-allow-origin" not in (await running.client.get("/api/status", headers=origin)).headers


async def test_a_slow_body_is_cut_off(tmp_path: Path) -> None:
    """A client that dribbles is answered 408 within the body's time and frees its place; others are not delayed."""
    async with path(tmp_path, ingress=IngressSettings(body_timeout_seconds=0.3)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.replica.port)
        writer.write(b"POST /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        assert (await running.post("/v1/track", EVENT)).status_code == 200
        async with asyncio.timeout(5.0):
            answer = await reader.read(1000)
        assert b" 408 " in answer.split(b"\r\n")[0]
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_mid_body_costs_nothing(tmp_path: Path) -> None:
    """Cut connections leave no reservation behind."""
    async with path(tmp_path) as running:
        for _ in range(20):
            _reader, writer = await asyncio.open_connection("127.0.0.1", running.replica.port)
            writer.write(b"POST /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\n\r\n{")
            await writer.drain()
            writer.transport.abort()
        assert (await running.post("/v1/track", EVENT)).status_code == 200
        await until(lambda: not running.replica.door.inflight_bytes)


async def test_a_full_disk_is_503_and_recovers_by_itself(tmp_path: Path) -> None:
    """ENOSPC: 503 with Retry-After, /ready says no, nothing of it is stored; with space again all goes on."""
    async with path(tmp_path) as running:
        assert (await running.post("/v1/track", EVENT)).status_code == 200
        appender = running.replica.journal._appender
        real = appender._fdatasync

        def full(_handle: int) -> None:
            raise OSError(28, os.strerror(28))

        appender._fdatasync = full
        refused = await running.post("/v1/track", {**EVENT, "messageId": "refused"})
        assert refused.status_code == 503
        assert refused.json()["code"] == "storage_failed"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await running.client.get("/ready")).status_code == 503
        assert (await running.client.get("/health")).status_code == 200
        appender._fdatasync = real
        assert (await running.client.get("/ready")).status_code == 200
        assert (await running.post("/v1/track", {**EVENT, "messageId": "m2"})).status_code == 200
        assert {record.message_id for record in await running.logged(2)} == {"m1", "m2"}


async def test_at_the_journals_bound_requests_hear_429(tmp_path: Path) -> None:
    """Identities that do not keep up become back-pressure at the door, not memory."""
    async with path(tmp_path, journal=JournalSettings(max_bytes=1)) as running:
        answer = await running.post("/v1/track", EVENT)
        assert (answer.status_code, answer.json()["code"]) == (429, "busy")
        assert int(answer.headers["retry-after"]) >= 1


async def test_the_log_has_an_event_once_however_often_it_is_sent(tmp_path: Path) -> None:
    """Retries, singly and in batches, on any path, are deduplicated by messageId; the copy that came first stays."""
    async with path(tmp_path) as running:
        for _ in range(3):
            await running.post("/v1/track", EVENT)
            await running.post("/v1/batch", {"batch": [EVENT, {**EVENT, "messageId": "m2"}, EVENT]})
        await running.post("/v1/track", {**EVENT, "messageId": "last"})
        assert [record.message_id for record in await running.logged(3)] == ["m1", "m2", "last"]


async def test_what_an_earlier_replica_left_is_applied(tmp_path: Path) -> None:
    """Events acknowledged by a replica that died before its identities had them are applied by the next one, once."""
    async with path(tmp_path) as first:
        blocked = asyncio.Event()

        async def never(_name: str, _batches: Any) -> None:
            await blocked.wait()

        first.replica.dispatcher._apply = never
        for number in range(5):
            assert (await first.post("/v1/track", {**EVENT, "messageId": f"m{number}"})).status_code == 200
        os.close(first.replica.journal._lock)  # as when it is killed
        first.replica.journal._lock = os.open(os.devnull, os.O_RDONLY)
        await first.household.close()
        await first.hub.close()
        async with path(tmp_path) as second:
            assert [record.message_id for record in await second.logged(5)] == [f"m{number}" for number in range(5)]
            await until(lambda: len(list((tmp_path / "journal").iterdir())) <= 1)


async def test_a_journal_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    """Of two journals left by dead replicas one is damaged: the other's events are applied, and the damaged one is kept."""
    journals = tmp_path / "journal"
    for name in ("0-damaged", "1-sound"):
        (journals / name).mkdir(parents=True)
        (journals / name / "lock").touch()
    (journals / "0-damaged" / "00000000000000000001.seg").write_bytes(b"not a segment at all")
    record = Record("left", "track", "src_tom", "u", None, "E", 1, 1, None, 1, None, b"{}")
    sound = HEADER + entry(b"tom", 1, encode_pack([record]))
    (journals / "1-sound" / "00000000000000000001.seg").write_bytes(sound)
    async with path(tmp_path) as running:
        assert [one.message_id for one in await running.logged(1)] == ["left"]
        assert (journals / "0-damaged").exists()


async def test_metrics_count(tmp_path: Path) -> None:
    """/metrics is Prometheus text with what the replica did."""
    async with path(tmp_path) as running:
        await running.post("/v1/batch", {"batch": [EVENT, {"type": "x"}]})
        text = (await running.client.get("/metrics")).text
        assert "segment_do_events_total 2.0" in text
        assert "segment_do_rejected_events_total 1.0" in text


async def test_identities_are_apart(tmp_path: Path) -> None:
    """The same messageId through another identity's key is another event."""
    async with path(tmp_path) as running:
        await running.post("/v1/track", EVENT)
        await running.post("/v1/track", EVENT, key="key-ralph")
        assert {record.source_id for record in await running.logged(2)} == {"src_tom", "src_ralph"}


async def test_other_methods_and_paths_get_json(tmp_path: Path) -> None:
    """GET on a tracking path is 405, an unknown path 404; both with a JSON body."""
    async with path(tmp_path) as running:
        assert (await running.client.get("/v1/track")).status_code == 405
        lost = await running.client.get("/nowhere")
        assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
        closed = await running.client.get("/api/status")
        assert (closed.status_code, closed.json()["code"]) == (401, "admin_token")


@pytest.mark.parametrize(
    ("letter", "kind"), list(zip("tipsga", ["track", "identify", "page", "screen", "group", "alias"], strict=True))
)
async def test_browsers_and_phones_use_one_letter(tmp_path: Path, letter: str, kind: str) -> None:
    """`/v1/t` and its like, key in the body, text/plain; the address is the person's, so it is kept."""
    body = {"writeKey": "key-tom", "userId": "u", "event": "E", "groupId": "g", "previousId": "p", "sentAt": None}
    async with path(tmp_path) as running:
        for spelled in (f"/v1/{letter}", f"/v1/{letter}/"):
            answer = await running.post(spelled, json.dumps(body), key=None, headers={"content-type": "text/plain"})
            assert (answer.status_code, answer.json()) == (200, {"success": True})
        records = await running.logged(2)
        assert [(record.type, record.ip) for record in records] == [(kind, "127.0.0.1")] * 2


async def test_batches_of_browsers_and_phones(tmp_path: Path) -> None:
    """`/v1/b`: the envelope's key and sentAt, events with keys of their own, `null` ids; each stored once."""
    events = [
        {"type": "track", "event": "E", "anonymousId": "a", "userId": None, "writeKey": "x", "messageId": f"m{number}"}
        for number in range(3)
    ]
    body = json.dumps({"batch": events, "sentAt": "2026-01-01T00:00:00.000Z", "writeKey": "key-tom"}).encode()
    async with path(tmp_path) as running:
        for content, headers in ((body, {}), (gzip.compress(body), {"content-encoding": "gzip"})):
            answer = await running.post("/v1/b", content, key=None, headers={"content-type": "text/plain", **headers})
            assert answer.status_code == 200, answer.text
        records = await running.logged(3)
        assert {(record.user_id, record.anonymous_id) for record in records} == {(None, "a")}


async def test_the_key_may_stand_in_the_address(tmp_path: Path) -> None:
    """`?writeKey=` for senders that can set nothing else; an unknown one is refused all the same."""
    async with path(tmp_path) as running:
        assert (await running.post("/v1/track?writeKey=key-tom", EVENT, key=None)).status_code == 200
        assert (await running.post("/v1/track?writeKey=who", EVENT, key=None)).status_code == 401


async def test_telemetry_of_sdks_is_taken_and_thrown_away(tmp_path: Path) -> None:
    """`/v1/m` answers as a browser needs it, and stores nothing."""
    async with path(tmp_path) as running:
        answer = await running.post("/v1/m", '{"series":[]}', key=None, headers={"origin": "https://shop.example"})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert running.replica.door.counts.events == 0


@pytest.mark.parametrize(
    ("query", "stored"),
    [
        ("data=eyJ3cml0ZUtleSI6ImtleS10b20iLCJ1c2VySWQiOiJ1IiwiZXZlbnQiOiJPcGVuZWQifQ", True),
        ("writeKey=key-tom&userId=u&event=Opened&properties.subject=Hi", True),
        ("writeKey=who&userId=u&event=Opened", False),
        ("data=%%%", False),
        ("", False),
        ("writeKey=key-tom&data=bm8ganNvbg", False),
    ],
)
async def test_a_pixel_is_always_a_picture(tmp_path: Path, query: str, stored: bool) -> None:
    """200 and a point whatever comes of the event, which is on disk by then where it is sound."""
    async with path(tmp_path) as running:
        answer = await running.client.get(f"/v1/pixel/track?{query}", headers={"origin": "https://mail.example"})
        assert (answer.status_code, answer.headers["content-type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
        assert answer.headers["access-control-allow-origin"] == "https://mail.example"
        assert "no-store" in answer.headers["cache-control"]
        assert running.replica.door.counts.events == stored
        if stored:
            (record,) = await running.logged(1)
            assert (record.event, record.ip) == ("Opened", "127.0.0.1")


async def test_requests_that_come_again_are_counted(tmp_path: Path) -> None:
    """`X-Retry-Count` says that a client had to send again; a value that is none changes nothing."""
    async with path(tmp_path) as running:
        for count in ("2", "x", "-1", "9" * 50):
            assert (await running.post("/v1/track", EVENT, headers={"x-retry-count": count})).status_code == 200
        assert running.replica.door.counts.retried_requests == 1
