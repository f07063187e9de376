"""Pages that come back, tabs beside each other, and what pages that are gone have left in storage."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from tests.browser.chromium import Page, Visitor
from tests.browser.conftest import KEY, Html
from tests.browser.recorder import Recorder

PREFIX = f"sdo_queue.{KEY}."
QUIET = "{apiHost: '%s', lingerMs: 60000}"
OFFLINE = "Object.defineProperty(navigator, 'onLine', {value: false, configurable: true});"
SHOWN = "<script>addEventListener('pageshow', (shown) => { window.cameBack = shown.persisted; });</script>"
STORED = "Object.keys(localStorage).filter((key) => key.startsWith('sdo_'))"
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


def stored(name: str, at: float, *events: tuple[int, float, str], padding: int = 0) -> str:
    """A script that leaves a queue as another page would: attempts, time of making in ms, the event's name."""
    found = [
        [attempts, born, {
            "type": "track", "event": event, "messageId": event, "anonymousId": "a", "timestamp": "2020-01-01T00:00:00Z",
            "properties": {"text": "x" * padding}, "context": {}, "integrations": {},
        }]
        for attempts, born, event in events
    ]  # fmt: skip
    return f"localStorage.setItem('{PREFIX}{name}', {json.dumps(json.dumps({'at': at, 'events': found}, separators=(',', ':')))});"


def now_ms() -> float:
    return time.time() * 1000


def sent(platform: Recorder) -> list[str]:
    """Names of the events of all requests; one that came twice is there twice."""
    return [event["event"] for request in platform.requests for event in request.events]


def come_back(page: Page) -> None:
    """Back from the browser's cache, not from the network."""
    page.back()
    page.until("window.cameBack === true")


def test_a_page_comes_back(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """What it had left is the next page's; then it goes on, and sends nothing of that again."""
    address = html(QUIET % platform.url, head=SHOWN)
    html(path="/next")
    page = visitor.page(address)
    page.evaluate(OFFLINE + "analytics.track('left'); null")
    page.goto(address + "next")
    platform.wait_events(1)
    come_back(page)
    page.evaluate("delete navigator.onLine; analytics.track('after')")
    assert page.evaluate("analytics.flush()") is True
    assert sent(platform) == ["left", "after"]
    assert page.evaluate(STORED) == []


def test_a_page_comes_back_before_anybody_took_over(
    visitor: Visitor, platform: Recorder, site: Recorder, html: Html
) -> None:
    """Then what it had is still its own; where storage refuses, memory has it."""
    address = html(QUIET % platform.url, head=SHOWN)
    site.serve("/elsewhere", "<title>No SDK here</title>")
    for breaks in ("", "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"):
        platform.requests.clear()
        page = visitor.page(address)
        page.evaluate(OFFLINE + breaks + "analytics.track('mine'); null")
        page.goto(address + "elsewhere")
        come_back(page)
        page.evaluate("delete navigator.onLine")
        assert page.evaluate("analytics.flush()") is True
        assert sent(platform) == ["mine"]
        page.close()


def test_events_made_while_the_page_goes(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """The page's own last words, said after ours, do not wait for company either."""
    address = html(QUIET % platform.url)
    site.serve("/elsewhere", "<title>No SDK here</title>")
    page = visitor.page(address)
    page.evaluate("addEventListener('pagehide', () => analytics.track('last words')); null")
    page.goto(address + "elsewhere")
    assert [event["event"] for event in platform.wait_events(1)] == ["last words"]


def test_an_open_tab_takes_over_what_a_closed_one_left(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """At once, hearing of it by storage."""
    html(QUIET % platform.url)
    closing = visitor.page(html(QUIET % platform.url, path="/closing"))
    staying = visitor.page(html(QUIET % platform.url, path="/staying"))
    closing.evaluate(OFFLINE + "analytics.track('a'); analytics.track('b'); null")
    closing.close()
    assert [event["event"] for event in platform.wait_events(2)] == ["a", "b"]
    assert staying.evaluate("analytics.flush()") is True
    assert staying.evaluate(STORED) == []


def test_two_tabs_at_once(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Tabs that send beside each other, and reload meanwhile, lose nothing and send nothing twice."""
    first, second = (visitor.page(html(path=path)) for path in ("/first", "/second"))
    for round_ in range(5):
        for page, name in ((first, "first"), (second, "second")):
            page.evaluate(f"for (let n = 0; n < 8; n++) analytics.track('{name} {round_} ' + n); null")
        first.evaluate("analytics.flush()")
    second.evaluate("analytics.flush()")
    platform.wait_events(80)
    assert sorted(sent(platform)) == sorted(
        f"{name} {round_} {n}" for name in ("first", "second") for round_ in range(5) for n in range(8)
    )


def test_a_living_page_keeps_its_lease(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A page that waits long writes again each minute; a clock set back makes nobody immortal."""
    spy = "<script>window.every = []; setInterval = (action, ms) => { every.push([action, ms]); };</script>"
    page = visitor.page(html(QUIET % platform.url, head=spy))
    page.evaluate(OFFLINE + "analytics.track('waits'); null")
    at = f"JSON.parse(localStorage.getItem({STORED}[0])).at"
    before = page.evaluate(at)
    assert page.evaluate("every.map(([, ms]) => ms)") == [MINUTE_MS]
    page.until(f"Date.now() > {before}")
    page.evaluate("every[0][0]()")
    assert page.evaluate(at) > before


def test_leases_and_ages(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Taken over: pages that left, were silent for five minutes, or come from the future. Let go: sent, and too old."""
    now = now_ms()
    page = visitor.page(site.serve("/empty", "<title>Empty</title>"))
    page.evaluate(
        stored("left", 0, (0, now, "left"), (1, now - 2 * DAY_MS, "sent"))
        + stored("dead", now - 6 * MINUTE_MS, (0, now, "dead"))
        + stored("alive", now - 4 * MINUTE_MS, (0, now, "alive"))
        + stored("future", now + DAY_MS, (0, now, "future"))
        + stored("old", 0, (1, now - 4 * DAY_MS, "sent long ago"), (0, now - 40 * DAY_MS, "never sent"))
        + "null"
    )
    page.goto(html())
    platform.wait_events(5)
    assert page.evaluate("analytics.flush()") is True
    assert sorted(sent(platform)) == ["dead", "future", "left", "never sent", "sent"]
    assert page.evaluate(STORED) == [PREFIX + "alive"]
    retries = {event["event"]: request.retry for request in platform.requests for event in request.events}
    assert (retries["left"], retries["sent"]) == (None, "1")


def test_what_there_is_no_room_for_waits(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Pages before that left more than one queue holds lose nothing: the rest follows."""
    now = now_ms()
    page = visitor.page(site.serve("/empty", "<title>Empty</title>"))
    for name in "abc":
        page.evaluate(stored(name, 0, *((0, now, f"{name}{n}") for n in range(300))) + "null")
    page.goto(html())
    platform.wait_events(900)
    page.until(f"{STORED}.length === 0")
    assert len(sent(platform)) == 900


def test_rubbish_in_storage(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Whatever is under our keys, or under analytics.js's, the page loads and sends."""
    page = visitor.page(site.serve("/empty", "<title>Empty</title>"))
    rubbish: list[Any] = [
        None,
        7,
        "x",
        [],
        {},
        {"at": 0, "events": 1},
        {"at": 0, "events": [None, 1, [], [1, 2], [0, 0, {}]]},
    ]
    for number, each in enumerate(rubbish):
        page.evaluate(f"localStorage.setItem('{PREFIX}{number}', {json.dumps(json.dumps(each))})")
    page.evaluate(f"""
        localStorage.setItem("{PREFIX}cut", '{{"at":0,"events":[[0,');
        for (const name of ["ajs_user_id", "ajs_user_traits", "ajs_anonymous_id", "ajs_group_id", "ajs_group_properties"]) {{
            localStorage.setItem(name, "{{{{");
        }}
    """)
    page.goto(html())
    page.evaluate("analytics.identify({a: 1}); analytics.flush()")
    assert platform.wait_events(1)[0]["traits"] == {"a": 1}
    assert page.evaluate(STORED) == []


def test_the_page_and_its_request_part(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """An answer that comes while the page is away in the cache, or never: the events arrive, under one messageId each."""
    answer = threading.Event()
    platform.answers.append(answer)
    address = html(QUIET % platform.url, head=SHOWN)
    html(path="/next")
    page = visitor.page(address)
    page.evaluate("analytics.track('under way'); analytics.flush(); null")
    platform.wait_requests(1)
    page.goto(address + "next")
    page.back()
    answer.set()
    page.until("window.cameBack !== undefined")
    page.evaluate("analytics.track('after')")
    page.until("analytics.flush()")
    assert {event["event"] for event in platform.wait_events(2)} == {"under way", "after"}
