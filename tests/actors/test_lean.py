"""Workers without Arrow, and the one that has it."""

from __future__ import annotations

import subprocess
import sys


def test_arrow_is_kept_out_until_it_is_allowed() -> None:
    """After the import Arrow looks as if it were not installed, which Ray takes well; once allowed it is there as ever."""
    code = """
import actors.lean
try:
    import pyarrow
except ModuleNotFoundError:
    actors.lean.allow_arrow()
    actors.lean.allow_arrow()
    import pyarrow
    print(pyarrow.array([1]).to_pylist())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "[1]\n", told.stderr


def test_arrow_that_is_there_stays() -> None:
    """A process that uses Arrow already is left alone."""
    code = "import pyarrow, actors.lean; import pyarrow as again; print(again is pyarrow)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "True\n", told.stderr
