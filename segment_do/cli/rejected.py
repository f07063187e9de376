"""`segment-do rejected`: events that were set aside, and why."""

from __future__ import annotations

import typer

from segment_do.cli.client import connect
from segment_do.cli.options import HomeOption, JsonOption, LimitOption
from segment_do.cli.output import note, print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rejected)


def rejected(limit: LimitOption = 50, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show events that were set aside, newest first.

    With --json one object a line, with the event as it was sent.
    """
    with connect(home) as platform:
        found = platform.get("/api/rejected", limit=limit)["rejected"]
    if as_json:
        print_json(*found)
    elif found:
        columns = ["receivedAt", "sourceId", "code", "message", "type", "messageId"]
        print_table(columns, [[one.get(column) for column in columns] for one in found])
    else:
        note("No events were set aside.")
