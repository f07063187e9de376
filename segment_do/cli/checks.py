"""What `segment-do doctor` looks at on this machine. Every check ends as one finding; none changes anything that stays."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from segment_do.errors import PlatformNotRunning, SettingsError
from segment_do.home import Home

__all__ = ["Finding", "disk", "memory", "packages", "port", "python", "sync_latency"]

_PACKAGES: Final = (
    "ray",
    "pyarrow",
    "duckdb",
    "pyiceberg",
    "aiosqlite",
    "uvicorn",
    "fastapi",
    "pydantic",
    "msgspec",
    "httpx",
)
_LEAST_PYTHON: Final = (3, 11)
_SCARCE_DISK_BYTES: Final = 2 * 2**30
_SCARCE_MEMORY_BYTES: Final = 2**30
_SYNCS: Final = 20
_SYNC_BYTES: Final = 512
_SLOW_SYNC_SECONDS: Final = 0.02
"""Every acknowledgement waits for a sync, shared by all requests of that moment."""


class Finding(msgspec.Struct, omit_defaults=True):
    """One line of the doctor's."""

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""
    seconds: float | None = None
    """For stages of the round trip."""


def python() -> Finding:
    """The interpreter."""
    detail = f"{sys.version.split()[0]}, sqlite {sqlite3.sqlite_version}"
    if sys.version_info < _LEAST_PYTHON:  # pragma: no cover - pip does not install it there
        return Finding("python", "fail", detail, "Use Python 3.11 or later.")
    return Finding("python", "ok", detail)


def packages(version_of: Callable[[str], str] = version) -> Finding:
    """The libraries that a platform on this machine needs."""
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version_of(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = (
            "Install the server: `pip install segment-do[server]`. To talk to a platform elsewhere it is not needed."
        )
        return Finding("packages", "fail", f"missing: {', '.join(missing)}; found: {', '.join(found)}", advice)
    return Finding("packages", "ok", ", ".join(found))


def port(home: Home, host: str, number: int, *, ours: bool) -> Finding:
    """Whether the platform could listen, or is the one that does. ``ours``: the one of this home answered just now."""
    where = f"{host}:{number}"
    if ours and _port_of(home) == number:
        return Finding("port", "ok", f"{where} is held by the platform of this home")
    if number == 0:
        return Finding("port", "ok", "any free one is taken (port 0)")
    try:
        address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address[4])
            trial.listen(1)
    except OSError as error:
        advice = "Stop what listens there, or set SEGMENT_DO_PORT to another port."
        return Finding("port", "fail", f"{where} cannot be used: {error.strerror}", advice)
    return Finding("port", "ok", f"{where} is free")


def disk(home: Home, *, least_bytes: int) -> Finding:
    """Free space where the data lies; below ``least_bytes`` the platform takes no events."""
    free = shutil.disk_usage(existing(home.root)).free
    detail = f"{free / 2**30:,.1f} GiB free for {home.root}"
    if free < least_bytes:
        return Finding(
            "disk", "fail", detail, f"Below {least_bytes / 2**20:,.0f} MiB no event is accepted: free some space."
        )
    if free < _SCARCE_DISK_BYTES:
        return Finding("disk", "warn", detail, "Free some space, or move SEGMENT_DO_HOME to a larger disk.")
    return Finding("disk", "ok", detail)


def sync_latency(home: Home, clock: Callable[[], float] = time.perf_counter) -> Finding:
    """How long the disk takes to keep a few hundred bytes: 20 writes, each synced, into a file that is removed."""
    where = existing(home.root)
    try:
        with tempfile.NamedTemporaryFile(dir=where, prefix=".segment_do-doctor-") as trial:
            took = sorted(_syncs(trial.fileno(), clock))
    except OSError as error:
        return Finding(
            "sync", "fail", f"{where} cannot be written: {error.strerror}", "Set SEGMENT_DO_HOME to one that can."
        )
    median, longest = statistics.median(took), took[-1]
    detail = f"fdatasync median {median * 1000:.2f} ms, max {longest * 1000:.2f} ms ({_SYNCS} writes in {where})"
    if median > _SLOW_SYNC_SECONDS:
        return Finding("sync", "warn", detail, "Every answer waits for that: use a local SSD for SEGMENT_DO_HOME.")
    return Finding("sync", "ok", detail)


def memory() -> Finding:
    """Memory that is free to take."""
    try:
        import psutil
    except ModuleNotFoundError:
        return Finding("memory", "warn", "unknown: psutil is not installed", "Install the server, which brings it.")
    found = psutil.virtual_memory()
    detail = f"{found.available / 2**30:,.1f} of {found.total / 2**30:,.1f} GiB available"
    if found.available < _SCARCE_MEMORY_BYTES:
        return Finding("memory", "warn", detail, "Ray starts several processes: leave it 1 GiB or more.")
    return Finding("memory", "ok", detail)


def existing(path: Path) -> Path:
    """The directory, or the nearest one above it that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _syncs(handle: int, clock: Callable[[], float]) -> Iterator[float]:
    for _ in range(_SYNCS):
        began = clock()
        os.write(handle, b"\0" * _SYNC_BYTES)
        os.fdatasync(handle)
        yield clock() - began


def _port_of(home: Home) -> int | None:
    try:
        return urlsplit(str(home.address().get("url"))).port
    except (PlatformNotRunning, SettingsError, ValueError):
        return None
