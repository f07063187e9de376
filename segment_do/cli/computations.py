"""`segment-do profile computations`: computed traits and audiences of one identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.files import read_object
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Computed traits and audiences of an identity.")

_Identity = Annotated[str, typer.Argument(help="Agent or application whose people they are of.")]


@app.command("list")
def list_(identity: _Identity, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List them, traits first. With --json one object a line."""
    with connect(home) as platform:
        found = platform.get(_path(identity))["computations"]
    _print(found, as_json)


@app.command("set")
def set_(
    identity: _Identity,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The definition, JSON (docs/computed-traits.md).")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Add one, or put it in the place of the one with its key. It counts events from now on."""
    definition = read_object(file)
    with connect(home) as platform:
        found = platform.put(f"{_path(identity)}/{path_part(str(definition.get('key', '')))}", definition)
    _print(found["computations"], as_json)


@app.command()
def remove(
    identity: _Identity,
    key: Annotated[str, typer.Argument(help="Its key.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Take one away; nothing more is told of it."""
    with connect(home) as platform:
        told = platform.delete(f"{_path(identity)}/{path_part(key)}")
    if as_json:
        print_json(told)
    else:
        print_text(f"{key} is no more.")


def _path(identity: str) -> str:
    return f"/api/identities/{path_part(identity)}/computations"


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(*found)
    elif found:
        rows = [
            [each["definition"]["key"], each["definition"]["class"], each["definition"].get("kind", ""), each["since"]]
            for each in found
        ]
        print_table(["key", "class", "kind", "since"], rows)
    else:
        note("There are none yet. `segment-do profile computations set IDENTITY FILE` adds one.")
