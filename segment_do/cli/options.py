"""Options that many commands share, and which data directory they mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from segment_do.cli.output import note

__all__ = ["DEFAULT_HOME", "HomeOption", "JsonOption", "LimitOption", "TimeoutOption", "chosen_home", "use_home"]

DEFAULT_HOME: Final = "~/.segment_do"  # as in segment_do.settings, which needs pydantic

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="Data directory of the platform; SEGMENT_DO_HOME wins where it is set."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many, newest first.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Longest wait, seconds.")]


def use_home(given: str | None) -> None:
    """Let ``--home`` decide where the environment does not. Other code (``dev``, the settings) reads the environment alone."""
    if given is None:
        return
    known = os.environ.setdefault("SEGMENT_DO_HOME", given)
    if _full(known) != _full(given):
        note(f"SEGMENT_DO_HOME is set to {known} and wins over --home {given}.")


def chosen_home() -> Path:
    """The data directory in use."""
    return _full(os.environ.get("SEGMENT_DO_HOME") or DEFAULT_HOME)


def _full(home: str) -> Path:
    return Path(home).expanduser().absolute()
