"""`segment-do sources`: where events come from, and their write keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segment_do.cli import oauth, webhooks
from segment_do.cli.client import connect, path_part
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Where events come from, and their write keys.")
app.add_typer(oauth.app, name="oauth")
app.add_typer(webhooks.app, name="webhook")

_SourceId = Annotated[str, typer.Argument(metavar="ID", help="Id of the source, as `sources list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    identity: Annotated[
        str | None,
        typer.Option("--identity", help="Agent or application that owns its events; default: from the name."),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Create a source and print its write key."""
    with connect(home) as platform:
        told: dict[str, Any] = {"name": name}
        if identity is not None:
            told["identity"] = identity
        _show(platform.post("/api/sources", told), as_json)


@app.command("list")
def list_(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List all sources with their write keys.

    With --json one object a line.
    """
    with connect(home) as platform:
        sources = platform.get("/api/sources")["sources"]
    if as_json:
        print_json(*sources)
    elif sources:
        print_table(
            ["id", "name", "identity", "write key", "created"],
            [[one["id"], one["name"], one["identity"], one["writeKey"], one["createdAt"]] for one in sources],
        )
    else:
        note("There are no sources yet. `segment-do sources create NAME` makes one.")


@app.command()
def rotate(source_id: _SourceId, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Give a source a new write key; the old one stops working at once."""
    with connect(home) as platform:
        _show(platform.post(f"/api/sources/{path_part(source_id)}/rotate"), as_json)


@app.command()
def delete(source_id: _SourceId, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Delete a source: its write key stops working, its events stay."""
    with connect(home) as platform:
        told = platform.delete(f"/api/sources/{path_part(source_id)}")
    if as_json:
        print_json(told)
    else:
        print_text(f"Deleted {source_id}.")


def _show(source: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(source)
        return
    for label, field in (("id", "id"), ("name", "name"), ("identity", "identity"), ("write key", "writeKey")):
        print_text(f"{label:<10} {source[field]}")
