"""Browsers that refuse: no storage, no room, no keepalive; and a platform that refuses for ever, or points elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.browser.chromium import Visitor
from tests.browser.conftest import KEY, Html
from tests.browser.recorder import CUT, Recorder

HIDE = """
    Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
"""
SHOW = "delete document.visibilityState;"
FULL = """
    let size = 1 << 22;
    for (let n = 0; size > 0; n++) {
        try { localStorage.setItem("theirs" + n, "x".repeat(size)); } catch { size >>= 1; }
    }
"""


def test_full_storage(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """With not a byte free, ids are in cookies, traits in memory, and events are sent all the same."""
    page = visitor.page(site.serve("/empty", "<title>Empty</title>"))
    page.evaluate(FULL)
    page.goto(html())
    page.evaluate("""
        analytics.identify("u1", {plan: "pro"}); analytics.identify({size: 3}); analytics.track("a");
        analytics.flush();
    """)
    events = platform.wait_events(3)
    assert {event["userId"] for event in events} == {"u1"}
    assert events[1]["traits"] == {"plan": "pro", "size": 3}
    assert len({event["anonymousId"] for event in events}) == 1
    page.reload()
    page.evaluate("analytics.track('b'); analytics.flush()")
    later = platform.wait_events(4)[3]
    assert (later["userId"], later["anonymousId"]) == ("u1", events[0]["anonymousId"])


def test_blocked_storage(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """In a sandboxed frame, where cookies and storage throw: one visitor for as long as the page, and nothing breaks."""
    html(f"{{apiHost: '{platform.url}', lingerMs: 0}}", path="/inner", body="""<script>
        analytics.identify("u1", {plan: "pro"}); analytics.track("a"); analytics.group("acme"); analytics.reset(); analytics.track("b");
        try { document.cookie; localStorage; } catch (error) { analytics.track(error.name); }
    </script>""")  # fmt: skip
    visitor.page(site.serve("/", '<iframe sandbox="allow-scripts" src="/inner"></iframe>'))
    identify, first, _group, second, error = platform.wait_events(5)
    assert error["event"] == "SecurityError"
    assert (identify["userId"], first["userId"]) == ("u1", "u1")
    assert "userId" not in second
    assert first["anonymousId"] == identify["anonymousId"] != second["anonymousId"]


def test_a_page_without_a_host_needs_one(visitor: Visitor, platform: Recorder, tmp_path: Path) -> None:
    """A page from a file that says nowhere where to send: nothing is sent, and that is told."""
    (
        tmp_path / "page.html"
    ).write_text(f"""<!doctype html><script src="{platform.url}/analytics.min.js"></script><script>
        analytics.on("error", ({{reason}}) => {{ window.told = reason; }});
        analytics.load("{KEY}").track("nowhere");
    </script>""")
    page = visitor.page((tmp_path / "page.html").as_uri())
    assert page.evaluate("told") == "Error: load() needs apiHost: this page has no host of its own"


def test_a_hundred_attempts(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Then the event is let go, which is told, and the next one goes on."""
    platform.answers.extend([(503, {})] * 100)
    page = visitor.page(html(head="<script>Math.random = () => 0; /* no waiting */</script>"))
    page.evaluate("""
        window.told = [];
        for (const name of ["delivery_retry", "delivery_failure", "delivery_success"]) analytics.on(name, () => told.push(name));
        analytics.track("refused"); analytics.flush(); null
    """)
    page.until("told.length === 100")
    assert page.evaluate("[told[98], told[99]]") == ["delivery_retry", "delivery_failure"]
    assert [request.retry for request in platform.requests] == [None, *(str(n) for n in range(1, 100))]
    page.evaluate("analytics.track('next')")
    page.until("told.length === 101")
    assert [event["event"] for event in platform.requests[100].events] == ["next"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    visitor: Visitor, platform: Recorder, site: Recorder, html: Html, status: int
) -> None:
    """To no other host, not even when the platform says so; and an event is not lost as a GET."""
    platform.answers.append((status, {"Location": site.url + "/v1/b"}))
    page = visitor.page(html())
    page.evaluate("analytics.track('a'); analytics.flush()")
    assert [request.retry for request in platform.wait_requests(2)] == [None, "1"]
    page.until("analytics.flush()")
    assert (site.requests, len(platform.requests)) == ([], 2)


@pytest.mark.parametrize("status", [429, 503])
def test_the_network_does_not_cut_a_wish_short(visitor: Visitor, platform: Recorder, html: Html, status: int) -> None:
    """Retry-After counts for 429 and 503 alike, also when the network comes and goes meanwhile."""
    platform.answers.append((status, {"Retry-After": "1"}))
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 0}}"))
    waited = page.evaluate("""(async () => {
        let asked;
        const heard = new Promise((done) => analytics.on("delivery_retry", () => { asked = performance.now(); done(); }));
        analytics.track("a");
        await heard;
        dispatchEvent(new Event("online"));
        return await new Promise((done) => analytics.on("delivery_success", () => done(performance.now() - asked)));
    })()""")
    assert waited >= 1000


def test_the_network_is_back(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A platform that could not be reached is asked again at once."""
    platform.answers.append(CUT)
    page = visitor.page(html(head="<script>Math.random = () => 0.999999; const later = setTimeout;"
        "setTimeout = (action, ms) => later(action, ms > 100 ? 1e8 : ms);</script>"))  # fmt: skip
    page.evaluate("""
        analytics.on("delivery_retry", () => later(() => dispatchEvent(new Event("online")), 0));
        analytics.track("a"); analytics.flush();
    """)
    assert [request.retry for request in platform.wait_requests(2)] == [None, "1"]


def test_more_under_way_than_may_outlive_the_page(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A page that lives on is not held up by the 64 KB, and takes no refusal for a failure."""
    answer = threading.Event()
    platform.answers.append(answer)
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}"))
    page.evaluate("window.told = []; analytics.on('delivery_retry', ({reason}) => told.push(reason)); null")
    page.evaluate(
        "for (let n = 0; n < 9; n++) analytics.track('E', {n, text: 'x'.repeat(6000)});" + HIDE + SHOW + "null"
    )
    platform.wait_requests(1)
    page.evaluate(
        "for (let n = 9; n < 12; n++) analytics.track('E', {n, text: 'x'.repeat(6000)}); analytics.flush(); null"
    )
    platform.wait_events(12)
    answer.set()
    assert page.evaluate("analytics.flush()") is True
    assert page.evaluate("told") == []
    assert sum(len(request.events) for request in platform.requests) == 12


@pytest.mark.parametrize("delivery", ["batch", "single"])
def test_many_small_events_when_a_page_closes(visitor: Visitor, platform: Recorder, html: Html, delivery: str) -> None:
    """Envelopes count too: what does not fit is not tried, and follows with the next page."""
    address = html(f"{{apiHost: '{platform.url}', delivery: '{delivery}', lingerMs: 60000, batchEvents: 100}}")
    page = visitor.page(address)
    page.evaluate("for (let n = 0; n < 99; n++) analytics.track('E', {n}); null")
    page.goto(address + "?next")
    page.evaluate("analytics.flush()")
    assert sorted(event["properties"]["n"] for event in platform.wait_events(99)) == list(range(99))


def test_an_older_browser_sends_a_beacon(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Without keepalive, what is left goes as one beacon; nobody hears its answer, so the event goes again, told as such."""
    old = "<script>delete Request.prototype.keepalive;</script>"
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}", head=old))
    page.evaluate("analytics.track('a');" + HIDE + "null")
    (beacon,) = platform.wait_requests(1)
    assert beacon.headers["content-type"].startswith("text/plain")
    assert beacon.retry is None
    again = platform.wait_requests(2)[1]
    assert again.retry == "1"
    assert again.message_ids == beacon.message_ids
    page.until("analytics.flush()")
    assert len(platform.requests) == 2


def test_a_large_single_event(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """An event just below 32 KB goes as a batch: alone, its envelope would count as part of it."""
    page = visitor.page(html(f"{{apiHost: '{platform.url}', delivery: 'single'}}"))
    page.evaluate("""(async () => {
        const {event} = await analytics.track("small", {text: ""});
        const room = 32768 - new TextEncoder().encode(JSON.stringify(event)).length;
        analytics.track("large", {text: "x".repeat(room - 20)});
        analytics.flush();
    })()""")
    platform.wait_events(2)
    assert [request.path for request in platform.requests] == ["/v1/t", "/v1/b"]
    assert platform.requests[1].bytes > 32_700
