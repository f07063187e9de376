"""The React hooks, in a page built as an application would build it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.browser.chromium import Visitor
from tests.browser.conftest import BROWSER, DIST, HERE, KEY
from tests.browser.recorder import Recorder


def test_a_react_page(node: str, visitor: Visitor, platform: Recorder, site: Recorder, tmp_path: Path) -> None:
    """Under StrictMode: one page view a path, link and form tracked, and an error that was shown told once."""
    subprocess.run(
        [
            BROWSER / "node_modules" / ".bin" / "esbuild", "react_page.mjs", "--bundle", "--format=iife",
            f"--outfile={tmp_path / 'page.js'}", f"--alias:segment-react={DIST / 'react.js'}",
            '--define:process.env.NODE_ENV="development"', "--log-level=error",
        ],
        cwd=HERE, check=True, env={"NODE_PATH": str(HERE / "node_modules"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    site.serve_file("/page.js", tmp_path / "page.js")
    page = visitor.page(site.serve("/", '<div id="root"></div><script src="/page.js"></script>'))
    page.evaluate(f"start('{KEY}', '{platform.url}')")
    platform.wait_events(1)
    page.evaluate("dispatchEvent(new ErrorEvent('error', {error: Object.create(null)}))")  # which has no text
    for button in ("#go", "#link", "#send", "#break"):
        page.click(button)
    page.until("document.getElementById('fallback')")
    events = platform.wait_events(6)
    told = [(event["type"], event.get("name") or event.get("event")) for event in events]
    assert told == [
        ("page", "/a"),
        ("track", "Error Shown"),
        ("page", "/b"),
        ("track", "Link Clicked"),
        ("track", "Form Sent"),
        ("track", "Error Shown"),
    ]
    assert events[1]["properties"] == {"name": "Error"}
    assert events[5]["properties"]["name"] == "TypeError"
    assert events[5]["properties"]["message"] == "broken on purpose"
    assert page.evaluate("remount()") is None  # a client that was there before stays, and views are counted anew
    assert platform.wait_events(7)[6]["name"] == "/a"
