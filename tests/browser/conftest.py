"""Chromium, a site and a platform on another origin, for the tests of the JavaScript SDK."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Visitor
from tests.browser.recorder import Recorder, recording

HERE = Path(__file__).parent
BROWSER = HERE.parent.parent / "segment_do" / "browser"
DIST = BROWSER / "dist"
KEY = "the-write-key"
SCRIPT = f"/analytics.js/v1/{KEY}/analytics.min.js"
THEIRS = HERE / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"


def installed(folder: Path) -> None:
    """What a lock file pins is there; asks npm only where it is not."""
    wanted = packages(folder / "package-lock.json")
    found = packages(folder / "node_modules" / ".package-lock.json")
    if any(found.get(name) != version for name, version in wanted.items()):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)


def packages(lock: Path) -> dict[str, str]:
    """Versions by place, of packages that are not optional (one for each kind of machine)."""
    if not lock.exists():
        return {}
    known = json.loads(lock.read_text())["packages"].items()
    return {place: package["version"] for place, package in known if place and not package.get("optional")}


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js and npm, with the packages of the tests and of the build."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm (Debian: nodejs, npm)")
    installed(HERE)
    installed(BROWSER)
    return found


@pytest.fixture(scope="session")
def chromium(node: str) -> Iterator[Chromium]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Chromium (Debian: chromium)")
    browser = Chromium(executable)
    yield browser
    browser.close()


@pytest.fixture
def platform() -> Iterator[Recorder]:
    """Where events go: another origin than the site's."""
    with recording() as recorder:
        recorder.serve_file(SCRIPT, DIST / "analytics.min.js")
        recorder.serve_file("/analytics.min.js", DIST / "analytics.min.js")
        recorder.serve_file("/theirs.js", THEIRS / "standalone.js")
        settings = {
            "integrations": {
                "Segment.io": {"apiKey": KEY, "apiHost": f"{recorder.host}/v1", "protocol": "http"},
            },
            "metrics": {"sampleRate": 0},
        }
        recorder.serve(f"/v1/projects/{KEY}/settings", json.dumps(settings), "application/json")
        yield recorder


@pytest.fixture
def site() -> Iterator[Recorder]:
    """Where pages come from."""
    with recording() as recorder:
        recorder.serve("/favicon.ico", "", "image/x-icon")
        yield recorder


@pytest.fixture
def visitor(chromium: Chromium, platform: Recorder, site: Recorder) -> Iterator[Visitor]:
    """A browser of its own; at the end, no page had an error and nothing was asked of any other host."""
    someone = Visitor(chromium)
    yield someone
    hosts, errors = someone.hosts(), someone.errors()
    someone.close()
    assert {host for host in hosts if host and not host.endswith(f".example.test:{site.host.split(':')[1]}")} <= {
        platform.host,
        site.host,
    }
    assert errors == []


Html = Callable[..., str]


@pytest.fixture
def html(platform: Recorder, site: Recorder) -> Html:
    """Serves a page at ``path`` that loads the SDK as given by ``load``, and returns its address."""

    def served(
        load: str = "", *, path: str = "/", body: str = "", head: str = "", script: str = "/analytics.min.js"
    ) -> str:
        options = load or f"{{apiHost: '{platform.url}'}}"
        return site.serve(
            path,
            f"""<!doctype html><title>A page</title>{head}
            <script src="{platform.url}{script}"></script>
            <script>if (!analytics.initialized) analytics.load("{KEY}", {options})</script>{body}""",
        )

    return served
