"""What is shipped: built from the sources, typed, small, and no burden to a page."""

from __future__ import annotations

import filecmp
import gzip
import subprocess
from pathlib import Path

from tests.browser.chromium import Visitor
from tests.browser.conftest import BROWSER, DIST, Html

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
