"""The structure: imports flow one way, Ray stays in its shells, the SDK stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "segment_do": set(),
    "destinations": {"segment_do"},
    "warehouse": {"segment_do"},
    "actors": {"segment_do", "destinations", "warehouse"},
}
RAY_SHELLS = {
    "actors/app.py",
    "actors/calls.py",
    "actors/node.py",
    "actors/control/actor.py",
    "actors/identity/actor.py",
    "actors/ingress/deployment.py",
    "actors/queue/actor.py",
    "actors/warehouse/actor.py",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_flow_one_way(package: str) -> None:
    """segment_do ← destinations, warehouse ← actors; destinations and warehouse never import each other."""
    allowed = MAY_IMPORT[package] | {package}
    for path in (ROOT / package).rglob("*.py"):
        assert set(imports(path)) & set(MAY_IMPORT) <= allowed, path


def test_only_the_shells_import_ray() -> None:
    """Rules are plain code: what imports Ray is a short list of short files."""
    found = {
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        if "ray" in imports(path)
    }
    assert found == RAY_SHELLS
    for name in RAY_SHELLS:
        assert len((ROOT / name).read_text().splitlines()) < 200, name


def test_the_sdk_imports_little() -> None:
    """A program that only sends events loads neither the server's libraries nor the HTTP client before it sends."""
    heavy = ["ray", "pyarrow", "duckdb", "pyiceberg", "pydantic", "fastapi", "numpy", "httpx"]
    code = f"import sys, segment_do; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
