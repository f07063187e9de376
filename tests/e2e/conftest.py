"""One real platform for the end-to-end tests of a run, in processes and a home of its own; and one real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import BROWSER, HERE, installed
from tests.load.platform import Platform, running_platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Ready to take events. Tests share it: each makes its own sources and looks at its own identity's rows."""
    with running_platform() as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Tests share it: each opens a context of its own."""
    executable = shutil.which("chromium")
    if executable is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium, Node.js and npm (Debian: chromium, nodejs, npm)")
    installed(HERE)
    installed(BROWSER)
    browser = Chromium(executable)
    yield browser
    browser.close()
