"""The `segment-do` command: a thin client of the control API, for people and, with ``--json``, for programs.

Promised by every command: data on stdout and everything else on stderr; exit 0 when it did what was asked, 1 when it failed
(one sentence and a hint, no traceback), 2 when it was called wrongly, 130 after Ctrl-C. It reads no file of a running platform
but ``run.json`` and ``token``, and imports neither Ray nor the server.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of `segment-do`. Leaves with the exit code."""
    try:
        from segment_do.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        # A program that only sends events installs neither.
        sys.stderr.write(
            f"Error: The command line needs {error.name}. Install it with `pip install segment-do[server]`.\n"
        )
        sys.exit(1)
    app(prog_name="segment-do")
