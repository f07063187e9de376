"""A home directory with a platform played in it, and a way to run commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segment_do.cli.app import app
from segment_do.cli.client import Client
from tests.segment_do.cli.api import TOKEN, Api


class Ran:
    """What a command did."""

    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err

    @property
    def rows(self) -> list[dict[str, object]]:
        """Stdout as JSON lines; anything else on it is a failure."""
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(*args: str, stdin: str | bytes | None = None, environment: dict[str, str] | None = None) -> Ran:
    """Run `segment-do` with these arguments in this process."""
    found = CliRunner().invoke(app, list(args), input=stdin, env=environment, catch_exceptions=False)
    return Ran(found.exit_code, found.stdout_bytes, found.stderr)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory in use; no platform runs from it."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("SEGMENT_DO_HOME", str(path))
    for name in ("SEGMENT_DO_URL", "SEGMENT_DO_TOKEN", "SEGMENT_DO_WRITE_KEY", "SEGMENT_DO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture(scope="session")
def served() -> Iterator[Api]:
    """One server for all tests: stopping it takes longer than most of them."""
    with Api() as api:
        yield api


@pytest.fixture
def api(served: Api, home: Path) -> Api:
    """A platform played, running from the home directory, with nothing in it."""
    served.reset()
    (home / "run.json").write_text(json.dumps({"url": served.url, "pid": 1, "startedAt": "now"}))
    (home / "token").write_text(f"{TOKEN}\n")
    return served


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts, which take no time."""
    waited: list[float] = []
    monkeypatch.setattr(Client, "pause", lambda _self, seconds: waited.append(seconds))
    return waited
