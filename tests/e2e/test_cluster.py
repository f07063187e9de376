"""`serve deploy ray_config.yaml` on a Ray that was started by hand gives the same platform as `segment-do dev`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.load.platform import free_port

pytestmark = pytest.mark.platform

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@contextlib.contextmanager
def cluster(env: dict[str, str]) -> Iterator[str]:
    """`ray start --head` in a directory of its own; the address of its dashboard. Everything of it is killed at the end."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        dashboard = free_port()
        command = [
            str(BIN / "ray"), "start", "--head", "--node-ip-address", "127.0.0.1", "--temp-dir", directory,
            "--port", str(free_port()), "--dashboard-port", str(dashboard),
            "--dashboard-agent-listen-port", str(free_port()),
            "--num-cpus", "4", "--object-store-memory", str(100 * 2**20), "--disable-usage-stats",
        ]  # fmt: skip
        before = {process.pid for process in psutil.process_iter()}
        try:
            subprocess.run(command, env=env, check=True, capture_output=True, timeout=90)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            started = [process for process in psutil.process_iter() if process.pid not in before]
            ours = []
            for process in started:
                with contextlib.suppress(psutil.Error):
                    if directory in " ".join(process.cmdline()) or process.environ().get("SEGMENT_DO_HOME") == env.get(
                        "SEGMENT_DO_HOME"
                    ):
                        ours += [process, *process.children(recursive=True)]
            for process in ours:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(ours, timeout=10.0)


def test_serve_deploy(tmp_path: Path) -> None:
    """Deployed by Ray Serve's own command, it takes an event and finds it by SQL."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SEGMENT_DO_", "RAY_"))}
    env |= {
        "SEGMENT_DO_HOME": str(tmp_path / "home"),
        "SEGMENT_DO_PORT": str(port),
        "RAY_AUTH_MODE": "token",
        "RAY_worker_niceness": "0",
        "PATH": f"{BIN}:{env['PATH']}",
    }
    with cluster(env) as dashboard, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
        deploy = [str(BIN / "serve"), "deploy", "-a", dashboard, "ray_config.yaml"]
        deployed = subprocess.run(deploy, env=env, cwd=ROOT, capture_output=True, text=True, timeout=90)
        assert deployed.returncode == 0, deployed.stderr
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if client.get("/ready").status_code == 200:
                    break
        token = (tmp_path / "home" / "token").read_text().strip()
        admin = {"authorization": f"Bearer {token}"}
        source = client.post("/api/sources", json={"name": "cluster"}, headers=admin).json()
        event = {"userId": "u", "event": "From a cluster", "messageId": "c1"}
        assert client.post("/v1/track", json=event, auth=(source["writeKey"], "")).status_code == 200
        while time.monotonic() < deadline:
            rows = client.post("/api/sql", json={"sql": "SELECT event FROM events"}, headers=admin).json()["rows"]
            if rows:
                break
        assert rows == [["From a cluster"]]
