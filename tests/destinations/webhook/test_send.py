"""Webhook requests as a receiver gets them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from destinations.base import Outcome, Request, WholeEvent
from destinations.http import Http
from destinations.registry import validate
from destinations.webhook.send import WebhookSender
from segment_do.settings import DeliverySettings
from segment_do.version import __version__
from tests.destinations.receiver import Answer, Receiver

FIRST = WholeEvent("m-1", b'{"messageId":"m-1","properties":{"total":1.0,"name":"\xc3\xa9\\u00e9"}}')
SECOND = WholeEvent("m-2", b'{"messageId":"m-2"}')


async def unused(request: Request) -> Outcome:
    raise AssertionError


def sender(**settings: Any) -> WebhookSender:
    return WebhookSender(validate("webhook", {"url": "https://example.com/", **settings}), unused)


def headers(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers}


def signature(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, hashlib.sha1).hexdigest()


async def test_single_event_over_the_wire() -> None:
    """Body, signature over the raw bytes, and headers, as they arrive."""
    http = Http(DeliverySettings())
    async with Receiver(lambda got: Answer(202)) as receiver:
        settings = {"url": receiver.url, "secret": "s3cret", "method": "PUT", "headers": {"Authorization": "Bearer x"}}
        sent = WebhookSender(validate("webhook", settings), http)
        assert [outcome.status for outcome in await sent.send([FIRST])] == [202]
    await http.close()
    (got,) = receiver.got
    assert got.method == "PUT"
    assert got.body == FIRST.body
    assert got.headers["x-signature"] == signature("s3cret", got.body)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == f"segment_do/{__version__}"
    assert got.headers["idempotency-key"] == "m-1"
    assert got.headers["authorization"] == "Bearer x"


async def test_batch_over_the_wire() -> None:
    """An array; the signature is over the first element's exact bytes; the answer holds for all."""
    http = Http(DeliverySettings())
    async with Receiver() as receiver:
        sent = WebhookSender(validate("webhook", {"url": receiver.url, "secret": "s3cret", "batch_size": 10}), http)
        assert [outcome.status for outcome in await sent.send([FIRST, SECOND])] == [200, 200]
    await http.close()
    (got,) = receiver.got
    assert got.body == b"[" + FIRST.body + b"," + SECOND.body + b"]"
    first = got.body[1 : 1 + len(FIRST.body)]
    assert got.headers["x-signature"] == signature("s3cret", first)


def test_known_signature() -> None:
    """RFC 2202's third kind of vector: HMAC-SHA1 with key `Jefe`."""
    request = sender(secret="Jefe").request([WholeEvent("m", b"what do ya want for nothing?")])
    assert headers(request)["x-signature"] == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"


def test_no_signature_without_a_secret() -> None:
    """No secret, no header: an empty one would look like a signature."""
    assert "x-signature" not in headers(sender().request([FIRST]))
    assert "x-signature" not in headers(sender(secret="").request([FIRST]))


def test_batch_of_one_is_an_array() -> None:
    """A receiver that asked for batches always gets an array."""
    assert sender(batch_size=2).request([FIRST]).body == b"[" + FIRST.body + b"]"


def test_idempotency_key_depends_on_ids_alone() -> None:
    """The same ids in the same order have the same key, whatever the bodies; other ids have another."""
    batches = sender(batch_size=5)

    def key(*ids: str) -> str:
        return headers(batches.request([WholeEvent(name, name.upper().encode()) for name in ids]))["idempotency-key"]

    assert key("a", "b") == key("a", "b")
    assert len({key("a", "b"), key("b", "a"), key("ab"), key("a"), key("a,b"), key("1:a", "b")}) == 6


@pytest.mark.parametrize("name", ["", " m", "m ", "é", "a\r\nX-Signature: forged", "\ud83d", "a\x00b"])
def test_message_ids_that_no_header_can_hold(name: str) -> None:
    """Any text is a lawful message id; where a header cannot hold it, its hash goes instead, always the same."""
    found = {headers(sender().request([WholeEvent(name, b"{}")]))["idempotency-key"] for _ in range(2)}
    (key,) = found
    assert len(key) == 64
    assert key.isalnum()


def test_own_headers_win_over_defaults() -> None:
    """A configured Content-Type or User-Agent replaces the default, in any case, and is not sent twice."""
    request = sender(headers={"content-type": "application/x-ndjson", "USER-AGENT": "mine"}).request([FIRST])
    names = [name.lower() for name, _ in request.headers]
    assert len(names) == len(set(names))
    assert headers(request)["content-type"] == "application/x-ndjson"
    assert headers(request)["user-agent"] == "mine"
