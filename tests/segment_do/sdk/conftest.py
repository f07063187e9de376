"""Fixtures of the SDK's tests: a platform, and a client of it that is closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from segment_do import Analytics
from segment_do.sdk.options import Timing
from tests.segment_do.sdk.platform import FakeTime, Platform, running


@pytest.fixture
def platform() -> Iterator[Platform]:
    with running() as started:
        yield started


@pytest.fixture
def make(platform: Platform) -> Iterator[Callable[..., Analytics]]:
    """Clients of the platform with the key ``wk``; closed when the test ends."""
    made: list[Analytics] = []

    def client(**options: Any) -> Analytics:
        made.append(Analytics(write_key="wk", host=platform.url, **options))
        return made[-1]

    yield client
    for one in made:
        one.close(2).wait()


@pytest.fixture
def client(make: Callable[..., Analytics]) -> Analytics:
    return make()


@pytest.fixture
def fake() -> FakeTime:
    return FakeTime()


@pytest.fixture
def timing(fake: FakeTime) -> Timing:
    return Timing(wall=fake.wall, monotonic=fake.monotonic, random=fake.random, wait=fake.wait)


@pytest.fixture(autouse=True)
def _no_platform_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("SEGMENT_DO_URL", "SEGMENT_DO_TOKEN", "SEGMENT_DO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path / "home"))
