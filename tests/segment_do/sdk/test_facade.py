"""The public surface: what is exported, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import segment_do
from segment_do import sdk
from segment_do.version import __version__

ROOT = Path(__file__).parents[3]


def test_exported_names_are_sorted_and_exist() -> None:
    """`__all__` is the surface, in both facades."""
    for package in (segment_do, sdk):
        assert package.__all__ == sorted(package.__all__)
        assert all(hasattr(package, name) for name in package.__all__)
    assert segment_do.__version__ == __version__


def test_the_package_is_typed() -> None:
    """Type checkers read the annotations only where py.typed lies."""
    assert (Path(segment_do.__file__).parent / "py.typed").exists()


def test_importing_stays_cheap() -> None:
    """No framework, no HTTP client, no event loop until they are needed; the test mode included."""
    heavy = ["aiosqlite", "asyncio", "duckdb", "fastapi", "httpx", "pyarrow", "pydantic", "ray", "yaml"]
    program = f"import sys, segment_do, segment_do.sdk.testing; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_typed_surface_passes_the_strict_checker() -> None:
    """tests/typing/api.py is code as users write it."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "tests/typing/api.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
