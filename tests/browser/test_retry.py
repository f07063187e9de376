"""Answers that mean "again", and those that do not."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Visitor
from tests.browser.conftest import Html
from tests.browser.recorder import CUT, Recorder


@pytest.mark.parametrize("answer", [(503, {}), (429, {"Retry-After": "1"}), (408, {}), (410, {}), (460, {}), CUT])
def test_tried_again(visitor: Visitor, platform: Recorder, html: Html, answer: object) -> None:
    """The same events with the same messageIds; X-Retry-Count says how many requests went before."""
    platform.answers.extend([answer, answer])
    page = visitor.page(html())
    page.evaluate("analytics.track('a'); analytics.track('b'); analytics.flush()")
    requests = platform.wait_requests(3)
    assert [request.retry for request in requests] == [None, "1", "2"]
    assert len({tuple(request.message_ids) for request in requests}) == 1
    assert [event["event"] for event in requests[2].events] == ["a", "b"]
    page.until("!Object.keys(localStorage).some((key) => key.startsWith('sdo_'))")
    assert len(platform.requests) == 3


def test_the_servers_wish_is_granted(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Nothing is sent before the Retry-After is over, new events neither."""
    platform.answers.append((429, {"Retry-After": "1"}))
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 0}}"))
    waited = page.evaluate("""(async () => {
        let asked;
        const heard = new Promise((done) => analytics.on("delivery_retry", () => { asked = performance.now(); done(); }));
        analytics.track("a");
        await heard;
        analytics.track("b");
        return await new Promise((done) => analytics.on("delivery_success", () => done(performance.now() - asked)));
    })()""")
    assert waited >= 1000
    assert [event["event"] for event in platform.wait_events(2)] == ["a", "b"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 501, 505, 511])
def test_refused_for_good(visitor: Visitor, platform: Recorder, html: Html, status: int) -> None:
    """Sent once, told as a failure, and the next event goes on."""
    platform.answers.append((status, {}))
    page = visitor.page(html())
    told = page.evaluate("""(async () => {
        const told = [];
        analytics.on("delivery_failure", ({status}) => told.push(status));
        analytics.track("refused");
        await analytics.flush();
        analytics.track("next");
        await analytics.flush();
        return told;
    })()""")
    assert told == [status]
    assert [event["event"] for request in platform.requests for event in request.events] == ["refused", "next"]


def test_a_full_queue(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """At the bound new events are not taken, which is told; those that wait are sent when the network is back."""
    page = visitor.page(html())
    visitor.offline()
    page.until("!navigator.onLine")
    lost = page.evaluate("""(() => {
        let lost = 0;
        analytics.on("error", () => lost++);
        for (let n = 0; n < 510; n++) analytics.track("E", {n});
        return lost;
    })()""")
    assert lost == 10
    visitor.offline(False)
    page.until("analytics.flush()")
    assert [event["properties"]["n"] for event in platform.wait_events(500)] == list(range(500))
    assert all(request.bytes < 64_000 for request in platform.requests)
