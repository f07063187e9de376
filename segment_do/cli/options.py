"""Options that many commands share, and which data directory they mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = ["DEFAULT_HOME", "HomeOption", "JsonOption", "LimitOption", "TimeoutOption", "chosen_home", "use_home"]

DEFAULT_HOME: Final = "~/.segment_do"  # as in segment_do.settings, which needs pydantic

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="Data directory of the platform, instead of SEGMENT_DO_HOME."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many, newest first.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Longest wait, seconds.")]


def use_home(given: str | None) -> None:
    """Let ``--home`` decide: what was typed wins over the environment, which is all that other code reads."""
    if given is not None:
        os.environ["SEGMENT_DO_HOME"] = given


def chosen_home() -> Path:
    """The data directory in use."""
    return _full(os.environ.get("SEGMENT_DO_HOME") or DEFAULT_HOME)


def _full(home: str) -> Path:
    return Path(home).expanduser().absolute()
