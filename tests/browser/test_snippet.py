"""The snippet: calls queued before the script is there, and the ways it finds its key and host."""

from __future__ import annotations

from tests.browser.chromium import Visitor
from tests.browser.conftest import KEY, SCRIPT, Html
from tests.browser.recorder import Recorder

SNIPPET = """<!doctype html><title>Snippet</title><script>
    var analytics = window.analytics = window.analytics || [];
    ["track", "page", "identify", "group", "alias", "ready", "on", "setAnonymousId", "addSourceMiddleware"].forEach(
        function (name) {
            analytics[name] = function () {
                if (window.analytics.initialized) return window.analytics[name].apply(window.analytics, arguments);
                var call = [name].concat([].slice.call(arguments));
                if (name === "page" || name === "track") {
                    call.push({__t: "bpc", p: "/then", u: location.origin + "/then#part", s: "?then", t: "Then", r: "from"});
                }
                window.analytics.push(call);
                return window.analytics;
            };
        }
    );
    analytics.load = function (key, options) {
        var script = document.createElement("script");
        script.async = true;
        script.src = "%(platform)s/analytics.js/v1/" + key + "/analytics.min.js";
        document.head.appendChild(script);
        analytics._loadOptions = options;
    };
    analytics._writeKey = "%(key)s";
    analytics.load("%(key)s", {lingerMs: 0});
    analytics.page();
    analytics.identify("u1");
    analytics.track("Queued", {n: 1});
    analytics.setAnonymousId("anon-1");
    analytics.on("track", function (event) { window.heard = event; });
    analytics.ready(function () { window.readied = true; });
    var kept = analytics;
</script>"""


def test_calls_queued_by_the_snippet(visitor: Visitor, platform: Recorder, site: Recorder) -> None:
    """All arrive in order, with the page facts of when they were made; who kept the array can go on using it."""
    page = visitor.page(site.serve("/", SNIPPET % {"platform": platform.url, "key": KEY}))
    events = platform.wait_events(3)
    assert [event["type"] for event in events] == ["page", "identify", "track"]
    assert {event["anonymousId"] for event in events} == {"anon-1"}
    facts = {"path": "/then", "referrer": "from", "search": "?then", "title": "Then", "url": site.url + "/then"}
    assert events[0]["properties"] == facts
    assert events[2]["context"]["page"] == facts
    assert page.evaluate("[window.heard, window.readied]") == ["Queued", True]
    page.evaluate("kept.push(['track', 'Pushed']); kept.track('Called'); kept.analytics === undefined")
    assert [event["event"] for event in platform.wait_events(5)[3:]] == ["Pushed", "Called"]
    assert all(request.body["writeKey"] == KEY for request in platform.requests)


def test_load_in_the_queue(visitor: Visitor, platform: Recorder, site: Recorder) -> None:
    """`load` may be a queued call like others: its key and options count."""
    visitor.page(
        site.serve(
            "/",
            f"""<!doctype html><script>
            window.analytics = [["track", "Before"], ["load", "{KEY}", {{apiHost: "{platform.url}", lingerMs: 0}}], ["page"]];
            </script><script async src="{platform.url}/analytics.min.js"></script>""",
        )
    )
    assert [event["type"] for event in platform.wait_events(2)] == ["track", "page"]


def test_another_name(visitor: Visitor, platform: Recorder, site: Recorder) -> None:
    """The script's attribute names another global, and a page without `analytics` stays without."""
    page = visitor.page(
        site.serve(
            "/",
            f"""<!doctype html><script>window.metrics = [["track", "Named"]];</script>
            <script src="{platform.url}{SCRIPT}" data-global-segment-analytics-key="metrics"></script>""",
        )
    )
    page.evaluate("metrics.flush()")
    assert [event["event"] for event in platform.wait_events(1)] == ["Named"]
    assert page.evaluate("typeof analytics") == "undefined"


def test_twice_on_the_page(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """A second script tag changes nothing."""
    address = html(script=SCRIPT, body=f'<script src="{platform.url}{SCRIPT}"></script>')
    page = visitor.page(address)
    page.evaluate("analytics.track('Once'); analytics.flush()")
    assert len(platform.wait_events(1)) == 1
    assert page.evaluate("analytics.flush()") is True


def test_calls_before_load_wait_for_it(visitor: Visitor, platform: Recorder, site: Recorder) -> None:
    """A script that knows no key keeps calls (at most 500) until `load`."""
    page = visitor.page(site.serve("/", f'<!doctype html><script src="{platform.url}/analytics.min.js"></script>'))
    page.evaluate("for (let n = 0; n < 600; n++) analytics.track('Early', {n})")
    assert platform.requests == []
    page.evaluate(f"analytics.load('{KEY}', {{apiHost: '{platform.url}'}}).flush()")
    assert [event["properties"]["n"] for event in platform.wait_events(500)] == list(range(500))
