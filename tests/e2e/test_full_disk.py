"""A disk that is really full: refused means not stored, accepted means found later, and no restart is needed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.load.platform import running_platform

pytestmark = pytest.mark.platform


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 420 MB, in memory."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=420m", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_and_free_again(tmp_path: Path) -> None:
    """503 and not ready while full; every 200 is in SQL once afterwards, no 503 is, and new events are taken again."""
    with small_disk(tmp_path / "disk") as disk, running_platform(home=disk) as platform:
        source = platform.create_source("full", "full")
        outcomes: dict[str, int] = {}

        def send(name: str, size: int) -> None:
            event = {"userId": "u", "event": "E", "messageId": name, "properties": {"x": "y" * size}}
            answer = httpx.post(f"{platform.url}/v1/track", json=event, auth=(source["writeKey"], ""), timeout=30.0)
            outcomes[name] = answer.status_code
            if answer.status_code != 200:
                assert int(answer.headers["retry-after"]) >= 1

        for number in range(3):
            send(f"before-{number}", 10)
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as fill:
            while True:
                fill.write(b"\0" * 2**20)
        for number in range(10):
            send(f"full-{number}", 10 if number < 3 else 20_000)
        assert set(outcomes.values()) == {200, 503}
        assert not platform.ready()
        assert httpx.get(f"{platform.url}/health").status_code == 200
        (disk / "fill").unlink()
        platform.wait_ready(30.0)
        send("after", 20_000)
        assert outcomes["after"] == 200
        accepted = sorted(name for name, status in outcomes.items() if status == 200)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            rows = platform.sql("SELECT message_id FROM events ORDER BY message_id")
            if len(rows) >= len(accepted):
                break
        assert [row[0] for row in rows] == accepted
