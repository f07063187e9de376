"""Real browsers on pages of another origin, against the running platform: the official SDK, unmodified, and our own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from segment_do.settings import BrowserSettings
from tests.actors.inprocess import path
from tests.browser.chromium import Chromium, Visitor
from tests.browser.conftest import BROWSER, HERE, THEIRS
from tests.browser.recorder import Recorder, recording
from tests.e2e.test_clients import TYPES, stored
from tests.load.platform import Platform

pytestmark = pytest.mark.platform

BATCHING = """{integrations: {"Segment.io": {apiHost: "%(host)s/v1", protocol: "http",
    deliveryStrategy: {strategy: "batching", config: {size: 3, timeout: 500}}}}}"""
CALLS = """
    analytics.setAnonymousId && analytics.setAnonymousId("anon-1");
    Promise.all([
        analytics.identify("ada", {email: "ada@example.com"}),
        analytics.track("Order Completed", {revenue: 42}),
        analytics.page("Docs", "Home"),
        analytics.screen("Start"),
        analytics.group("acme", {plan: "pro"}),
        analytics.alias("ada-new", "ada"),
    ]).then(() => { window.sent = true; });
"""


@pytest.fixture
def site() -> Iterator[Recorder]:
    with recording() as recorder:
        recorder.serve("/favicon.ico", "", "image/x-icon")
        yield recorder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package as a team's own bundler packs it: nothing of it is changed."""
    folder = tmp_path_factory.mktemp("bundle")
    entry = folder / "entry.js"
    entry.write_text(
        f'import {{ AnalyticsBrowser }} from "{HERE}/node_modules/@segment/analytics-next/dist/pkg/index.js";\n'
        "window.AnalyticsBrowser = AnalyticsBrowser;\n"
    )
    packed = folder / "bundle.js"
    esbuild = BROWSER / "node_modules" / ".bin" / "esbuild"
    subprocess.run(
        [str(esbuild), str(entry), "--bundle", f"--outfile={packed}", "--define:process.env.NODE_ENV='\"production\"'"],
        check=True,
        capture_output=True,
    )
    return packed


def visit(chromium: Chromium, url: str, hosts: set[str], done: str = "window.sent === true") -> None:
    """Open a page, wait until it says so, and hold that nobody else was asked for anything."""
    visitor = Visitor(chromium)
    try:
        visitor.page(url).until(done)
        assert visitor.errors() == []
        assert visitor.hosts() <= hosts
    finally:
        visitor.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("standard", "{}"),
        ("batching", BATCHING),
    ],
)
def test_analytics_next_from_npm(
    platform: Platform, chromium: Chromium, site: Recorder, bundle: Path, name: str, options: str
) -> None:
    """`cdnURL` alone leads it here: settings, all six calls, each stored once, and no request to any other host."""
    source = platform.create_source(f"next-{name}", f"next-{name}")
    host = platform.url.removeprefix("http://")
    site.serve_file("/bundle.js", bundle)
    page = site.serve(
        "/",
        f"""<!doctype html><title>A page</title><script src="/bundle.js"></script><script>
        window.analytics = AnalyticsBrowser.load(
            {{writeKey: "{source["writeKey"]}", cdnURL: "{platform.url}"}}, {options.replace("%(host)s", host)}
        );{CALLS}</script>""",
    )
    visit(chromium, page, {host, site.host})
    rows = stored(platform, f"next-{name}", 6)
    assert [row[1] for row in rows] == TYPES
    assert len({row[0] for row in rows}) == 6


def test_our_own_script_from_its_address(platform: Platform, chromium: Chromium, site: Recorder) -> None:
    """The platform serves it, and it finds key and host by the address it was loaded from."""
    source = platform.create_source("own-script", "own-script")
    script = f"{platform.url}/analytics.js/v1/{source['writeKey']}/analytics.min.js"
    page = site.serve(
        "/",
        f"""<!doctype html><title>A page</title><script src="{script}"></script><script>
        if (!analytics.initialized) analytics.load("{source["writeKey"]}");{CALLS}
        analytics.flush && analytics.flush();</script>""",
    )
    visit(chromium, page, {platform.url.removeprefix("http://"), site.host})
    rows = stored(platform, "own-script", 6)
    assert [row[1] for row in rows] == TYPES
    assert len({row[0] for row in rows}) == 6


def test_a_page_closed_mid_batch_loses_nothing(
    platform: Platform, chromium: Chromium, site: Recorder, bundle: Path
) -> None:
    """What the official SDK still holds when its page goes away is sent then, and stored once."""
    source = platform.create_source("next-closed", "next-closed")
    host = platform.url.removeprefix("http://")
    site.serve_file("/bundle.js", bundle)
    page = site.serve(
        "/",
        f"""<!doctype html><title>A page</title><script src="/bundle.js"></script><script>
        window.analytics = AnalyticsBrowser.load({{writeKey: "{source["writeKey"]}", cdnURL: "{platform.url}"}},
            {{integrations: {{"Segment.io": {{apiHost: "{host}/v1", protocol: "http", deliveryStrategy:
                {{strategy: "batching", config: {{size: 100, timeout: 600000}}}}}}}}}});
        for (let number = 0; number < 5; number++) analytics.track("Held", {{number}});
        analytics.ready(() => analytics.track("Last").then(() => {{ window.sent = true; }}));</script>""",
    )
    visitor = Visitor(chromium)
    opened = visitor.page(page)
    opened.until("window.sent === true")
    assert platform.sql("SELECT count(*) FROM events WHERE identity = 'next-closed'") == [[0]]
    opened.goto("about:blank")
    rows = stored(platform, "next-closed", 6)
    assert len({row[0] for row in rows}) == len(rows) == 6
    visitor.close()


SNIPPET = """
    window.analytics = [];
    analytics._cdn = "%(url)s";
    analytics._writeKey = "key-tom";
    const methods = ["identify", "track", "page", "screen", "group", "alias", "ready", "setAnonymousId"];
    for (const method of methods) analytics[method] = (...given) => { analytics.push([method, ...given]); };
    analytics.setAnonymousId("anon-1");
    analytics.identify("ada");
    analytics.track("Order Completed", {revenue: 42});
    analytics.page("Docs", "Home");
    analytics.screen("Start");
    analytics.group("acme");
    analytics.alias("ada-new", "ada");
    const script = document.createElement("script");
    script.src = "%(url)s/analytics.js/v1/key-tom/analytics.min.js";
    document.head.appendChild(script);
"""


async def test_the_classic_snippet_loads_analytics_next_from_here(
    tmp_path: Path, chromium: Chromium, site: Recorder
) -> None:
    """With the official bundle in `browser.script_directory`: script, chunks, settings and events, all from this host."""
    async with path(tmp_path, browser=BrowserSettings(script_directory=THEIRS)) as running:
        script = SNIPPET % {"url": running.url}
        page = site.serve("/", f"<!doctype html><title>A page</title><script>{script}</script>")
        visitor = Visitor(chromium)
        await asyncio.to_thread(visitor.page, page)  # the driver blocks; the path goes on beside it
        records = await running.logged(6)
        assert sorted(record.type for record in records) == TYPES
        hosts, errors = await asyncio.to_thread(visitor.hosts), await asyncio.to_thread(visitor.errors)
        await asyncio.to_thread(visitor.close)
        assert hosts <= {running.url.removeprefix("http://"), site.host}
        assert errors == []
