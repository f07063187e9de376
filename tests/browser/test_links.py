"""Clicks on links and submitted forms."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Visitor
from tests.browser.conftest import Html
from tests.browser.recorder import Recorder

BODY = """<a id="link" href="/next?a=1">Next</a><a id="other" target="_blank" href="/next">Other</a>
<form id="form" action="/next"><input name="q" value="1"><button id="send">Send</button></form>"""


@pytest.mark.parametrize(("method", "what", "clicked"), [
    ("trackLink", "#link", "#link"), ("trackClick", "#link", "#link"),
    ("trackForm", "#form", "#send"), ("trackSubmit", "#form", "#send"),
])  # fmt: skip
def test_tracked_and_followed(
    visitor: Visitor, platform: Recorder, site: Recorder, html: Html, method: str, what: str, clicked: str
) -> None:
    """The event arrives although the page goes away, and the visitor arrives too."""
    site.serve("/next", "<title>Next</title><script>window.arrived = true</script>")
    page = visitor.page(html(f"{{apiHost: '{platform.url}', lingerMs: 60000}}", body=BODY))
    page.evaluate(f"analytics.{method}(document.querySelectorAll('{what}'), (el) => 'Used ' + el.id, {{a: 1}}); null")
    page.click(clicked)
    (event,) = platform.wait_events(1)
    assert (event["event"], event["properties"]) == ("Used " + what[1:], {"a": 1})
    page.until("window.arrived === true && location.pathname === '/next'")


def test_new_tabs_and_single_elements(visitor: Visitor, platform: Recorder, site: Recorder, html: Html) -> None:
    """Links to new tabs stay so; one element, a form's many fields notwithstanding, is enough."""
    site.serve("/next", "<title>Next</title>")
    page = visitor.page(html(body=BODY))
    page.evaluate("""
        analytics.trackLink(document.getElementById("other"), "Opened", (el) => ({href: el.getAttribute("href")}));
        analytics.trackForm(document.getElementById("form"), "Sent");
        document.getElementById("form").addEventListener("submit", (event) => event.preventDefault());
        null
    """)
    page.click("#other")
    page.click("#send")
    events = platform.wait_events(2)
    assert [(event["event"], event["properties"]) for event in events] == [("Opened", {"href": "/next"}), ("Sent", {})]
    assert page.evaluate("location.pathname") == "/"
