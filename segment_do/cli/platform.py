"""`segment-do status`, `token` and `version`: the platform that runs, seen from outside."""

from __future__ import annotations

import os
import platform as machine
import time
from typing import Annotated, Any

import typer

from segment_do.cli.client import connect
from segment_do.cli.options import HomeOption, JsonOption, use_home
from segment_do.cli.output import print_json, print_table, print_text
from segment_do.sdk.source import Place
from segment_do.version import __version__

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(token)
    app.command()(version)


def status(
    over: Annotated[
        float, typer.Option("--over", min=0, max=60, help="Measure rates over so many seconds; 0 leaves them out.")
    ] = 0.5,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show the platform's components, counts and rates.

    With --json all that the platform tells about itself, in one object.
    """
    with connect(home) as platform:
        before, began = platform.get("/api/status"), time.monotonic()
        if as_json:
            print_json(before)
            return
        now, seconds = before, 0.0
        if over:
            platform.pause(over)  # on the same connection, so that both counts are of the same replica
            now, seconds = platform.get("/api/status"), time.monotonic() - began
    state = "ready" if now.get("ready") else "not ready"
    print_text(f"segment_do {now.get('version', '?')}  {now.get('url', '')}  {state}  home {now.get('home', '')}")
    print_text("")
    components = now.get("components") or []
    print_table(
        ["component", "state", "detail"],
        [[one.get("name"), one.get("state"), one.get("detail")] for one in components if isinstance(one, dict)],
    )
    rows = _counts(now, before, seconds)
    if rows:
        print_text("")
        print_table(["part", "count", "value", "per second"], rows)
    for name in ("destinations", "identities"):
        _table_of(name, now.get(name) or (now.get("queue") or {}).get(name))


def token(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Print the admin token. Whoever has it controls the platform."""
    use_home(home)
    found = Place.find(None, None, None).admin_token()
    if as_json:
        print_json({"token": found})
    else:
        print_text(found)


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__, "python": machine.python_version(), "system": os.uname().sysname})
    else:
        print_text(__version__)


def _counts(now: dict[str, Any], before: dict[str, Any], seconds: float) -> list[list[Any]]:
    """Numbers and texts of each part; counts that grew between two looks get a rate."""
    rows: list[list[Any]] = []
    for part in ("ingress", "queue", "warehouse"):
        fields = now.get(part)
        if not isinstance(fields, dict):
            continue
        earlier = before.get(part)
        for name, value in fields.items():
            if isinstance(value, (dict, list)):
                continue
            was = earlier.get(name) if isinstance(earlier, dict) else None
            rate = ""
            if seconds and isinstance(value, int) and isinstance(was, int) and value > was:
                rate = f"{(value - was) / seconds:,.0f}"
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
            rows.append([part, name, shown, rate])
    return rows


def _table_of(name: str, told: Any) -> None:
    if isinstance(told, dict):  # id → fields
        told = [{"id": key, **fields} for key, fields in told.items() if isinstance(fields, dict)]
    rows = [one if isinstance(one, dict) else {"name": one} for one in told] if isinstance(told, list) else []
    if rows:
        columns = list(dict.fromkeys(key for one in rows for key in one))
        print_text("")
        print_text(name)
        print_table(columns, [[one.get(column) for column in columns] for one in rows])
