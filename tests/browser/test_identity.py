"""Who the visitor is: where it is kept, and that it moves from and to the real analytics.js."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.chromium import Page, Visitor
from tests.browser.conftest import KEY, Html
from tests.browser.recorder import Recorder

THEIR_PAGE = """<!doctype html><title>Theirs</title><script>
    window.analytics = []; analytics._cdn = "%(platform)s"; analytics._writeKey = "%(key)s";
    %(queue)s
</script><script src="%(platform)s/theirs.js"></script>"""

WHO = """(() => ({
    user: analytics.user().id(), anonymous: analytics.user().anonymousId(), traits: analytics.user().traits(),
    group: analytics.group().id(), groupTraits: analytics.group().traits(),
}))()"""

ODD = 'ada+"lovelace"; é@example.com'
IDENTIFY = """
    analytics.setAnonymousId("anon-of-before");
    analytics.identify(%r, {plan: "pro", name: "Ada é"});
    analytics.group("acme, inc", {size: 3});
"""


def theirs(visitor: Visitor, platform: Recorder, site: Recorder) -> Page:
    """A page with the real analytics.js, loaded."""
    content = THEIR_PAGE % {"platform": platform.url, "key": KEY, "queue": ""}
    page = visitor.page(site.serve("/theirs", content))
    page.until("window.analytics.initialized")
    return page


@pytest.mark.parametrize("user", ["u1", ODD, "123"])
def test_from_analytics_js_to_ours(visitor: Visitor, platform: Recorder, site: Recorder, html: Html, user: str) -> None:
    """Ids, traits and group that analytics.js kept are ours from the first event on."""
    page = theirs(visitor, platform, site)
    page.evaluate(IDENTIFY % user)
    page.until("analytics.group().id()")
    before = page.evaluate(WHO)
    platform.wait_events(2)
    page = visitor.page(html())
    assert page.evaluate(WHO) == {**before, "user": user}
    page.evaluate("analytics.track('Ours'); analytics.flush()")
    platform.wait(lambda recorder: any(event.get("event") == "Ours" for event in recorder.events))
    event = next(event for event in platform.events if event.get("event") == "Ours")
    assert (event["userId"], event["anonymousId"]) == (user, "anon-of-before")


@pytest.mark.parametrize("user", ["u1", ODD])
def test_from_ours_to_analytics_js(visitor: Visitor, platform: Recorder, site: Recorder, html: Html, user: str) -> None:
    """And what we kept is analytics.js's: the same ids, traits and group."""
    page = visitor.page(html())
    page.evaluate(IDENTIFY % user)
    before = page.evaluate(WHO)
    assert before["user"] == user
    page = theirs(visitor, platform, site)
    assert page.evaluate(WHO) == before
    page.evaluate("analytics.track('Theirs')")
    platform.wait(lambda recorder: any(event.get("event") == "Theirs" for event in recorder.events))
    event = next(event for event in platform.events if event.get("event") == "Theirs")
    assert (event["userId"], event["anonymousId"]) == (user, "anon-of-before")


def test_the_same_cookies_and_storage(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Both libraries leave the very same bytes: names, encodings, and no cookie for traits."""
    left: list[Any] = []
    read = """[document.cookie.split("; ").filter((each) => each.startsWith("ajs_")).sort(),
        Object.entries(localStorage).filter(([key]) => key.startsWith("ajs_")).sort()]"""
    forget = "localStorage.clear(); document.cookie.split('; ').forEach((c) => document.cookie = c.split('=')[0] + '=; path=/; max-age=0')"
    page = theirs(visitor, platform, site)
    page.evaluate(IDENTIFY % ODD)
    page.until("analytics.group().id()")
    page.until("localStorage.getItem('ajs_group_id')")
    left.append(page.evaluate(read))
    their_cookies = visitor.cookies()
    page.evaluate(forget)
    page = visitor.page(html())
    page.evaluate(IDENTIFY % ODD)
    left.append(page.evaluate(read))
    assert left[0] == left[1]
    for name, cookie in visitor.cookies().items():
        theirs_had = their_cookies[name]
        assert {key: cookie[key] for key in ("domain", "path", "sameSite", "secure")} == {
            key: theirs_had[key] for key in ("domain", "path", "sameSite", "secure")
        }
        assert abs(cookie["expires"] - theirs_had["expires"]) < 60


def test_the_servers_anonymous_id(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """An anonymous id that a server set as a first-party cookie is the visitor's."""
    address = html()
    visitor.add_cookie("ajs_anonymous_id", "set-by-the-server", address)
    page = visitor.page(address)
    page.evaluate("analytics.track('x'); analytics.flush()")
    assert platform.wait_events(1)[0]["anonymousId"] == "set-by-the-server"
    assert page.evaluate("localStorage.getItem('ajs_anonymous_id')") == '"set-by-the-server"'


def test_a_cookie_for_one_host_alone(visitor: Visitor, site: Recorder, html: Html) -> None:
    """An id that a server set without a domain is the visitor's, and forgotten by reset like any other."""
    html()
    address = f"http://a.example.test:{site.host.split(':')[1]}/"
    visitor.add_cookie("ajs_anonymous_id", "of-this-host", address)
    page = visitor.page(address)
    assert page.evaluate("analytics.user().anonymousId()") == "of-this-host"
    later = page.evaluate("analytics.reset().user().anonymousId()")
    assert later != "of-this-host"
    page.reload()
    assert page.evaluate("analytics.user().anonymousId()") == later
    assert visitor.cookies()["ajs_anonymous_id"]["value"] == later


def test_either_place_is_enough(visitor: Visitor, html: Html) -> None:
    """An id survives the loss of the cookie, or of localStorage, and both are there again."""
    page = visitor.page(html())
    first = page.evaluate("analytics.identify('u1'), analytics.user().anonymousId()")
    for loss in (
        "localStorage.clear()",
        "['ajs_user_id', 'ajs_anonymous_id'].forEach((name) => document.cookie = name + '=; path=/; max-age=0')",
    ):
        page.evaluate(loss)
        page.reload()
        assert page.evaluate("[analytics.user().id(), analytics.user().anonymousId()]") == ["u1", first]
        assert page.evaluate("localStorage.getItem('ajs_user_id')") == '"u1"'
        assert visitor.cookies()["ajs_user_id"]["value"] == "u1"


def test_subdomains_share(visitor: Visitor, site: Recorder, html: Html) -> None:
    """The cookie is on the highest domain that takes one; pages without TLS make ids too."""
    html()
    port = site.host.split(":")[1]
    found = visitor.page(f"http://a.example.test:{port}/").evaluate("analytics.user().anonymousId()")
    assert visitor.page(f"http://b.example.test:{port}/").evaluate("analytics.user().anonymousId()") == found
    assert visitor.cookies()["ajs_anonymous_id"]["domain"] == ".example.test"


def test_another_user_is_another_visitor(visitor: Visitor, html: Html) -> None:
    """A new user id after another one takes away traits and anonymous id; reset takes away everything."""
    page = visitor.page(html())
    who = page.evaluate("""(() => {
        const who = [];
        const note = () => who.push([analytics.user().id(), analytics.user().anonymousId(), analytics.user().traits()]);
        note();
        analytics.identify("u1", {a: 1}); note();
        analytics.identify({b: 2}); note();
        analytics.identify("u2", {c: 3}); note();
        analytics.reset(); note();
        return who;
    })()""")
    (_, anonymous, _), first, more, second, none = who
    assert first == ["u1", anonymous, {"a": 1}]
    assert more == ["u1", anonymous, {"a": 1, "b": 2}]
    assert (second[0], second[2]) == ("u2", {"c": 3})
    assert (none[0], none[2]) == (None, {})
    assert len({anonymous, second[1], none[1]}) == 3


def test_nothing_kept(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """`disableClientPersistence` leaves neither cookies nor storage; ids live as long as the page."""
    page = visitor.page(html(f"{{apiHost: '{platform.url}', disableClientPersistence: true}}"))
    page.evaluate("analytics.identify('u1', {a: 1}); analytics.track('x'); analytics.flush()")
    assert {event["userId"] for event in platform.wait_events(2)} == {"u1"}
    assert page.evaluate("[document.cookie, Object.keys(localStorage)]") == ["", []]
