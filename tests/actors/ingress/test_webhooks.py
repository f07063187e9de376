"""`/webhooks/{source}` over real sockets, up to the log, with the real control store behind the API and the command line."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.control.model import Source
from actors.control.store import ControlStore
from actors.ingress.keys import KeySet
from segment_do.errors import NotReady
from segment_do.settings import IngressSettings, JournalSettings
from segment_do.webhooks import WebhookConfig
from tests.actors.inprocess import NoPlatform, RunningPath
from tests.segment_do.cli.conftest import Ran, run
from tests.waiting import until

ORDER = {
    "type": "track",
    "event": "Order Placed",
    "userId": {"@path": "$.customer"},
    "properties": {"n": {"@path": "$.n"}},
}
NOTIFICATIONS = Path(__file__).parents[2] / "segment_do" / "webhooks" / "commercetools"


class _Control(NoPlatform):
    """The control API in front of a real store, in this process."""

    def __init__(self, store: ControlStore) -> None:
        super().__init__()
        self.sources = store.sources
        self.set_webhook = store.set_webhook


class Hooked(RunningPath):
    """A path whose sources come from a control store."""

    store: ControlStore
    source: Source

    async def start(self) -> None:
        self.store = await ControlStore.open(self.settings.paths.control)
        self.platform = _Control(self.store)
        self.source = await self.store.create_source("shop", "tom")
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self.store.close()

    async def hook(self, kind: str = "custom", **settings: Any) -> dict[str, Any]:
        answer = await self.admin("PUT", f"/api/sources/{self.source.id}/webhook", {"kind": kind, "settings": settings})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def admin(self, method: str, path: str, told: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.settings.paths.token()}"}
        return await self.client.request(method, path, json=told, headers=headers)

    async def call(self, body: Any, *, key: str | None = "", below: str = "", **options: Any) -> httpx.Response:
        """A call with the source's key; ``key=None``: without any."""
        key = self.source.write_key if key == "" else key
        return await self.post(f"/webhooks/{self.source.id}{below}", body, key, **options)

    async def heard(self) -> None:
        """The replica knows what the control store knows."""
        version = await self.store.wait_newer(-1, 0.0)
        await until(lambda: self.replica.keys.version >= version)

    async def cli(self, *arguments: str) -> Ran:
        environment = {"SEGMENT_DO_URL": self.url, "SEGMENT_DO_TOKEN": self.settings.paths.token() or ""}
        return await asyncio.to_thread(run, *arguments, environment=environment)

    async def _keys(self, since: int) -> KeySet:
        if not self.up:
            raise NotReady("The control actor is away.")
        version = await self.store.wait_newer(since, 60.0)
        return KeySet(version, await self.store.sources())


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[Hooked]:
    """Started, and stopped in order."""
    running = Hooked(tmp_path)
    await running.start()
    yield running
    await running.stop()


async def test_a_call_becomes_an_event(hooked: Hooked) -> None:
    """200 says how many; the record is the source's, and its identity's."""
    told = await hooked.hook(mapping=ORDER)
    assert told["path"] == f"/webhooks/{hooked.source.id}"
    answer = await hooked.call({"customer": 7, "n": 1})
    assert (answer.status_code, answer.json()) == (200, {"success": True, "events": 1, "ignored": 0})
    assert int(answer.headers["content-length"]) == len(answer.content)
    (record,) = await hooked.logged(1)
    assert (record.type, record.event, record.user_id) == ("track", "Order Placed", "7")
    assert (record.source_id, record.sent_at, record.ip) == (hooked.source.id, None, None)


async def test_keys_by_basic_and_by_address(hooked: Hooked) -> None:
    """With a slash at the end and gzip, too; a wrong or missing key is a 401 with a code, and stores nothing."""
    await hooked.hook(mapping=ORDER)
    body = gzip.compress(json.dumps({"customer": 1}).encode())
    assert (await hooked.call(body, below="/", headers={"content-encoding": "gzip"})).status_code == 200
    assert (
        await hooked.call({"customer": 1}, key=None, below=f"?writeKey={hooked.source.write_key}")
    ).status_code == 200
    for key, below, code in (
        (None, "", "missing_write_key"),
        ("nobody", "", "unknown_write_key"),
        (None, "?writeKey=%C3%BC", "unknown_write_key"),
    ):
        answer = await hooked.call({"customer": 1}, key=key, below=below)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert len(await hooked.logged(2)) == 2


async def test_a_path_that_nobody_made_is_not_found(hooked: Hooked) -> None:
    """An unknown source, and one without a webhook."""
    for path in ("/webhooks/src_nobody", f"/webhooks/{hooked.source.id}", "/webhooks/", "/webhooks/a/b"):
        answer = await hooked.post(path, {}, hooked.source.write_key)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_webhook")


async def test_segment_calls_are_proven_by_their_signature(hooked: Hooked) -> None:
    """A key does not replace it; single and batch, stored as they were, each once however often they come."""
    told = await hooked.hook("segment", secret="s3cret")
    assert told["settings"] == {"secret": "********"}
    event = '{"type":"track","event":"Ü","userId":"ada","messageId":"m%d","timestamp":"2026-01-01T00:00:00.000Z","sentAt":"2026-01-01T00:00:09.000Z"}'
    one, two = event % 1, event % 2

    def signature(signed: str) -> dict[str, str]:
        return {"x-signature": hmac.new(b"s3cret", signed.encode(), hashlib.sha1).hexdigest()}

    for _ in range(2):
        assert (await hooked.call(one, key=None, headers=signature(one))).json()["events"] == 1
        answer = await hooked.call(f"[{one},{two}]", key=None, headers=signature(one))
        assert answer.json() == {"success": True, "events": 2, "ignored": 0}
    for headers in ({}, signature(two)):
        answer = await hooked.call(one, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_refused")
    records = await hooked.logged(2)
    assert [record.message_id for record in records] == ["m1", "m2"]
    # The time was corrected by the sender; correcting it again would move it.
    assert {record.timestamp for record in records} == {1_767_225_600_000_000}


async def test_commercetools_messages_become_one_profile(hooked: Hooked) -> None:
    """Created, then a changed address that names the customer by id alone: the same person."""
    await hooked.hook("commercetools")
    for name in ("customer_created", "customer_address_changed_without_email", "order_created"):
        answer = await hooked.call((NOTIFICATIONS / f"{name}.json").read_bytes())
        assert answer.status_code == 200, answer.text
    created, moved = await hooked.logged(2)
    assert created.user_id == "ada@example.com"
    assert created.profile_id == moved.profile_id


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, b"\xff\xfe", '{"a": NaN}'])
@pytest.mark.parametrize("kind", ["custom", "segment", "commercetools"])
async def test_what_is_no_json_is_a_400_with_a_code(hooked: Hooked, kind: str, body: Any) -> None:
    """Never a 500 with a trace."""
    await hooked.hook(kind, **({"mapping": ORDER} if kind == "custom" else {}))
    answer = await hooked.call(body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert "Traceback" not in answer.text


async def test_what_cannot_be_mapped_is_kept_and_told(hooked: Hooked) -> None:
    """200, because sending it again would change nothing; it is among the rejected events, with its reason and payload."""
    await hooked.hook(mapping={**ORDER, "event": {"@path": "$.name"}}, each="$")
    answer = await hooked.call([{"customer": 1, "name": "A"}, {"customer": 2}, {"name": "C"}])
    told = answer.json()
    assert (answer.status_code, told["events"]) == (200, 1)
    assert [(one["index"], one["code"]) for one in told["rejected"]] == [(1, "missing_event"), (2, "no_user_anon_id")]
    records = await hooked.logged(3)
    assert [record.type for record in records] == ["track", "rejected", "rejected"]


async def test_a_function_that_fails_is_told(hooked: Hooked) -> None:
    """In a sentence with its line."""
    await hooked.hook(function='def on_request(request, settings):\n    return request["body"]["nope"]')
    answer = await hooked.call({"a": 1})
    (told,) = answer.json()["rejected"]
    assert (answer.status_code, told["code"]) == (200, "function_failed")
    assert told["message"] == "The function failed: line 2: KeyError: nope."


async def test_a_changed_mapping_is_used_at_once(hooked: Hooked) -> None:
    """And a removed one no more."""
    await hooked.hook(mapping=ORDER)
    await hooked.call({"customer": 1})
    await hooked.hook(mapping={**ORDER, "event": "Changed"})
    await hooked.heard()
    await hooked.call({"customer": 1})
    assert [record.event for record in await hooked.logged(2)] == ["Order Placed", "Changed"]
    assert (await hooked.admin("DELETE", f"/api/sources/{hooked.source.id}/webhook")).status_code == 200
    await hooked.heard()
    assert (await hooked.call({"customer": 1})).status_code == 404


async def test_handshakes(hooked: Hooked) -> None:
    """CloudEvents' OPTIONS and Event Grid's validation event; other methods are told what goes."""
    await hooked.hook("commercetools")
    path = f"/webhooks/{hooked.source.id}"
    answer = await hooked.client.options(path, headers={"webhook-request-origin": "eventgrid.azure.net"})
    assert (answer.status_code, answer.headers["webhook-allowed-origin"]) == (200, "eventgrid.azure.net")
    asked = [
        {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "subject": "", "data": {"validationCode": "c"}}
    ]
    assert (await hooked.call(asked)).json()["validationResponse"] == "c"
    answer = await hooked.client.get(path)
    assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, "POST", "method_not_allowed")


async def test_bounds(tmp_path: Path) -> None:
    """A body too large is refused; no room on disk is a 503 to come again; before anything is known, too."""
    running = Hooked(
        tmp_path, ingress=IngressSettings(max_body_bytes=1_000), journal=JournalSettings(min_free_disk_bytes=2**62)
    )
    await running.start()
    try:
        await running.hook(mapping=ORDER)
        answer = await running.call({"customer": "x" * 2_000})
        assert (answer.status_code, answer.json()["code"]) == (400, "body_too_large")
        answer = await running.call({"customer": 1})
        assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (503, True)
        assert running.replica.door.inflight_bytes == 0
    finally:
        await running.stop()


async def test_a_source_that_requires_oauth_takes_no_bare_key(hooked: Hooked) -> None:
    """A signature is as good as a token; a key is not."""
    await hooked.hook(mapping=ORDER)
    await hooked.store.require_oauth(hooked.source.id, True)
    await hooked.heard()
    answer = await hooked.call({"customer": 1})
    assert (answer.status_code, answer.json()["code"]) == (401, "oauth_required")
    answer = await hooked.call({"customer": 1}, key=None, headers={"authorization": "Bearer nope"})
    assert answer.status_code == 401


async def test_the_api_keeps_its_secrets_and_its_guard(hooked: Hooked) -> None:
    """No token, no answer; wrong settings are refused with the place; the source says that it takes a webhook."""
    path = f"/api/sources/{hooked.source.id}/webhook"
    assert (await hooked.client.put(path, json={"kind": "segment"})).status_code == 401
    assert (await hooked.admin("GET", path)).status_code == 404
    answer = await hooked.admin("PUT", path, {"kind": "custom", "settings": {"mapping": {"@nope": 1}}})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_mapping")
    assert (await hooked.admin("PUT", "/api/sources/src_x/webhook", {"kind": "segment"})).status_code == 404
    await hooked.hook("segment", secret="hush")
    assert "hush" not in (await hooked.admin("GET", path)).text
    assert [source["webhook"] for source in (await hooked.admin("GET", "/api/sources")).json()["sources"]] == [
        "segment"
    ]
    kinds = (await hooked.admin("GET", "/api/webhook-kinds")).json()["kinds"]
    assert [kind["kind"] for kind in kinds] == ["custom", "segment", "commercetools"]


async def test_a_webhook_outlives_its_store(tmp_path: Path) -> None:
    """It is there after a restart, and goes with its source."""
    store = await ControlStore.open(tmp_path / "control.db")
    source = await store.create_source("shop", None)
    await store.set_webhook(source.id, WebhookConfig("segment", {"secret": "s"}))
    await store.close()
    store = await ControlStore.open(tmp_path / "control.db")
    assert (await store.source(source.id)).webhook == WebhookConfig("segment", {"secret": "s"})
    await store.delete_source(source.id)
    again = await store.create_source("shop", None)
    assert again.webhook is None
    await store.close()


async def test_the_command_line(hooked: Hooked, tmp_path: Path) -> None:
    """set, show, try, remove: `try` shows the events and stores nothing."""
    (tmp_path / "mapping.json").write_text(json.dumps(ORDER))
    (tmp_path / "payload.json").write_text('{"customer": 7}')
    set_ = await hooked.cli("sources", "webhook", "set", "shop", "custom", "--mapping", str(tmp_path / "mapping.json"))
    assert (set_.code, set_.out) == (0, f"shop takes custom webhooks at {hooked.url}/webhooks/{hooked.source.id}\n")
    tried = await hooked.cli("sources", "webhook", "try", "shop", "--file", str(tmp_path / "payload.json"), "--json")
    assert tried.rows == [{"type": "track", "event": "Order Placed", "userId": 7, "properties": {}}]
    shown = await hooked.cli("sources", "webhook", "show", "shop", "--json")
    assert shown.rows[0]["settings"]["mapping"] == ORDER  # type: ignore[attr-defined]
    set_ = await hooked.cli("sources", "webhook", "set", "shop", "custom", "--mapping", str(tmp_path / "mapping.json"),
                            "--set", "unwrap=true", "--set", "signature.secret=hush", "--set", "signature.header=X-Sig")  # fmt: skip
    assert "signature" in set_.err
    shown = await hooked.cli("sources", "webhook", "show", "shop")
    assert "hush" not in shown.out
    (tmp_path / "f.py").write_text("def on_request(request, settings):\n    return None\n")
    assert (
        await hooked.cli("sources", "webhook", "set", "shop", "custom", "--function", str(tmp_path / "f.py"))
    ).code == 0
    assert (await hooked.cli("sources", "webhook", "remove", "shop")).code == 0
    assert (await hooked.cli("sources", "webhook", "show", "shop")).code == 1
    assert (await hooked.cli("sources", "webhook", "set", "shop", "custom", "--mapping", "/nowhere")).code != 0
    assert hooked.replica.door.counts.events == 0
