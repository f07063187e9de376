"""``segment-do dev``: the platform in the foreground on one machine.

Holds the home's lock, starts ``actors.node``, shows each component as it becomes ready, starts it again when it dies, and on
Ctrl-C stops all of it. Never imports Ray, so that it lives whatever happens to it. Every process of the platform descends from it (orphans
included: it is their sub-reaper), so nothing is ever left behind; where it is killed itself, the node dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final

import httpx
import msgspec
import psutil
import typer
from rich.console import Console

from actors.ingress.port import open_socket
from actors.node import ray_directory
from segment_do.errors import Conflict, SegmentDoError
from segment_do.home import write_durably
from segment_do.settings import Settings, load_settings
from segment_do.version import __version__

__all__ = ["dev_command", "dev_settings"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_STOP_SECONDS: Final = 40.0
_RESTART_SECONDS: Final = (0.2, 1.0, 5.0)
_READY_SECONDS: Final = 120.0

_CURL: Final = (
    "curl -u {key}: {url}/v1/track -H 'content-type: application/json'"
    """ -d '{{"userId": "ada", "event": "Order Completed", "properties": {{"revenue": 42}}}}'"""
)
_SQL: Final = 'segment-do sql "SELECT event, avg(revenue) FROM events GROUP BY event"'

console = Console(stderr=True, highlight=False)


def dev_command(
    home: Annotated[Path | None, typer.Option(help="Data directory.", envvar="SEGMENT_DO_HOME")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", envvar="SEGMENT_DO_PORT")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", envvar="SEGMENT_DO_HOST")] = None,
) -> None:
    """Run the platform in the foreground; Ctrl-C stops it."""
    for name, value in (("HOME", home), ("PORT", port), ("HOST", host)):
        if value is not None:
            os.environ[f"SEGMENT_DO_{name}"] = str(value)
    try:
        settings = dev_settings()
        settings.paths.create()
        with _lock(settings):
            if settings.identity.layouts:
                from segment_do.identity.shards.begun import check_layouts  # here: few need the graph

                check_layouts(settings)
            raise SystemExit(_Supervisor(settings).run())
    except SegmentDoError as error:
        console.print(f"[red]{error}[/red]")
        raise SystemExit(1) from None


def dev_settings() -> Settings:
    """With the page at ``/demo``, unless the settings file or the environment says otherwise; the node is told by the latter.

    Raises:
        SettingsError: see :func:`load_settings`.
    """
    settings = load_settings(demo={"enabled": True})
    os.environ["SEGMENT_DO_DEMO__ENABLED"] = str(settings.demo.enabled)
    return settings


@contextlib.contextmanager
def _lock(settings: Settings) -> Any:
    """One platform a home."""
    handle = os.open(settings.paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(
            f"A platform runs from {settings.paths.root} already.",
            hint="Stop it, or give this one another SEGMENT_DO_HOME and SEGMENT_DO_PORT.",
        ) from None
    try:
        yield
    finally:
        os.close(handle)


class _Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._told_how = False
        self._node: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        paths = self._settings.paths
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        _kill_leftovers(ray_directory(self._settings))
        # A clear error now. Replicas share the port, so another platform's would share it, too, and take half of what comes.
        open_socket(self._settings.host, self._settings.port, shared=False).close()
        paths.ensure_token()
        write_durably(
            paths.running,
            msgspec.json.encode(
                {"url": self._url, "pid": os.getpid(), "startedAt": datetime.now(UTC).isoformat(timespec="seconds")}
            ),
        )
        console.print(f"[bold]segment_do {__version__}[/bold], data in {paths.root}")
        failures = 0
        try:
            while True:
                begun = time.monotonic()
                status = self._run_node()
                _end_descendants()
                if self._stopping.is_set():
                    return 0
                failures = failures + 1 if time.monotonic() - begun < 60 else 1
                wait_seconds = _RESTART_SECONDS[min(failures, len(_RESTART_SECONDS)) - 1]
                console.print(f"[yellow]The platform ended (status {status}); starting it again.[/yellow]")
                self._stopping.wait(wait_seconds)
                if self._stopping.is_set():
                    return 0
        finally:
            with contextlib.suppress(OSError):
                paths.running.unlink()
            shutil.rmtree(ray_directory(self._settings), ignore_errors=True)

    @property
    def _url(self) -> str:
        host = self._settings.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"http://{shown}:{self._settings.port}"

    def _run_node(self) -> int:
        with (self._settings.paths.logs / "node.log").open("ab") as errors:
            self._node = subprocess.Popen(
                [sys.executable, "-m", "actors.node"],
                env={"MALLOC_ARENA_MAX": "2", **os.environ},  # a heap a thread would cost each process some megabytes
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
                preexec_fn=_die_with_parent,  # no threads yet that could hold a lock
            )
        if self._stopping.is_set():
            self._node.terminate()
        assert self._node.stdout is not None
        threading.Thread(target=self._show, args=(self._node.stdout,), daemon=True).start()
        while True:
            try:
                return self._node.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set() and time.monotonic() > self._stop_by:
                    console.print("[yellow]It takes too long to stop; killing it. Nothing accepted is lost.[/yellow]")
                    self._node.kill()

    def _stop(self, _number: int, _frame: object) -> None:
        if not self._stopping.is_set():
            self._stop_by = time.monotonic() + _STOP_SECONDS
            self._stopping.set()
            console.print("Stopping…")
        if self._node is not None and self._node.poll() is None:
            self._node.terminate()

    def _show(self, lines: IO[bytes]) -> None:
        for line in lines:
            try:
                told = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue
            component, state = told["component"], told["state"]
            if component == "platform" and state == "ready":
                self._say_how()
            elif component != "platform":
                mark = "[green]✓[/green]" if state == "ready" else "[red]✗[/red]"
                detail = f"  {told['detail']}" if "detail" in told else ""
                console.print(f"  {mark} {component:<10} {state} after {told['seconds']:.1f} s{detail}")

    def _say_how(self) -> None:
        if self._told_how:
            console.print("  Everything is back.")
            return
        try:
            answer = httpx.post(
                f"{self._url}/api/sources",
                json={"name": "first", "identity": "first", "ensure": True},
                headers={"authorization": f"Bearer {self._settings.paths.token()}"},
                timeout=20.0,
            )
            key = answer.json()["writeKey"]
        except (httpx.HTTPError, KeyError, ValueError) as error:
            console.print(f"[yellow]Ready at {self._url}, but no source could be made: {error}[/yellow]")
            return
        self._told_how = True
        console.print(f"\nReady at [bold]{self._url}[/bold]   write key [bold]{key}[/bold]\n")
        if self._settings.demo_served:
            console.print(f"See it in a browser: [bold]{self._url}/demo[/bold]\n")
        console.print("Try it:", style="dim")
        for line in (_CURL.format(key=key, url=self._url), _SQL):
            print(f"  {line}", file=sys.stderr, flush=True)  # noqa: T201  # to be copied: no wrapping, no colour
        console.print("\nCtrl-C stops it.", style="dim")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _end_descendants() -> None:
    """Kill whatever is left of the platform, orphans included, and reap it."""
    for _ in range(50):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _kill_leftovers(directory: Path) -> None:
    """End what a supervisor that was killed has left behind, before the new platform opens the same files.

    Ray's own processes carry this home's Ray directory in their arguments; its workers overwrite theirs, and are found as their children.
    """
    left: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and any(str(directory) in part for part in process.cmdline()):
                left |= {process, *process.children(recursive=True)}
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(list(left), timeout=10.0)
    shutil.rmtree(directory, ignore_errors=True)
