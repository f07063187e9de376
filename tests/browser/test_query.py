"""The query-string API, and consent."""

from __future__ import annotations

from tests.browser.chromium import Visitor
from tests.browser.conftest import Html
from tests.browser.recorder import Recorder


def test_a_link_says_who_comes_and_what_happened(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """ajs_aid, ajs_uid with traits, ajs_event with properties; before the page's own calls."""
    query = "?ajs_aid=a1&ajs_uid=u%201&ajs_trait_plan=pro+plus&ajs_event=Link+Clicked&ajs_prop_from=mail&ajs_prop_n=1"
    visitor.page(html() + query).evaluate("analytics.page(); analytics.flush()")
    identify, track, page = platform.wait_events(3)
    assert (identify["type"], identify["userId"], identify["traits"]) == ("identify", "u 1", {"plan": "pro plus"})
    assert (track["event"], track["properties"]) == ("Link Clicked", {"from": "mail", "n": "1"})
    assert page["type"] == "page"
    assert {event["anonymousId"] for event in platform.events} == {"a1"}


def test_the_query_can_be_switched_off(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """With `useQueryString: false` the address says nothing; `initialPageview` is the page's own."""
    load = f"{{apiHost: '{platform.url}', useQueryString: false, initialPageview: true}}"
    visitor.page(html(load) + "?ajs_event=No").evaluate("analytics.flush()")
    assert [event["type"] for event in platform.wait_events(1)] == ["page"]


def test_only_ids_of_a_pattern(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """`useQueryString` may say which ids a link may give; others mean nothing, and the event goes on."""
    load = f"{{apiHost: '{platform.url}', useQueryString: {{uid: /^[0-9]+$/, aid: /^web-/}}}}"
    address = html(load)
    visitor.page(address + "?ajs_uid=mallory&ajs_aid=a1&ajs_event=A").evaluate("analytics.flush()")
    visitor.page(address + "?ajs_uid=12&ajs_aid=web-1&ajs_event=B").evaluate("analytics.flush()")
    first, identify, second = platform.wait_events(3)
    assert (first["event"], first.get("userId"), first["anonymousId"] != "a1") == ("A", None, True)
    assert (identify["userId"], second["event"], second["anonymousId"]) == ("12", "B", "web-1")


def test_malformed_queries_do_no_harm(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """What cannot be decoded stays as it is; names of JavaScript's own objects are names like others."""
    visitor.page(html() + "?ajs_event=%E0%A4&ajs_prop___proto__=x&ajs_prop_=y&ajs_&=&utm_source=%").evaluate(
        "analytics.flush()"
    )
    (track,) = platform.wait_events(1)
    assert track["event"] == "%E0%A4"
    assert track["context"]["campaign"] == {"source": "%"}


def test_click_ids_are_remembered(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """An ad network's click id is the referrer of the visit's later pages too."""
    address = html()
    page = visitor.page(address + "?urid=r1")
    page.evaluate("analytics.track('first'); analytics.flush()")
    platform.wait_events(1)
    page.goto(address)
    page.evaluate("analytics.track('second'); analytics.flush()")
    assert [event["context"]["referrer"] for event in platform.wait_events(2)] == [
        {"id": "r1", "type": "millennial-media"}
    ] * 2


def test_consent_is_stamped(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Every event carries the preferences of its moment."""
    load = f"{{apiHost: '{platform.url}', consent: {{categories: () => ({{ads: window.ads === true}})}}}}"
    visitor.page(html(load)).evaluate("analytics.track('a'); ads = true; analytics.track('b'); analytics.flush()")
    stamps = [event["context"]["consent"]["categoryPreferences"] for event in platform.wait_events(2)]
    assert stamps == [{"ads": False}, {"ads": True}]


def test_events_wait_for_consent(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Nothing leaves, and nothing is stored, before the promise has an answer; then all leave in order."""
    load = (
        f"{{apiHost: '{platform.url}', lingerMs: 0, "
        "consent: {categories: () => new Promise((answer) => { window.answer = answer; })}}"
    )
    page = visitor.page(html(load))
    page.evaluate("analytics.track('a'); analytics.track('b'); null")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('sdo_'))") == []
    assert platform.requests == []
    page.evaluate("answer({ads: true})")
    page.until("analytics.flush().then(() => true)")
    platform.wait_events(1)
    page.evaluate("answer({ads: false})")
    events = platform.wait_events(2)
    assert [event["event"] for event in events] == ["a", "b"]
    assert [event["context"]["consent"]["categoryPreferences"]["ads"] for event in events] == [True, False]


def test_consent_that_cannot_be_asked_is_none(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Where the page's function throws or rejects, no category is allowed."""
    for fails in ("() => { throw new Error('no') }", "() => Promise.reject(new Error('no'))"):
        platform.requests.clear()
        page = visitor.page(html(f"{{apiHost: '{platform.url}', consent: {{categories: {fails}}}}}"))
        page.evaluate("analytics.track('x').then(() => analytics.flush())")
        assert platform.wait_events(1)[0]["context"]["consent"] == {"categoryPreferences": {}}


def test_an_answer_that_is_none(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Where the page's function says nothing that can be read, no category is allowed either."""
    for says in (
        "() => undefined",
        "() => null",
        "() => Promise.resolve()",
        "async () => 'yes'",
        "'not even a function'",
    ):
        platform.requests.clear()
        page = visitor.page(html(f"{{apiHost: '{platform.url}', consent: {{categories: {says}}}}}"))
        page.evaluate("analytics.track('x').then(() => analytics.flush())")
        assert platform.wait_events(1)[0]["context"]["consent"] == {"categoryPreferences": {}}


def test_consent_and_integrations(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Both arrive as given, for the platform to decide: All false stops no event here, "Segment.io" false does."""
    load = (
        f"{{apiHost: '{platform.url}', integrations: {{All: false, Slack: true}}, "
        "consent: {categories: () => ({ads: false, unmapped: true})}}"
    )
    visitor.page(html(load)).evaluate("""
        analytics.track("a"); analytics.track("b", {}, {integrations: {Slack: false, Mixpanel: {x: 1}}});
        analytics.track("c", {}, {context: {consent: {mine: 1}}}); analytics.track("d", {}, {integrations: {"Segment.io": false}});
        analytics.flush();
    """)
    events = platform.wait_events(3)
    assert [event["event"] for event in events] == ["a", "b", "c"]
    assert [event["integrations"] for event in events] == [
        {"All": False, "Slack": True},
        {"All": False, "Slack": False, "Mixpanel": {"x": 1}},
        {"All": False, "Slack": True},
    ]
    preferences = {"ads": False, "unmapped": True}
    assert [event["context"]["consent"] for event in events] == [
        {"categoryPreferences": preferences},
        {"categoryPreferences": preferences},
        {"mine": 1, "categoryPreferences": preferences},
    ]
