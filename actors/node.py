"""One machine's platform: a Ray of its own, the actors, the ingress. Run by the supervisor as ``python -m actors.node``.

Tells what happens as JSON lines on stdout. Ends when it is told to (SIGTERM: everything is stopped in order) or when a part of Ray itself
dies; then the supervisor clears up and starts it again, and everything comes back from the data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import yaml

from segment_do.settings import Settings, load_settings

__all__ = ["main"]

_WATCH_SECONDS: Final = 0.5
_OBJECT_STORE_BYTES: Final = 128 * 2**20
_INLINE_BYTES: Final = 2 * 2**20
_DISPENSABLE: Final = ("autoscaler/_private/monitor.py", "_private/log_monitor.py", "dashboard/dashboard.py")
_RAY_PROCESSES: Final = ("raylet", "gcs_server")
GRAPH_FILE: Final = "ray_config.yaml"


def main() -> None:
    """Start, watch, stop. Exit status 0 after an orderly stop, 1 when something has to be started again."""
    import actors.lean  # noqa: F401  # before Ray

    settings = load_settings()
    os.environ.update(_ray_environment(settings))
    asyncio.run(_run(settings))


def _ray_environment(settings: Settings) -> dict[str, str]:
    """What Ray reads at start. A value given from outside wins."""
    wanted = {
        # Workers otherwise run at niceness 15 and lose the processor to any other program.
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Packs of up to a megabyte travel inside the call: the detour through the object store costs more.
        "RAY_max_direct_call_object_size": str(_INLINE_BYTES),
        "RAY_task_rpc_inlined_bytes_limit": str(16 * _INLINE_BYTES),
        "RAY_preload_python_modules": "actors.lean",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "1",
        "RAY_enable_metrics_collection": "0",
        "SEGMENT_DO_HOME": str(settings.paths.root),
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    begun = time.monotonic()

    def tell(component: str, state: str, **more: Any) -> None:
        line = {"component": component, "state": state, "seconds": round(time.monotonic() - begun, 2), **more}
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()

    starting = asyncio.create_task(asyncio.to_thread(_start, settings, tell))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await starting  # Ray cannot be stopped half-way up
    starting.result()
    watched = _ray_parts()
    while not stop.is_set():
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                await stop.wait()
        except TimeoutError:
            dead = [part.info["name"] for part in watched if not _alive(part)]
            if dead:
                tell("ray", "died", detail=", ".join(dead))
                os._exit(1)  # nothing in Ray can be stopped in order any more; the supervisor clears up
    stopping.cancel()
    tell("platform", "stopping")
    await asyncio.to_thread(_stop)
    tell("platform", "stopped")


def _start(settings: Settings, tell: Callable[..., None]) -> None:
    import ray
    from ray import serve

    from actors.app import build
    from actors.calls import names_ready
    from actors.process import freeze_imports

    ray.init(
        address="local",
        namespace="segment_do",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        num_cpus=max(4, os.cpu_count() or 1),
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(ray_directory(settings)),
    )
    tell("ray", "ready", version=ray.__version__)
    application = _application()
    serve.start(proxy_location=application["proxy_location"], logging_config={"enable_access_log": False})
    bound = build(application["args"])
    tell("serve", "ready")
    serve.run(bound, name=application["name"], route_prefix=application["route_prefix"])
    tell("ingress", "ready")
    for name, seconds in names_ready(["control", "queue", "warehouse"]):
        tell(name, "ready", took=seconds)
    tell("platform", "ready")
    _end_dispensable()
    freeze_imports()


def _end_dispensable() -> None:
    """End the parts of Ray that one machine has no use for (autoscaler, log forwarding, dashboard): 280 MB resident."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(part.endswith(name) for part in child.cmdline() for name in _DISPENSABLE):
                child.terminate()


def _application() -> dict[str, Any]:
    """The graph that ``serve deploy`` would deploy, from the same file."""
    beside = Path(__file__).with_name(GRAPH_FILE)  # in a wheel
    path = beside if beside.exists() else Path(__file__).parent.parent / GRAPH_FILE
    config = yaml.safe_load(path.read_text())
    application = config["applications"][0]
    return {
        "proxy_location": config.get("proxy_location", "Disabled"),
        "name": application["name"],
        "route_prefix": application["route_prefix"],
        "args": application.get("args") or {},
    }


def _stop() -> None:
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()


def ray_directory(settings: Settings) -> Path:
    """Ray's own files: in a short path (its sockets must fit in 107 characters), another for each home."""
    import hashlib

    name = hashlib.blake2b(str(settings.paths.root).encode(), digest_size=6).hexdigest()
    return Path("/tmp") / f"segment_do-{os.getuid()}-{name}"  # noqa: S108  # Ray makes it private to the user


def _ray_parts() -> list[psutil.Process]:
    parts = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name() in _RAY_PROCESSES:
                child.info = {"name": child.name()}
                parts.append(child)
        except psutil.NoSuchProcess:
            continue
    return parts


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
