"""A real platform in processes of its own, with a home and a port of its own, that can be killed part by part.

Promised: whatever :meth:`Platform.start` started is dead after :meth:`Platform.close`, also what a killed supervisor
left behind. Nothing is signalled that this object did not start.

How processes are found: everything that descends from our child inherits a mark in its environment. Ray's workers
overwrite their environment with their title, so children of marked processes count too, and every process ever
seen is remembered by pid and start time: an orphan whose parent was killed is still known.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import httpx
import psutil

from actors.node import ray_directory
from segment_do.settings import Settings

__all__ = ["PARTS", "Part", "Platform", "StartFailed", "free_port", "running_platform"]

_TITLES: Final = (
    ("ray::IdentityActor", "identity"),
    ("ray::QueueActor", "queue"),
    ("ray::WarehouseActor", "warehouse"),
    ("ray::ControlActor", "control"),
    ("ray::ServeReplica", "ingress"),
    ("ray::ServeController", "serve controller"),
    ("ray::ProxyActor", "serve proxy"),
    ("ray::IDLE", "idle worker"),
    ("ray::", "other worker"),
)
PARTS: Final = (
    "ingress",
    "identity",
    "queue",
    "warehouse",
    "control",
    "raylet",
    "gcs",
    "node",
    "supervisor",
    "everything",
)
"""What :meth:`Platform.kill` can kill. ``node`` is the process that started Ray. After ``supervisor`` and ``everything``
it has to be started again; of the first the rest is still alive then, as after a human's kill -9."""
_MARK: Final = "PLATFORM_UNDER_TEST"


class StartFailed(AssertionError):
    """The platform did not become ready; the message holds the end of what it printed."""


class Part(NamedTuple):
    """One process of the platform."""

    name: str
    process: psutil.Process


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Platform:
    """``segment-do dev`` and what it starts. ``settings`` are environment variables without their ``SEGMENT_DO_``."""

    command: ClassVar[Sequence[str]] = (str(Path(sys.executable).with_name("segment-do")), "dev")

    def __init__(
        self, home: Path | None = None, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._made_home = home is None
        self.home = home if home is not None else Path(tempfile.mkdtemp(prefix="segment_do-"))
        self.port = port if port is not None else free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._mark = secrets.token_hex(8)
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SEGMENT_DO_", "RAY_")) and name != "PYTHONWARNINGS"
        }
        self.env |= {"SEGMENT_DO_HOME": str(self.home), "SEGMENT_DO_PORT": str(self.port)}
        self.env |= {f"SEGMENT_DO_{name}": value for name, value in (settings or {}).items()}
        self._before: list[psutil.Process] = []
        self._seen: dict[tuple[int, float], psutil.Process] = {}
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(base_url=self.url, timeout=60.0)
        self.printed = self.home / "printed.log"
        """What the supervisor printed."""

    def start(self, *, timeout_seconds: float = 90.0) -> float:
        """Start it and wait until events are accepted; returns the seconds this took.

        Raises:
            StartFailed: it ended, or was not ready in time.
        """
        self._before = [each.process for each in self.processes() if each.name == "ingress"]
        began = time.monotonic()
        with self.printed.open("ab") as out:
            self._supervisor = subprocess.Popen(
                self.command,
                env=self.env | {_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.home,
            )
        try:
            self.wait_ready(timeout_seconds)
        except StartFailed:
            self.kill_everything()
            raise
        return time.monotonic() - began

    def wait_ready(self, timeout_seconds: float = 90.0) -> None:
        """Poll ``GET /ready``, each look bounded, until it is 200.

        Raises:
            StartFailed: the supervisor ended, or the time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self._supervisor is None or self._supervisor.poll() is not None:
                code = self._supervisor.returncode if self._supervisor else "none"
                raise StartFailed(f"segment-do dev ended with {code}:\n{self.tail_of_printed()}")
            # A replica that a killed supervisor left behind may still answer; that is not the new one being ready.
            if not any(each.is_running() for each in self._before) and self.ready():
                return
            time.sleep(0.05)  # between looks, not instead of one
        raise StartFailed(f"not ready within {timeout_seconds:.0f} s:\n{self.tail_of_printed()}")

    def ready(self) -> bool:
        """Whether events are accepted now."""
        try:
            return self._client.get("/ready", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, *, timeout_seconds: float = 40.0) -> bool:
        """Ctrl-C. True when all of it was gone in time; what was not is killed."""
        self.processes()
        supervisor, self._supervisor = self._supervisor, None
        clean = supervisor is not None
        if supervisor is not None:
            supervisor.send_signal(signal.SIGINT)
            try:
                supervisor.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                clean = False
        # Workers see the end of their raylet a moment later; that moment is bounded.
        _gone, alive = psutil.wait_procs(self._alive(), timeout=5.0)
        self.kill_everything(supervisor)
        return clean and not alive

    def close(self, *, keep_home: bool = False) -> None:
        """Kill what runs and remove the home (a home that was given is kept; where it is, Ray's logs are put into it)."""
        self.kill_everything()
        self._client.close()
        # Ray's own files lie elsewhere. A supervisor that ends in order removes them itself.
        directory = ray_directory(Settings.model_construct(home=self.home))
        if keep_home and directory.exists():
            for session in directory.glob("session_2*"):
                shutil.copytree(session / "logs", self.home / "logs" / "ray" / session.name, dirs_exist_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        if self._made_home and not keep_home:
            shutil.rmtree(self.home, ignore_errors=True)

    def kill(self, part: str, choose: Any = None) -> int:
        """SIGKILL the processes of one of :data:`PARTS`; returns how many were hit.

        Of several identity actors (or replicas) one is hit: the one that ``choose`` (as ``random.Random.choice``)
        picks.
        """
        if part == "everything":
            return self.kill_everything()
        if part == "supervisor":
            self.processes()  # remembered, so that what is left behind can be found
            supervisor, self._supervisor = self._supervisor, None
            if supervisor is None:
                return 0
            supervisor.kill()
            supervisor.wait(10)
            return 1
        found = sorted((each.process for each in self.processes() if each.name == part), key=lambda each: each.pid)
        if not found:
            return 0
        one = choose(found) if choose is not None else found[0]
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
            return 1
        return 0

    def kill_everything(self, supervisor: subprocess.Popen[bytes] | None = None) -> int:
        """SIGKILL every process of it, the supervisor first (so that it starts nothing anew), until none is left."""
        supervisor = supervisor or self._supervisor
        self._supervisor = None
        self.processes()
        killed = 0
        if supervisor is not None and supervisor.poll() is None:
            supervisor.kill()
            killed += 1
        for _attempt in range(20):  # a process may fork while it is being killed; each pass finds fewer
            alive = self._alive()
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed += 1
            if supervisor is not None:
                supervisor.wait(10)
            psutil.wait_procs(alive, timeout=5.0)
            self.processes()
            if not self._alive():
                break
        return killed

    def processes(self) -> list[Part]:
        """Everything of it that is alive now."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(_MARK) == self._mark:
                    found[process.pid] = process
        for process in [*found.values(), *self._alive()]:
            found.setdefault(process.pid, process)
            with contextlib.suppress(psutil.Error):
                for child in process.children(recursive=True):
                    found.setdefault(child.pid, child)
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                self._seen[process.pid, process.create_time()] = process
        supervisor = self._supervisor.pid if self._supervisor is not None else None
        return [
            Part(name, process)
            for process in self._alive()
            if (name := "supervisor" if process.pid == supervisor else _name(process))
        ]

    def _alive(self) -> list[psutil.Process]:
        alive = []
        for key, process in list(self._seen.items()):
            with contextlib.suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
                    continue
            del self._seen[key]
        return alive

    def tail_of_printed(self, size_bytes: int = 4000) -> str:
        """The end of what was printed."""
        try:
            return self.printed.read_bytes()[-size_bytes:].decode(errors="replace")
        except OSError:
            return ""

    @property
    def token(self) -> str:
        """The admin token."""
        return (self.home / "token").read_text().strip()

    def api(self, method: str, path: str, body: Any = None, *, timeout_seconds: float = 60.0) -> Any:
        """One call of the control API; the answer's JSON.

        Raises:
            httpx.HTTPError: no answer, or one that is not 2xx.
        """
        answer = self._client.request(
            method,
            path,
            json=body,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=timeout_seconds,
        )
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}", request=answer.request, response=answer
            )
        return answer.json()

    def create_source(self, name: str, identity: str | None = None) -> dict[str, Any]:
        """``{"id", "name", "identity", "writeKey", …}``; the one there is, if there is one."""
        body: dict[str, Any] = {"name": name, "ensure": True}
        if identity is not None:
            body["identity"] = identity
        made: dict[str, Any] = self.api("POST", "/api/sources", body)
        return made

    def add_webhook(self, url: str, source_id: str | None = None, **settings: Any) -> str:
        """Id of a new webhook destination for a source, or for all."""
        body: dict[str, Any] = {"type": "webhook", "settings": {"url": url, **settings}}
        if source_id is not None:
            body["sourceId"] = source_id
        made: str = self.api("POST", "/api/destinations", body)["id"]
        return made

    def sql(self, query: str) -> list[list[Any]]:
        """Rows of a query.

        Raises:
            AssertionError: the answer was cut at the platform's bound, so it is not the whole answer.
        """
        answer = self.api("POST", "/api/sql", {"sql": query})
        assert not answer.get("truncated"), f"the answer was cut: {query}"
        rows: list[list[Any]] = answer["rows"]
        return rows


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        command = process.cmdline()
        title = command[0] if command else process.name()
        for start, name in _TITLES:
            if title.startswith(start):
                return name
        words = " ".join(command)
        if process.name().startswith("gcs_server") or "gcs_server" in title:
            return "gcs"
        if process.name() == "raylet" or title.endswith("/raylet"):
            return "raylet"
        if "actors.node" in words:
            return "node"
        for word in ("dashboard/agent", "dashboard", "log_monitor", "runtime_env", "autoscaler", "monitor.py"):
            if word in words:
                return f"ray {word.removesuffix('.py').rsplit('/', 1)[-1].replace('_', ' ')}"
        return process.name()
    return ""


@contextlib.contextmanager
def running_platform(**given: Any) -> Iterator[Platform]:
    """A started platform, gone afterwards."""
    platform = Platform(**given)
    try:
        platform.start()
        yield platform
    finally:
        platform.close()
