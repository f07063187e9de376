"""The client, against a real server: calls, waiting, queues, handles."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from segment_do import Analytics, Busy, ClientClosed, InvalidEvent, InvalidRequest, NotDelivered, SettingsError
from segment_do.sdk.options import OptionKeywords, Options, Timing
from tests.segment_do.sdk.platform import TOKEN, FakeTime, Platform

Make = Callable[..., Analytics]


@pytest.fixture
def tom(platform: Platform) -> Any:
    handle = Analytics.for_("tom", host=platform.url, token=TOKEN)
    yield handle
    handle.close(2).wait()


async def test_the_six_calls_and_batch_arrive_as_the_spec_has_them(platform: Platform, client: Analytics) -> None:
    """Each with its own fields, in the order of the calls, authenticated by the write key."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    client.track("Signed Up", {"plan": "pro"}, user_id=7, timestamp=at, integrations={"All": False})
    client.identify("u", {"name": "U"}, anonymous_id="a")
    client.page("Home", {"path": "/"}, category="Docs", anonymous_id="a", context={"ip": "1.2.3.4"})
    client.screen("Main", user_id="u", message_id="mine")
    client.group("g", {"name": "G"}, user_id="u")
    client.alias("u", "a")
    batch = client.batch([{"type": "track", "event": "B", "userId": "u", "extra": 1}, {"type": "page", "userId": "u"}])
    await batch
    found = [{**event, "messageId": None, "timestamp": None} for event in platform.events]
    context = found[0]["context"]
    common = {"messageId": None, "timestamp": None, "context": context}
    assert found == [
        {"type": "track", "event": "Signed Up", "properties": {"plan": "pro"}, "userId": "7", "integrations": {"All": False}, **common},
        {"type": "identify", "userId": "u", "anonymousId": "a", "traits": {"name": "U"}, **common},
        {"type": "page", "name": "Home", "category": "Docs", "properties": {"path": "/"}, "anonymousId": "a", **common, "context": {**context, "ip": "1.2.3.4"}},
        {"type": "screen", "name": "Main", "properties": {}, "userId": "u", **common},
        {"type": "group", "groupId": "g", "traits": {"name": "G"}, "userId": "u", **common},
        {"type": "alias", "userId": "u", "previousId": "a", **common},
        {"type": "track", "event": "B", "userId": "u", "properties": {}, "extra": 1, **common},
        {"type": "page", "userId": "u", "properties": {}, **common},
    ]  # fmt: skip
    assert platform.events[0]["timestamp"] == "2026-01-02T00:00:00.000Z"
    assert platform.events[3]["messageId"] == "mine"
    assert batch.message_ids == tuple(event["messageId"] for event in platform.events[6:])
    assert {request.write_key for request in platform.requests} == {"wk"}
    assert {request.path for request in platform.requests} == {"/v1/batch"}
    assert all(request.body["sentAt"].endswith("Z") for request in platform.requests)


async def test_the_call_itself_queues(platform: Platform, client: Analytics) -> None:
    """Awaiting later only waits: the event left in the order of the calls, not of the awaits."""
    first = client.track("first", user_id="u")
    second = client.track("second", user_id="u")
    await second
    await first
    assert [event["event"] for event in platform.events] == ["first", "second"]
    assert first.done
    assert first.message_id == platform.events[0]["messageId"]


def test_without_an_event_loop(platform: Platform, client: Analytics) -> None:
    """`wait` and `flush().wait()` serve plain programs."""
    client.track("one", user_id="u").wait(5)
    client.track("two", user_id="u")
    client.flush().wait(5)
    assert [event["event"] for event in platform.events] == ["one", "two"]


def test_any_number_of_loops_and_threads_share_a_client(platform: Platform, client: Analytics) -> None:
    """Every receipt is settled where it is awaited; every event arrives once, each thread's in its order."""

    async def run(name: str) -> None:
        receipts = [client.track(name, {"n": n}, user_id="u") for n in range(50)]
        await asyncio.gather(*receipts)

    threads = [threading.Thread(target=lambda name=name: asyncio.run(run(name))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(platform.events) == len(platform.distinct()) == 200
    for name in "abcd":
        assert [event["properties"]["n"] for event in platform.events if event["event"] == name] == list(range(50))


def test_a_batch_has_at_most_a_hundred_events_and_is_compressed(platform: Platform, client: Analytics) -> None:
    """Default limits: 100 events, gzip above 1 KB, plain below."""
    client.track("small", user_id="u").wait(5)
    client.batch({"type": "track", "event": f"E{n}", "userId": "u"} for n in range(250)).wait(5)
    assert [len(request.events) for request in platform.requests] == [1, 100, 100, 50]
    small, *large = platform.requests
    assert "content-encoding" not in small.headers
    assert all(request.headers["content-encoding"] == "gzip" for request in large)
    assert all(request.sent_bytes < request.raw_bytes / 3 for request in large)


def test_bodies_stay_below_segments_limit(platform: Platform, make: Make) -> None:
    """Large events: fewer a request, never 475,000 bytes; none is lost; compression can be off."""
    client = make(gzip=False, batch_events=2_500)
    client.batch(
        {"type": "track", "event": "E", "userId": "u", "properties": {"x": "y" * 32_000}} for _ in range(40)
    ).wait(5)
    assert len(platform.events) == 40
    assert len(platform.requests) == 3
    assert all(request.raw_bytes == request.sent_bytes < 475_000 for request in platform.requests)


def test_an_invalid_call_raises_where_it_is_made(platform: Platform, client: Analytics) -> None:
    """And nothing of it is queued; a batch names the event."""
    with pytest.raises(InvalidEvent, match=r"`properties\.x\[0\]` has no JSON"):
        client.track("X", {"x": [object()]}, user_id="u")
    with pytest.raises(InvalidEvent) as caught:
        client.batch([{"type": "track", "event": "ok", "userId": "u"}, {"type": "track", "userId": "u"}])
    assert caught.value.message.startswith("Event 1: ")
    assert caught.value.code == "missing_event"
    client.flush().wait(5)
    assert platform.requests == []
    assert client.batch([]).done


def test_at_the_bound_new_events_are_dropped_and_told(
    platform: Platform, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The default: the call never blocks or raises, its receipt fails, the log tells."""
    release = threading.Event()
    platform.answers.append((release, 200, {}, {}))
    client = make(queue_events=2, linger_seconds=0)
    kept = [client.track("kept", user_id="u") for _ in range(2)]
    late = client.track("late", user_id="u")
    assert isinstance(late.error, Busy)
    release.set()
    for receipt in kept:
        receipt.wait(5)
    assert "is full; 1 events were dropped" in caplog.text
    client.track("again", user_id="u").wait(5)


def test_at_the_bound_the_call_raises_or_blocks_where_chosen(platform: Platform, make: Make) -> None:
    """`on_full` decides, client by client."""
    release = threading.Event()
    platform.answers.append((release, 200, {}, {}))
    raising = make(queue_events=1, on_full="raise", linger_seconds=0)
    first = raising.track("first", user_id="u")
    with pytest.raises(Busy):
        raising.track("second", user_id="u")
    release.set()
    first.wait(5)
    blocking = make(queue_events=1, on_full="block")
    for n in range(5):
        blocking.track(f"b{n}", user_id="u")
        blocking.flush()
    blocking.flush().wait(5)
    assert [event["event"] for event in platform.events] == ["first", "b0", "b1", "b2", "b3", "b4"]


async def test_close_delivers_and_then_takes_nothing(platform: Platform, client: Analytics) -> None:
    """What was queued arrives, what comes later raises, closing again is harmless."""
    client.track("last", user_id="u")
    await client.close()
    assert [event["event"] for event in platform.events] == ["last"]
    with pytest.raises(ClientClosed):
        client.track("late", user_id="u")
    await client.close()


def test_close_gives_up_in_time(platform: Platform, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A server that never answers costs the limit, not more; what is left is told and fails."""
    release = threading.Event()
    platform.answers.append((release, 400, {}, {}))
    told: list[tuple[str, list[str]]] = []
    client = make(linger_seconds=0, on_error=lambda error, ids: told.append((error.code, ids)))
    stuck = client.track("stuck", user_id="u")
    platform.arrived.acquire()
    queued = client.track("queued", user_id="u")
    client.close(0.05).wait(5)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "segment_do-sender":
            thread.join(5)  # a late answer is nobody's news any more
    for receipt in (stuck, queued):
        assert isinstance(receipt.error, NotDelivered)
    assert told == [("not_delivered", [stuck.message_id, queued.message_id])]
    assert "2 events were not delivered" in caplog.text


def test_with_blocks_deliver_on_leaving(platform: Platform) -> None:
    """Both kinds."""
    with Analytics("wk", host=platform.url) as client:
        client.track("one", user_id="u")

    async def run() -> None:
        async with Analytics("wk", host=platform.url) as client:
            client.track("two", user_id="u")

    asyncio.run(run())
    assert [event["event"] for event in platform.events] == ["one", "two"]


def test_secrets_are_in_no_repr_and_no_log(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    """Write keys and tokens stay where they are used."""
    caplog.set_level(logging.DEBUG)
    platform.answers.append((401, {}, {"code": "unauthorized", "message": "Unknown key."}))
    client = Analytics("very-secret-key", host=platform.url)
    handle = Analytics.for_("ann", host=platform.url, token=TOKEN)
    receipt = client.track("x", user_id="u")
    handle.track("x").wait(5)
    client.close(2).wait()
    handle.close(2).wait()
    told = f"{client!r} {handle!r} {receipt!r} {receipt.error!r} {receipt.error} {caplog.text}"
    told += repr(client._sender._source) + repr(handle._sender._source)
    told += repr(vars(handle._sender._source))
    for secret in ("very-secret-key", TOKEN, "dmVyeS1zZWNyZXQta2V5", "key-of-ann", "a2V5LW9mLWFubg"):
        assert secret not in told


# Agents' handles


@dataclass
class Agent:
    id: Any = None
    name: Any = None


class Methods:
    name = "ralph"

    def id(self) -> str:
        return "no"


def test_the_same_agent_is_the_same_handle(platform: Platform) -> None:
    """However it is named: by text, by id, by name; methods do not count."""
    place = {"host": platform.url, "token": TOKEN}
    tom = Analytics.for_("tom", **place)
    assert Analytics.for_(Agent(id="tom", name="Tom"), **place) is tom
    assert Analytics.for_(Agent(name="tom"), **place) is tom
    assert Analytics.for_("tom", host=platform.url + "/", token=TOKEN) is tom
    assert Analytics.for_(Methods(), **place).agent == "ralph"
    assert Analytics.for_(7, **place).agent == "7"
    assert Analytics.for_("tom", host=platform.url, token="another") is not tom
    for nobody in (Agent(), object(), "", True, None):
        with pytest.raises(InvalidRequest):
            Analytics.for_(nobody, **place)


async def test_a_closed_handle_is_replaced(platform: Platform) -> None:
    """`for_` never hands out what takes no events."""
    tom = Analytics.for_("tom", host=platform.url, token=TOKEN)
    await tom.close()
    again = Analytics.for_("tom", host=platform.url, token=TOKEN)
    assert again is not tom
    await again.track("X")
    await again.close()


async def test_a_handle_speaks_for_the_agent(platform: Platform, tom: Analytics) -> None:
    """Until told otherwise by an id in the call, `identify`, or `reset`."""
    tom.track("1")
    tom.track("2", user_id="u")
    tom.track("3", anonymous_id="a")
    tom.identify(traits={"model": "x"})
    tom.identify(anonymous_id="a", traits={"x": 1})
    tom.track("4")
    tom.identify("ralph@agents.do", {"role": "developer"})
    tom.track("5")
    tom.track("6", user_id="u")
    tom.group("g")
    tom.alias(previous_id="old")
    tom.batch([{"type": "track", "event": "7"}])
    tom.reset()
    await tom.track("8")
    assert [(event.get("event"), event.get("userId"), event.get("anonymousId")) for event in platform.events] == [
        ("1", "tom", None),
        ("2", "u", None),
        ("3", None, "a"),
        (None, "tom", None),
        (None, None, "a"),
        ("4", "tom", None),
        (None, "ralph@agents.do", None),
        ("5", "ralph@agents.do", None),
        ("6", "u", None),
        (None, "ralph@agents.do", None),
        (None, "ralph@agents.do", None),
        ("7", "ralph@agents.do", None),
        ("8", "tom", None),
    ]


def test_an_identify_that_is_refused_changes_nothing(platform: Platform, tom: Analytics) -> None:
    """The handle goes on speaking for whom it spoke before."""
    with pytest.raises(InvalidEvent):
        tom.identify("u", {"x": object()})
    tom.track("X").wait(5)
    assert platform.events[0]["userId"] == "tom"


def test_a_plain_client_speaks_for_nobody(platform: Platform, client: Analytics) -> None:
    """It serves many users at once: identify changes nothing for the next call."""
    client.identify("u", {"x": 1}).wait(5)
    with pytest.raises(InvalidEvent) as caught:
        client.track("X")
    assert caught.value.code == "no_user_anon_id"


def test_time_is_a_parameter(platform: Platform, make: Make, timing: Timing, fake: FakeTime) -> None:
    """timestamp, sentAt and the ids' time come from the clock that was given."""
    make(timing=timing, linger_seconds=0).track("X", user_id="u").wait(5)
    (request,) = platform.requests
    assert request.events[0]["timestamp"] == request.body["sentAt"] == "2025-06-15T15:23:20.000Z"
    assert request.message_ids[0].startswith(f"{int(fake.wall() * 1000):012x}"[:8])


@pytest.mark.parametrize(
    "wrong",
    [
        {"write_key": ""},
        {"host": "127.0.0.1:8000"},
        {"host": "http://key@127.0.0.1"},
        {"host": "http://127.0.0.1:99999"},
        {"on_full": "explode"},
        {"batch_events": 2_501},
        {"queue_bytes": 0},
        {"linger_seconds": -1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_cannot_be_used_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """Not when the first event is lost."""
    with pytest.raises(SettingsError):
        Analytics(**{"write_key": "wk", "host": "http://127.0.0.1:1", **wrong})


def test_keyword_options_are_the_options() -> None:
    """One list for programs, one for type checkers: the same."""
    assert set(OptionKeywords.__annotations__) == set(Options.__dataclass_fields__)
