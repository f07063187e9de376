"""What is shipped: built from the sources, typed, small, and no burden to a page."""

from __future__ import annotations

import filecmp
import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.browser.chromium import Visitor
from tests.browser.conftest import BROWSER, DIST, HERE, KEY, Html
from tests.browser.recorder import Recorder

BUDGET_BYTES = 12 * 1024


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_dist_is_what_the_sources_build(node: str, tmp_path: Path) -> None:
    """`npm run build` would change nothing: the committed files are those of the sources; and the types hold."""
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=BROWSER, check=True)
    compiler = [node, "node_modules/typescript/bin/tsc"]
    subprocess.run(
        [*compiler, "-p", "tsconfig.build.json", "--outDir", str(tmp_path / "types")], cwd=BROWSER, check=True
    )  # it checks all of src under strict, as `tsc --noEmit` does, before it writes
    assert files(tmp_path) == files(DIST)
    _same, different, unreadable = filecmp.cmpfiles(tmp_path, DIST, files(DIST), shallow=False)
    assert (different, unreadable) == ([], []), "run `npm run build` in segment_do/browser and commit dist"


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_the_types_are_complete(node: str, tmp_path: Path, resolution: str) -> None:
    """A program that imports the package's three entries compiles under strict, its mistakes do not."""
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in ("@types", "csstype", "undici-types"):
        (modules / name).symlink_to(BROWSER / "node_modules" / name)
    package = modules / "segment.do"  # as npm would install it: what `files` names, and nothing else
    shutil.copytree(DIST, package / "dist")
    shutil.copy(BROWSER / "package.json", package)
    shutil.copy(HERE / "consumer.ts", tmp_path / "consumer.mts")
    module = "nodenext" if resolution == "nodenext" else "esnext"
    done = subprocess.run(
        [
            node, BROWSER / "node_modules" / "typescript" / "bin" / "tsc", "consumer.mts", "--noEmit", "--strict",
            "--exactOptionalPropertyTypes", "--module", module, "--moduleResolution", resolution, "--target", "es2022",
            "--lib", "es2022,dom,dom.iterable",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_script_is_small() -> None:
    """12 KB with gzip, as a server would send it."""
    assert len(gzip.compress((DIST / "analytics.min.js").read_bytes(), 9)) <= BUDGET_BYTES


def test_no_long_task(visitor: Visitor, html: Html) -> None:
    """Running the script, loading, a hundred calls and their delivery take less than 50 ms of processor all together."""
    page = visitor.page(html())
    seconds = page.script_seconds("""(async () => {
        const again = document.createElement("script");
        again.src = document.scripts[0].src;
        window.analytics = [];
        for (let n = 0; n < 50; n++) window.analytics.push(["track", "Early", {n}]);
        await new Promise((done) => { again.onload = done; document.head.append(again); });
        analytics.load("the-write-key", {apiHost: new URL(again.src).origin});
        for (let n = 0; n < 50; n++) analytics.track("Event", {n, text: "x".repeat(200)});
        await analytics.flush();
    })()""")
    assert 0 < seconds < 0.05


def test_no_long_task_after_an_outage(visitor: Visitor, platform: Recorder, html: Html) -> None:
    """Nor where pages before left all that they may: five tabs, 500 events each."""
    address = html("{disable: true}")
    page = visitor.page(address)
    page.evaluate(f"""
        for (let tab = 0; tab < 5; tab++) {{
            const events = Array.from({{length: 500}}, (_, n) => [0, Date.now(), {{
                type: "track", messageId: tab + "-" + n, event: "E", anonymousId: "a", timestamp: new Date(),
                properties: {{text: "x".repeat(700)}}, context: {{}}, integrations: {{}},
            }}]);
            localStorage.setItem("sdo_queue.{KEY}." + tab, JSON.stringify({{at: 0, events}}));
        }}
    """)
    page.goto(address)
    start = f"""new Promise((done) => {{
        window.late = Analytics({{writeKey: "{KEY}", apiHost: "{platform.url}"}}); setTimeout(done, 0);
    }})"""
    assert 0 < page.script_seconds(start) < 0.05
    platform.wait_events(2_500)
