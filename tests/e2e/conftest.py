"""One real platform for the end-to-end tests of a run, in processes and a home of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load.platform import Platform, running_platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Ready to take events. Tests share it: each makes its own sources and looks at its own identity's rows."""
    with running_platform() as started:
        yield started
