from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from segment_do.cli import checks
from segment_do.home import Home
from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import Ran, run


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENT_DO_PORT", "0")


def statuses(ran: Ran) -> dict[object, object]:
    return {row["check"]: row["status"] for row in ran.rows}


@pytest.mark.usefixtures("free_port")
def test_without_a_platform(home: Path) -> None:
    """On a machine that could run the platform every check is ok, and each is one line; nothing is left behind."""
    ran = run("doctor", "--json")
    assert ran.code == 0, ran
    assert list(statuses(ran)) == ["python", "packages", "settings", "port", "disk", "sync", "memory", "platform"]
    assert set(statuses(ran).values()) <= {"ok", "warn"}
    assert list(home.iterdir()) == []
    ran = run("doctor")
    assert len(ran.out.splitlines()) == 8
    assert "fdatasync median" in ran.out


@pytest.mark.usefixtures("free_port")
def test_round_trip(api: Api, pauses: list[float]) -> None:
    """With a platform, one event of the source `doctor` goes through it, each stage a line with its time."""
    api.trace_after = 2
    ran = run("doctor", "--json")
    assert ran.code == 0, ran
    stages = [row for row in ran.rows if "seconds" in row]
    assert [row["check"] for row in stages] == ["ready", "source", "accepted", "applied", "queryable"]
    (event,) = api.events.values()
    assert (event["event"], event["integrations"]) == ("Doctor Checked", {"All": False})
    assert [source["name"] for source in api.sources.values()] == ["doctor"]


@pytest.mark.usefixtures("free_port")
def test_event_that_does_not_arrive(api: Api) -> None:
    """A stage that is not reached in time fails, says where to look, and makes the exit code 1."""
    api.trace_after = 10**9
    ran = run("doctor", "--timeout", "0.1", "--json")
    assert ran.code == 1
    assert statuses(ran)["applied"] == statuses(ran)["queryable"] == "fail"
    assert ran.err == "2 checks failed.\n"


@pytest.mark.usefixtures("free_port")
def test_platform_that_refuses(api: Api, home: Path) -> None:
    """A platform that answers with an error fails; one that is gone without cleaning up is a warning."""
    (home / "token").write_text("wrong")
    assert statuses(run("doctor", "--json"))["platform"] == "fail"
    (home / "run.json").write_text('{"url": "http://127.0.0.1:1"}')
    assert statuses(run("doctor", "--json"))["platform"] == "warn"


def test_settings_that_cannot_be_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting fails its check, and the others go on."""
    monkeypatch.setenv("SEGMENT_DO_PORT", "many")
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert statuses(ran)["settings"] == "fail"
    assert "memory" in statuses(ran)


def test_port(tmp_path: Path) -> None:
    """A port is free, taken by something else (fail), or held by the platform of this home."""
    home = Home(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        taken = checks.port(home, "127.0.0.1", number, ours=False)
        assert (taken.status, bool(taken.advice)) == ("fail", True)
        (tmp_path / "run.json").write_text(f'{{"url": "http://127.0.0.1:{number}"}}')
        assert checks.port(home, "127.0.0.1", number, ours=True).status == "ok"
        assert checks.port(home, "127.0.0.1", number, ours=False).status == "fail"
    assert checks.port(home, "127.0.0.1", number, ours=False).detail.endswith("is free")
    assert checks.port(home, "256.0.0.1", 80, ours=False).status == "fail"


def test_disk(tmp_path: Path) -> None:
    """Less free space than the platform needs fails, also for a directory that is not there yet."""
    home = Home(tmp_path / "not" / "there")
    assert checks.disk(home, least_bytes=1).status in ("ok", "warn")
    assert checks.disk(home, least_bytes=2**62).status == "fail"


def ticks(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


def test_sync_latency(tmp_path: Path) -> None:
    """A disk that is slow to sync is a warning; a directory that cannot be written fails."""
    slow, fast = ticks(0.05), ticks(0.001)
    assert checks.sync_latency(Home(tmp_path), lambda: next(slow)).status == "warn"
    found = checks.sync_latency(Home(tmp_path), lambda: next(fast))
    assert (found.status, found.detail.split(" (")[0]) == ("ok", "fdatasync median 1.00 ms, max 1.00 ms")
    assert checks.sync_latency(Home("/proc/nothing")).status == "fail"


def test_packages() -> None:
    """A library that is missing fails by its name."""

    def version_of(name: str) -> str:
        if name == "ray":
            raise PackageNotFoundError(name)
        return "1"

    found = checks.packages(version_of)
    assert found.status == "fail"
    assert "missing: ray;" in found.detail


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little free memory is a warning."""
    import psutil

    class Found(NamedTuple):
        available: int
        total: int = 2**34

    def has(available: int) -> Any:
        return lambda: Found(available)

    monkeypatch.setattr(psutil, "virtual_memory", has(2**20))
    assert checks.memory().status == "warn"
    monkeypatch.setattr(psutil, "virtual_memory", has(2**33))
    assert checks.memory().status == "ok"
