"""Pages that go away: nothing is lost, and the next page sends what was not acknowledged."""

from __future__ import annotations

import threading

from tests.browser.chromium import Visitor
from tests.browser.conftest import Html
from tests.browser.recorder import LOST, Recorder


def test_a_page_closed_mid_batch(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Events that waited for company leave with the page, at once, in a request below 64 KB."""
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}"))
    page.evaluate("for (let n = 0; n < 7; n++) analytics.track('E', {n, text: 'x'.repeat(5000)}); null")
    assert platform.requests == []
    page.close()
    assert [event["properties"]["n"] for event in platform.wait_events(7)] == list(range(7))
    assert all(request.bytes < 64_000 for request in platform.requests)


def test_more_than_a_page_may_send_when_it_closes(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """What is over the browser's 64 KB waits in storage, and leaves with the next page."""
    address = html(f"{{apiHost: '{platform.url}', lingerMs: 60000, batchEvents: 100}}")
    page = visitor.page(address)
    page.evaluate("for (let n = 0; n < 40; n++) analytics.track('E', {n, text: 'x'.repeat(5000)}); null")
    page.goto(address + "?next")
    page.evaluate("analytics.flush()")
    assert sorted(event["properties"]["n"] for event in platform.wait_events(40)) == list(range(40))
    assert all(request.bytes < 64_000 for request in platform.requests)


def test_a_request_under_way_when_the_page_goes(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Events whose answer nobody heard are sent again, with the same messageIds and an honest retry count."""
    platform.answers.append(LOST)
    address = html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}")
    page = visitor.page(address)
    page.evaluate("analytics.track('unheard'); null")
    page.goto(address + "?next")
    (request,) = platform.wait_requests(1)
    assert (request.retry, [event["event"] for event in request.events]) == ("1", ["unheard"])


def test_the_offline_queue_survives_a_reload(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """What was tracked offline is sent by the next page that is online, once, in order."""
    page = visitor.page(html())
    page.evaluate("Object.defineProperty(navigator, 'onLine', {value: false})")
    page.evaluate("analytics.track('a'); analytics.track('b'); analytics.flush()")
    assert platform.requests == []
    page.reload()
    page.evaluate("analytics.track('c'); analytics.flush()")
    assert [event["event"] for event in platform.wait_events(3)] == ["a", "b", "c"]
    page.until("analytics.flush()")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('sdo_'))") == []


def test_another_tab_is_left_alone(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A new page takes over what a closed one left, never what an open one still has."""
    load = f"{{apiHost: '{platform.url}', lingerMs: 60000}}"
    first = visitor.page(html(load))
    first.evaluate("analytics.track('first'); null")
    second = visitor.page(html(load, path="/second"))
    second.evaluate("analytics.track('second'); analytics.flush()")
    first.evaluate("analytics.flush()")
    platform.wait_events(2)
    sent = [event["event"] for request in platform.requests for event in request.events]
    assert sorted(sent) == ["first", "second"]


def test_a_hidden_page_sends(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Hidden is perhaps the last that a page hears; it goes on afterwards as if nothing was."""
    answer = threading.Event()
    platform.answers.append(answer)
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}"))
    page.evaluate("""
        analytics.track("before");
        Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
        null
    """)
    platform.wait_requests(1)
    answer.set()
    page.evaluate("analytics.track('after'); analytics.flush()")
    assert [event["event"] for request in platform.wait_requests(2) for event in request.events] == ["before", "after"]
