"""Facts about this machine and what a platform's processes use of it, from /proc."""

from __future__ import annotations

import contextlib
import os
import platform as system
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tests.load.platform import Platform

__all__ = ["cpu_seconds", "facts", "memory", "others_busy"]


def facts(folder: Path) -> dict[str, Any]:
    """Cores, kernel, memory, and how long one fdatasync of 16 KB takes in ``folder``."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        system.machine(),
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memoryBytes": psutil.virtual_memory().total,
        "kernel": system.release(),
        "python": system.python_version(),
        **_sync_latency(folder),
        "othersBusyCores": round(others_busy(), 2),
    }


def _sync_latency(folder: Path, times: int = 100) -> dict[str, float]:
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * 16_384)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    took.sort()
    return {"fdatasyncP50Ms": round(statistics.median(took) * 1e3, 3), "fdatasyncP99Ms": round(took[-2] * 1e3, 3)}


def others_busy(seconds: float = 1.0) -> float:
    """Cores in use while this process sleeps: above a few hundredths every figure below is too low."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    idle = (after.idle + after.iowait) - (before.idle + before.iowait)
    return max(0.0, (os.cpu_count() or 1) - idle / seconds)


def cpu_seconds(platform: Platform) -> Counter[str]:
    """CPU seconds used so far, by part. What a process that has died used is not in it."""
    used: Counter[str] = Counter()
    for part in platform.processes():
        with contextlib.suppress(psutil.Error):
            times = part.process.cpu_times()
            used.update({part.name: times.user + times.system})
    return used


def memory(platform: Platform) -> list[dict[str, Any]]:
    """Each process with its resident and proportional bytes, largest first."""
    found = []
    for part in platform.processes():
        with contextlib.suppress(psutil.Error):
            full = part.process.memory_full_info()
            found.append({"part": part.name, "pid": part.process.pid, "rssBytes": full.rss, "pssBytes": full.pss})
    return sorted(found, key=lambda each: -int(each["pssBytes"]))
