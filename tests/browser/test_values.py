"""Odd values: what has no JSON, ids that look like numbers, objects that the page goes on using, and calls of every shape."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.chromium import Page, Visitor
from tests.browser.conftest import KEY, Html
from tests.browser.recorder import Recorder
from tests.browser.test_identity import theirs


def test_values_without_json(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Circular traits, BigInt, getters that throw: told, every promise settles, and nothing of it is remembered."""
    page = visitor.page(html())
    settled, reasons = page.evaluate("""(async () => {
        const reasons = [];
        analytics.on("error", ({reason}) => reasons.push(reason));
        const loop = {}; loop.loop = loop;
        const trap = {get x() { throw Object.create(null); }};
        const calls = [
            analytics.track("a", loop), analytics.identify("wrong", loop), analytics.group("wrong", {n: 1n}),
            analytics.page(trap), analytics.track("b", {}, {context: loop}), analytics.identify("u1", {a: 1}),
        ];
        await Promise.all(calls);
        await analytics.flush();
        return [calls.length, reasons.length];
    })()""")
    assert (settled, reasons) == (6, 5)
    (identify,) = platform.events
    assert (identify["userId"], identify["traits"]) == ("u1", {"a": 1})
    assert page.evaluate("analytics.group().id()") is None


def test_values_with_json(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Dates become ISO 8601, half an emoji stays escaped, what JSON leaves out is left out."""
    visitor.page(html()).evaluate(
        r"""analytics.track("x", {at: new Date(0), half: "\ud83d", none: undefined, nan: NaN, list: [undefined],
            json: JSON.parse('{"__proto__": {"a": 1}}'), map: new Map([[1, 2]])}, {timestamp: new Date(86400000)});
        analytics.flush()"""
    )
    (event,) = platform.wait_events(1)
    assert event["properties"] == {
        "at": "1970-01-01T00:00:00.000Z", "half": "\ud83d", "nan": None, "list": [None], "json": {"__proto__": {"a": 1}}, "map": {},
    }  # fmt: skip
    assert event["timestamp"] == "1970-01-02T00:00:00.000Z"


@pytest.mark.parametrize("user", ["12345678901234567890", "0123", "1e5", "1.0", "true", "-0", '{"a":1}', "[1]"])
def test_ids_that_look_like_something_else(visitor: Visitor, platform: Recorder, html: Html, user: str) -> None:
    """An id is text: not a digit of it changes by a reload, nor by the loss of cookie or storage."""
    page = visitor.page(html())
    page.evaluate(f"analytics.identify('{user}'); analytics.setAnonymousId('{user}'); null")
    for loss in ("", "localStorage.clear()", "document.cookie = 'ajs_user_id=; path=/; max-age=0'"):
        page.evaluate(loss + "; null")
        page.reload()
        assert page.evaluate("[analytics.user().id(), analytics.user().anonymousId()]") == [user, user]


def test_numbers_as_ids(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Numbers become their digits; the same number is the same user."""
    page = visitor.page(html())
    page.evaluate("""
        analytics.identify(7, {a: 1}); analytics.identify("7", {b: 2}); analytics.user().id(7); analytics.group(0);
        analytics.alias(8, 7); analytics.track("x", {}, {userId: 9, anonymousId: 10}); analytics.identify(""); analytics.flush();
    """)
    first, second, group, alias, track, empty = platform.wait_events(6)
    assert (first["userId"], second["userId"], second["traits"]) == ("7", "7", {"a": 1, "b": 2})
    assert (group["groupId"], alias["userId"], alias["previousId"]) == ("0", "8", "7")
    assert (track["userId"], track["anonymousId"]) == ("9", "10")
    assert (empty["userId"], empty["anonymousId"]) == ("7", "10")  # it stays, as with analytics.js


def test_the_callers_objects_stay_its_own(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Middleware changes the event, never what the page passed; what the page does later changes no event."""
    page = visitor.page(html())
    mine = page.evaluate("""(async () => {
        analytics.addSourceMiddleware(async ({payload, next}) => {
            await null;
            payload.obj.properties.list.push(payload.obj.event);
            next(payload);
        });
        const mine = Object.freeze({list: [], n: {deep: 1}});
        const calls = [analytics.track("a", mine), analytics.track("b", mine)];
        mine.n.deep = 2;
        await Promise.all(calls);
        analytics.flush();
        return mine;
    })()""")
    assert mine == {"list": [], "n": {"deep": 2}}
    assert [event["properties"] for event in platform.wait_events(2)] == [
        {"list": ["a"], "n": {"deep": 1}},
        {"list": ["b"], "n": {"deep": 1}},
    ]


def test_after_reset(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """The next event is a stranger's; a tab beside it hears of that, and brings nobody back."""
    page, beside = visitor.page(html()), visitor.page(html())
    page.evaluate("analytics.identify('u1', {a: 1}); analytics.group('acme'); analytics.track('before'); null")
    assert beside.evaluate("[analytics.user().id('u1'), analytics.group().id('acme')]") == ["u1", "acme"]
    page.evaluate("analytics.reset().track('after'); analytics.identify({b: 2}); null")
    beside.evaluate("analytics.track('beside'); analytics.flush()")
    page.evaluate("analytics.flush()")
    platform.wait_events(6)
    events = {event.get("event") or f"{event['type']} {event.get('userId')}": event for event in platform.events}
    stranger = events["after"]["anonymousId"]
    assert stranger != events["before"]["anonymousId"]
    assert "userId" not in events["after"]
    assert events["identify None"]["traits"] == {"b": 2}
    assert (events["beside"].get("userId"), events["beside"]["anonymousId"]) == (None, stranger)
    assert page.evaluate("[analytics.user().id(), analytics.group().id(), analytics.group().traits()]") == [
        None,
        None,
        {},
    ]


def test_calls_that_only_analytics_js_has(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Pages that ask for plugins, or call what is old, go on."""
    page = visitor.page(html())
    told = page.evaluate("""(async () => {
        const told = [];
        analytics.on("error", ({reason}) => told.push(reason));
        analytics.on("constructor", () => 0); analytics.off("toString", () => 0); analytics.emit("valueOf");
        await analytics.register({name: "theirs"}); await analytics.deregister("theirs");
        analytics.timeout(300);
        analytics.pageview("/virtual");
        analytics.load("again", null);
        Analytics(); Analytics(null); new Analytics({}); Analytics.for("tom");
        analytics.flush();
        return told;
    })()""")
    assert told == ["plugins are not run"]
    (page_view,) = platform.wait_events(1)
    assert (page_view["type"], page_view["properties"]["path"]) == ("page", "/virtual")


def test_switched_off_leaves_no_trace(visitor: Visitor, html: Html) -> None:
    """Also of a click id."""
    page = visitor.page(html("{disable: true}") + "?urid=r1&ajs_uid=u1")
    page.evaluate("analytics.track('x')")
    assert page.evaluate("[document.cookie, Object.keys(localStorage)]") == ["", []]


def test_more_agents_than_are_kept(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """The one not asked for longest is forgotten: it sends what it has, and hears of the page no more."""
    spy = """<script>
        window.listening = 0;
        const listen = window.addEventListener;
        window.addEventListener = function (name, listener, options) {
            listening++;
            options?.signal?.addEventListener("abort", () => listening--);
            return listen.call(this, name, listener, options);
        };
    </script>"""
    page = visitor.page(html(head=spy))
    kept, forgotten, before, after = page.evaluate(f"""(() => {{
        const options = {{writeKey: "{KEY}", apiHost: "{platform.url}"}};
        const tom = Analytics.for("tom", options), ada = Analytics.for("ada", options);
        for (let n = 0; n < 98; n++) Analytics.for(n, options);
        ada.track("Last words");
        const before = listening;
        Analytics.for("tom", options);
        for (let n = 98; n < 101; n++) Analytics.for(n, options);
        return [tom === Analytics.for("tom", options), ada !== Analytics.for("ada", options), before, listening];
    }})()""")
    assert (kept, forgotten) == (True, True)
    assert 0 < after == before
    assert [event["userId"] for event in platform.wait_events(1)] == ["ada"]


SHAPES = r"""
    track("a")
    track("b", null, {context: {c: 1}, Slack: true})
    track("c", {n: 1}, () => 0)
    track({event: "whole", properties: {n: 1}}, {anonymousId: "a2", timestamp: "2020-01-01T00:00:00.000Z"})
    page()
    page("Name")
    page("Category", "Name")
    page(null, "Name", {n: 1})
    page({n: 1})
    page({n: 1}, {integrations: {Slack: false}})
    page("Name", {n: 1}, {context: {c: 1}})
    page("Category", "Name", {n: 1}, {context: {c: 1}})
    page("Category", "Name", null, {context: {c: 1}})
    page(null, null, {n: 1})
    page("Name", null, {n: 1})
    page("Name", () => 0)
    page({path: "/virtual", url: "https://virtual.example/virtual", title: "T", referrer: "R", search: "?s"})
    screen("Screen", {n: 1})
    screen("Category", "Screen")
    identify({a: 1})
    identify("u1")
    identify(null, {b: 2})
    identify("u1", {c: 3}, {context: {c: 1}})
    identify(7, {d: 4})
    identify({e: 5}, {integrations: {All: false, Slack: true}})
    identify("u3", () => 0)
    identify("u3", {f: 6}, {traits: {g: 7}, ip: "0.0.0.0", userId: "other"})
    identify({h: 8}, {userId: "another"})
    group("g1")
    group({n: 1})
    group("g1", {m: 2}, {context: {c: 1}})
    group("g2", {p: 3})
    track("t", {n: 1}, {integrations: {All: false, "Segment.io": true, Slack: {channel: "x"}}})
    track("t", {n: 1}, {context: {page: {path: "/given"}, campaign: {name: "given"}, library: {name: "mine"}}})
    track("end", {}, {traits: {x: 1}})
"""
OF_THE_CALL = ("event", "name", "category", "properties", "traits", "userId", "anonymousId", "groupId", "integrations")
OF_THE_CONTEXT = ("page", "c", "Slack", "ip", "traits", "campaign")


def told(event: dict[str, Any]) -> dict[str, Any]:
    """What a call says, whoever sends it; null and {} are nothing."""
    context = {name: event["context"].get(name) or None for name in OF_THE_CONTEXT} | {
        "library": event["context"]["library"]["name"] == "mine"
    }
    said: dict[str, Any] = {name: event.get(name) for name in OF_THE_CALL} | {"context": context}
    said["integrations"] = {name: value for name, value in (said["integrations"] or {}).items() if name != "Segment.io"}
    return said


def test_calls_of_every_shape(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Arguments left out, callbacks anywhere, options: each call says what it says with analytics.js."""
    shapes = SHAPES.split("\n")[1:-1]
    make = "document.title = 'Shapes'; analytics.setAnonymousId('a1'); (async () => { const ids = [];"
    make += "".join(f"ids.push((await analytics.{shape.strip()}).event.messageId);" for shape in shapes)
    make += "void analytics.flush?.(); return ids; })()"

    def said(page: Page) -> list[dict[str, Any]]:
        ids = page.evaluate(make)
        platform.wait(lambda recorder: set(ids) <= {event["messageId"] for event in recorder.events})
        events = {event["messageId"]: event for event in platform.events}
        made: list[str] = []  # ids that were made up on the way, by their order
        for each in ids:
            anonymous = events[each]["anonymousId"]
            if anonymous not in made:
                made.append(anonymous)
        return [told(events[each]) | {"anonymousId": made.index(events[each]["anonymousId"])} for each in ids]

    page = theirs(visitor, platform, site)
    expected = said(page)
    forget = "document.cookie.split('; ').forEach((c) => document.cookie = c.split('=')[0] + '=; path=/; max-age=0')"
    page.evaluate(f"localStorage.clear(); {forget}")
    html(path="/theirs")
    page.reload()
    for shape, ours, analytics_js in zip(shapes, said(page), expected, strict=True):
        assert ours == analytics_js, shape
