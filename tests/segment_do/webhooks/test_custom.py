"""Webhooks that their user describes, by mapping and by function, and the settings of all kinds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from segment_do.errors import InvalidRequest, MalformedBody, Unauthorized
from segment_do.functions import Functions
from segment_do.webhooks import Call, Hook, Made, Unmapped, WebhookConfig, make_hook, masked, validated

ORDER = {
    "type": "track",
    "event": "Order Placed",
    "userId": {"@path": "$.customer"},
    "properties": {"total": {"@path": "$.total"}},
}


@pytest.fixture
async def functions() -> AsyncIterator[Functions]:
    """Workers, ended afterwards."""
    running = Functions(seconds=2.0)
    yield running
    await running.close()


def hook(functions: Functions, **settings: Any) -> Hook:
    return make_hook(validated("custom", settings), functions)


async def take(made: Hook, payload: Any, **headers: str) -> Made:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return await made.take(Call("src_1", body, {name.replace("_", "-"): value for name, value in headers.items()}, {}))


def told(made: Made) -> list[Any]:
    return [one.error.code if isinstance(one, Unmapped) else json.loads(one) for one in made.events]


async def test_a_mapping_makes_an_event(functions: Functions) -> None:
    """Of any JSON."""
    made = await take(hook(functions, mapping=ORDER), {"customer": 7, "total": 42})
    assert told(made) == [{"type": "track", "event": "Order Placed", "userId": 7, "properties": {"total": 42}}]


async def test_several_mappings_make_several_events_and_an_empty_type_makes_none(functions: Functions) -> None:
    """A condition on the type is how a mapping says that it does not apply."""
    paid = {**ORDER, "type": {"@if": {"exists": {"@path": "$.total"}, "then": "track"}}}
    person = {"type": "identify", "userId": {"@path": "$.customer"}}
    both = hook(functions, mapping=[paid, person])
    assert [event["type"] for event in told(await take(both, {"customer": 7, "total": 42}))] == ["track", "identify"]
    made = await take(both, {"customer": 7})
    assert ([event["type"] for event in told(made)], made.ignored) == (["identify"], 1)


async def test_each_item_of_a_list_makes_an_event(functions: Functions) -> None:
    """`each` says where the list is; a call without it is set aside."""
    each = hook(functions, mapping={**ORDER, "userId": {"@path": "$.c"}}, each="$.orders")
    made = await take(each, {"orders": [{"c": 1, "total": 5}, {"c": 2, "total": 6}]})
    assert [event["userId"] for event in told(made)] == [1, 2]
    assert told(await take(each, {"order": 1})) == ["mapping_failed"]


async def test_an_item_that_cannot_be_mapped_costs_no_other(functions: Functions) -> None:
    """Set aside with its own payload."""
    mapping = {**ORDER, "event": {"@path": {"@path": "$.where"}}}
    each = hook(functions, mapping=mapping, each="$")
    made = await take(each, [{"where": "customer", "customer": "x"}, {"where": 7}])
    assert told(made)[0]["event"] == "x"
    assert told(made)[1] == "mapping_failed"
    assert isinstance(made.events[1], Unmapped)
    assert json.loads(made.events[1].payload) == {"where": 7}


async def test_a_delivery_with_a_name_makes_the_same_ids_each_time(functions: Functions) -> None:
    """By the sender's header or the bus's wrapper; without a name the platform makes a new id for each call."""
    plain = hook(functions, mapping=[ORDER, ORDER])
    first, again = [told(await take(plain, {"customer": 1}, idempotency_key="k1")) for _ in range(2)]
    assert first == again
    assert len({event["messageId"] for event in first}) == 2
    assert told(await take(plain, {"customer": 1}, idempotency_key="k2")) != first
    assert "messageId" not in told(await take(plain, {"customer": 1}))[0]
    own = hook(functions, mapping={**ORDER, "messageId": {"@path": "$.id"}})
    assert told(await take(own, {"id": "m1"}, idempotency_key="k1"))[0]["messageId"] == "m1"
    wrapped = hook(functions, mapping=ORDER, unwrap=True)
    records = {"Records": [{"messageId": "d1", "body": json.dumps({"customer": 1})}]}
    assert told(await take(wrapped, records)) == told(await take(wrapped, records))


async def test_a_function_makes_events(functions: Functions) -> None:
    """It gets body, headers, query and its settings; returns an event, a list of them, or nothing."""
    code = """
def on_request(request, settings):
    body = request["body"]
    if body.get("test"):
        return None
    kind = request["headers"]["x-topic"] + settings["suffix"]
    return [{"type": "track", "event": kind, "userId": str(body["id"])}, {"type": "identify", "userId": str(body["id"])}]
"""
    made = hook(functions, function=code, function_settings={"suffix": "!"})
    events = told(await take(made, {"id": 7}, x_topic="created"))
    assert [event.get("event") for event in events] == ["created!", None]
    assert await take(made, {"test": True}) == Made([], 1, {})


async def test_the_functions_of_the_documentation_run(functions: Functions) -> None:
    """The example of docs/webhooks.md, and each module that the page says there is."""
    text = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made = hook(functions, function=example)
    assert told(await take(made, {"status": "paid", "customer": 7, "total": 42}))[0]["properties"] == {"revenue": 42}
    assert (await take(made, {"status": "open"})).ignored == 1
    code = """
import datetime, json, math, re
class Order:
    def __init__(self, body):
        self.total = body["total"]
def on_request(request, settings):
    order = Order(request["body"])
    name = re.sub("x+", "y", "axxb")
    when = datetime.datetime(2026, 1, 1).isoformat()
    return {"type": "track", "event": f"{name} {math.floor(order.total)} {json.loads('[1]')[0]} {when}", "userId": "u"}
"""
    events = told(await take(hook(functions, function=code), {"total": 1.5}))
    assert events[0]["event"] == "ayb 1 1 2026-01-01T00:00:00"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("raise ValueError('no')", ["function_failed"]),
        ("return {'type': 'track', 'x': {1, 2}, 'event': float('nan')}", None),
        ("return [{'type': 'track'}] * 3000", ["too_many_events"]),
        ("return 7", None),
    ],
)
async def test_a_function_that_goes_wrong_is_told(functions: Functions, body: str, codes: list[str] | None) -> None:
    """Set aside with the payload, or made into something that the intake then judges; never raised."""
    made = await take(hook(functions, function=f"def on_request(request, settings):\n    {body}"), {"id": 7})
    if codes is not None:
        assert told(made) == codes
        assert isinstance(made.events[0], Unmapped)
        assert json.loads(made.events[0].payload) == {"id": 7}
    assert len(made.events) == 1


async def test_what_is_no_json_is_refused(functions: Functions) -> None:
    """Whole."""
    with pytest.raises(MalformedBody):
        await take(hook(functions, mapping=ORDER), b"{")


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ({"header": "X-Hub-Signature-256", "prefix": "sha256="}, lambda digest: f"sha256={digest('sha256').hex()}"),
        ({"header": "X-Sig", "algorithm": "sha1"}, lambda digest: digest("sha1").hex()),
        ({"header": "X-Sig", "encoding": "base64"}, lambda digest: base64.b64encode(digest("sha256")).decode()),
    ],
    ids=["github", "sha1", "shopify"],
)
def test_signatures_of_other_senders(functions: Functions, signature: dict[str, str], value: Any) -> None:
    """The body's HMAC, as each writes it."""
    made = hook(functions, mapping=ORDER, signature={"secret": "s", **signature})
    body = b'{"a": 1}'
    good = value(lambda algorithm: hmac.new(b"s", body, getattr(hashlib, algorithm)).digest())
    assert made.signed
    made.verify(Call("src_1", body, {signature["header"].lower(): good}, {}))
    for headers in ({}, {signature["header"].lower(): good[:-1]}):
        with pytest.raises(Unauthorized):
            made.verify(Call("src_1", body, headers, {}))


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("nope", {}, "no kind of webhook"),
        ("custom", {}, "either a mapping or a function"),
        ("custom", {"mapping": ORDER, "function": "x"}, "either a mapping or a function"),
        ("custom", {"mapping": {"@nope": 1}}, "no directive @nope"),
        ("custom", {"mapping": []}, "1 to 100 mappings"),
        ("custom", {"function": "def f(): pass"}, "does not define the function on_request"),
        ("custom", {"mapping": ORDER, "colour": 1}, "unknown field"),
        ("custom", {"mapping": ORDER, "signature": {"secret": "hush"}}, "header"),
        ("custom", {"mapping": {"a": "x" * 300_000}}, "at most"),
        ("segment", {"secret": 7}, "Expected"),
        ("commercetools", {"address_email_is_user": "hush"}, "Expected `bool`"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(kind: str, settings: dict[str, Any], said: str) -> None:
    """With the setting's name, and never its value."""
    with pytest.raises(InvalidRequest) as caught:
        validated(kind, settings)
    assert said in caught.value.message
    assert "hush" not in str(caught.value)


def test_secrets_are_masked() -> None:
    """Everywhere that settings are shown, and in logs."""
    config = validated(
        "custom", {"mapping": ORDER, "signature": {"secret": "hush", "header": "X"}, "function_settings": {"k": "hush"}}
    )
    assert "hush" not in json.dumps(masked(config))
    assert masked(config)["signature"]["header"] == "X"
    assert "hush" not in repr(config)
    assert masked(validated("segment", {"secret": "hush"})) == {"secret": "********"}
    assert WebhookConfig("segment", {}) == validated("segment", {})
