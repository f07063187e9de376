"""The calls of the browser SDK, and what of them arrives at the platform."""

from __future__ import annotations

import re

from tests.browser.chromium import Visitor
from tests.browser.conftest import DIST, KEY, SCRIPT, Html
from tests.browser.recorder import Recorder

ALL_SIX = """
    analytics.page("Docs", "Start", {a: 1});
    analytics.screen("Home");
    analytics.identify("u1", {plan: "pro"});
    analytics.group("acme", {size: 3});
    analytics.track("Order Completed", {revenue: 42}, {integrations: {Slack: false}, context: {ip: "0.0.0.0"}});
    analytics.alias("u2");
    analytics.flush();
"""


def test_all_six_calls_arrive_once_in_one_batch(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """In order, each once, to /v1/b, as text/plain without a preflight and without Authorization."""
    visitor.page(html()).evaluate(ALL_SIX)
    page, screen, identify, group, track, alias = platform.wait_events(6)
    assert [request.path for request in platform.requests] == ["/v1/b"]
    request = platform.requests[0]
    assert request.headers["content-type"] == "text/plain"
    assert "authorization" not in request.headers
    assert request.headers["origin"] != platform.url
    assert platform.preflights == []
    assert request.body["writeKey"] == KEY
    assert request.body["sentAt"] >= track["timestamp"]
    assert (page["type"], page["category"], page["name"]) == ("page", "Docs", "Start")
    assert page["properties"]["a"] == 1
    assert (page["properties"]["category"], page["properties"]["name"]) == ("Docs", "Start")
    assert (screen["type"], screen["name"]) == ("screen", "Home")
    assert (identify["type"], identify["userId"], identify["traits"]) == ("identify", "u1", {"plan": "pro"})
    assert (group["type"], group["groupId"], group["traits"], group["userId"]) == ("group", "acme", {"size": 3}, "u1")
    assert (track["type"], track["event"], track["properties"]) == ("track", "Order Completed", {"revenue": 42})
    assert track["integrations"] == {"Slack": False}
    assert track["context"]["ip"] == "0.0.0.0"
    assert (alias["type"], alias["userId"], alias["previousId"]) == ("alias", "u2", "u1")
    assert len({event["anonymousId"] for event in platform.events}) == 1
    for event in platform.events:
        assert re.fullmatch(
            r"ajs-sdo-\d{13}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event["messageId"]
        )


def test_single_delivery(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """With delivery "single", or analytics.js's strategy "standard", each call has its own request and path."""
    for load in (
        f"{{apiHost: '{platform.url}', delivery: 'single'}}",
        f"{{integrations: {{'Segment.io': {{apiHost: '{platform.host}/v1', protocol: 'http', deliveryStrategy: {{strategy: 'standard'}}}}}}}}",
    ):
        platform.requests.clear()
        visitor.page(html(load)).evaluate(ALL_SIX)
        requests = platform.wait_requests(6)
        assert [request.path for request in requests] == ["/v1/p", "/v1/s", "/v1/i", "/v1/g", "/v1/t", "/v1/a"]
        assert {request.body["writeKey"] for request in requests} == {KEY}
        assert all("sentAt" in request.body for request in requests)


def test_ten_events_do_not_wait_and_fewer_wait_a_moment(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Ten events go at once; an eleventh after lingerMs, without anybody asking."""
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 200}}"))
    page.evaluate("for (let n = 0; n < 11; n++) analytics.track('E', {n})")
    events = platform.wait_events(11)
    assert [event["properties"]["n"] for event in events] == list(range(11))
    assert [len(request.events) for request in platform.requests] == [10, 1]


def test_the_context(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Page, user agent, locale, time zone and library as analytics.js sends them; a canonical link gives the url."""
    address = html(head='<link rel="canonical" href="https://shop.example/a">')
    visitor.page(address + "?utm_source=mail&utm_campaign=Spring+Sale&q=1").evaluate(
        "analytics.page(); analytics.flush()"
    )
    (page,) = platform.wait_events(1)
    search = "?utm_source=mail&utm_campaign=Spring+Sale&q=1"
    expected = {
        "path": "/a",
        "referrer": "",
        "search": search,
        "title": "A page",
        "url": "https://shop.example/a" + search,
    }
    assert page["properties"] == expected
    context = page["context"]
    assert context["page"] == expected
    assert context["library"]["name"] == "segment_do.js"
    assert re.fullmatch(r"\d+\.\d+\.\d+", context["library"]["version"])
    assert "Chrome" in context["userAgent"]
    assert context["userAgentData"]["mobile"] is False
    assert context["locale"]
    assert context["timezone"]
    assert context["campaign"] == {"source": "mail", "name": "Spring Sale"}


def test_promises_callbacks_and_listeners(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A call's promise and callback give its event; listeners hear calls and deliveries; off and once are obeyed."""
    page = visitor.page(html())
    heard = page.evaluate("""(async () => {
        const heard = [];
        const gone = () => heard.push("gone");
        analytics.on("track", (event, properties) => heard.push(["track", event, properties.n]));
        analytics.on("track", gone).off("track", gone);
        analytics.once("track", () => heard.push("once"));
        analytics.on("delivery_success", ({messageIds, status}) => heard.push([messageIds.length, status]));
        analytics.on("track", () => { throw new Error("a listener's own") });
        const {event} = await analytics.track("A", {n: 1});
        await new Promise((done) => analytics.track("B", {n: 2}, {}, done));
        await analytics.ready();
        heard.push(await analytics.flush(), event.event);
        return heard;
    })()""")
    assert heard == [["track", "A", 1], "once", ["track", "B", 2], [2, 200], True, "A"]


def test_source_middleware(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Middleware may change an event, wait, drop it, or fail, which drops it too; the order of the others stays."""
    visitor.page(html()).evaluate("""
        analytics.addSourceMiddleware(async ({payload, next}) => {
            if (payload.obj.event === "slow") await new Promise((done) => setTimeout(done, 50));
            if (payload.obj.event === "bad") throw new Error("no");
            payload.obj.properties.seen = true;
            if (payload.obj.event !== "drop") next(payload);
        });
        analytics.addDestinationMiddleware("Segment.io", ({payload, next}) => {
            payload.obj.properties.last = true;
            next(payload);
        });
        analytics.addDestinationMiddleware("Elsewhere", () => { throw new Error("never called") });
        for (const event of ["slow", "drop", "bad", "fast"]) analytics.track(event);
        analytics.track("end").then(() => analytics.flush());
    """)
    events = platform.wait_events(3)
    assert [event["event"] for event in events] == ["slow", "fast", "end"]
    assert all(event["properties"] == {"seen": True, "last": True} for event in events)


def test_nothing_is_thrown_into_the_page(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Wrong arguments, values without JSON and too large events are told to listeners and harm nothing."""
    reasons = visitor.page(html()).evaluate("""(() => {
        const reasons = [];
        analytics.on("error", ({reason}) => reasons.push(reason));
        const loop = {}; loop.loop = loop;
        analytics.track(); analytics.track(null, null, null, null); analytics.track("loop", loop);
        analytics.track("big", {text: "x".repeat(40000)}); analytics.track("bigint", {n: 1n});
        analytics.group(null, {}); analytics.alias(); analytics.identify(); analytics.trackLink(null, "x");
        analytics.page(undefined, undefined); analytics.invoke(["no such call"]); analytics.push([]);
        analytics.track("good"); analytics.flush();
        return reasons.map((reason) => reason.slice(0, 30));
    })()""")
    assert len(reasons) == 7
    events = platform.wait_events(3)
    assert [event["type"] for event in events] == ["identify", "page", "track"]


def test_switched_off(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """`disable` and `integrations: {"Segment.io": false}` send nothing; the former leaves no trace either."""
    page = visitor.page(html("{disable: true}"))
    assert page.evaluate("analytics.track('x').then(() => analytics.flush())") is True
    assert page.evaluate("[document.cookie, Object.keys(localStorage)]") == ["", []]
    page = visitor.page(html(f"{{apiHost: '{platform.url}'}}"))
    page.evaluate(
        "analytics.track('no', {}, {integrations: {'Segment.io': false}}); analytics.track('yes', {}, {integrations: {All: false}})"
    )
    assert page.evaluate("analytics.flush()") is True
    assert [event["event"] for event in platform.events] == ["yes"]


def test_an_agent_speaks_for_itself(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """`Analytics.for(agent)`: its own user id, no anonymous id, the visitor's identity untouched; one client an agent."""
    page = visitor.page(html())
    same = page.evaluate(f"""(() => {{
        const options = {{writeKey: "{KEY}", apiHost: "{platform.url}"}};
        analytics.identify("visitor");
        const tom = Analytics.for({{id: "tom"}}, options);
        tom.track("Answered");
        tom.identify("ralph", {{role: "developer"}});
        tom.track("Helped");
        tom.reset();
        tom.track("Slept", {{}}, {{userId: "other"}});
        tom.track("Woke");
        tom.flush();
        return [tom === Analytics.for("tom", options), analytics.user().id()];
    }})()""")
    assert same == [True, "visitor"]
    platform.wait(lambda recorder: len([e for e in recorder.events if e["userId"] != "visitor"]) == 5)
    events = [event for event in platform.events if event["userId"] != "visitor"]
    assert [event["userId"] for event in events] == ["tom", "ralph", "ralph", "other", "tom"]
    assert all("anonymousId" not in event for event in events)


def test_the_module(visitor: Visitor, platform: Recorder, site: Recorder) -> None:
    """The ES module's `Analytics({writeKey, apiHost})` works with and without `new`."""
    site.serve_file("/sdk.js", DIST / "analytics.esm.js")
    page = visitor.page(site.serve("/", "<title>Module</title>"))
    page.evaluate(f"""import("/sdk.js").then(({{Analytics}}) => {{
        const options = {{writeKey: "{KEY}", apiHost: "{platform.url}/v1/"}};
        Analytics(options).track("without").then(() => new Analytics(options).page("with"));
    }})""")
    assert {event["type"] for event in platform.wait_events(2)} == {"track", "page"}


def test_the_script_loads_itself(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Without a snippet, the script's own address gives the write key and the host."""
    visitor.page(html(script=SCRIPT)).evaluate("analytics.track('Loaded'); analytics.flush()")
    platform.wait_events(1)
    assert platform.requests[0].body["writeKey"] == KEY
