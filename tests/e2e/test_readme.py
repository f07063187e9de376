"""The README's sixty seconds, run as they stand against a platform."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

import pytest

from tests.load.platform import Platform

pytestmark = pytest.mark.platform

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_shell_lines_run(platform: Platform) -> None:
    """Each line of each shell block succeeds, and the query shows the event that was just sent."""
    env = platform.env | {"PATH": f"{Path(sys.executable).parent}:{platform.env['PATH']}"}
    told = ""
    for block in blocks("sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        told += done.stdout
    assert "Order Completed" in told
    assert "ada" in told


async def run(code: str, names: dict[str, Any]) -> None:
    compiled = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)
    if compiled.co_flags & CO_COROUTINE:
        await result


async def test_the_python_runs(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's example as it stands; the Segment one with the key and the host of this platform."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(platform.home))
    ours, segments = blocks("python")
    names: dict[str, Any] = {}
    await run(ours, names)
    await names["tom"].close()
    assert isinstance(names["rows"], list)
    key = platform.create_source("readme", "readme")["writeKey"]
    code = segments.replace("the key that `segment-do sources create` printed", key)
    await run(code.replace("http://127.0.0.1:8000", platform.url), names)
    names["analytics"].shutdown()
    for _ in range(100):
        if platform.sql("SELECT 1 FROM events WHERE identity = 'readme' AND event = 'Order Completed'"):
            break
    else:
        raise AssertionError("the event of the README did not arrive")
