"""`segment-do profile rules`: the rules by which one identity joins ids, and what others would make of its profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.files import read_object
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The rules by which an identity joins ids.")

_Identity = Annotated[str, typer.Argument(help="Agent or application whose graph it is.")]


@app.command()
def show(identity: _Identity, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show the rules in use; what is not named has its default."""
    with connect(home) as platform:
        _print(platform.get(_path(identity)), as_json)


@app.command("set")
def set_(
    identity: _Identity,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rules, JSON.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what they would make of the profiles; change nothing.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Give an identity rules of its own; its profiles are made anew by them."""
    rules = read_object(file)
    with connect(home) as platform:
        told = platform.put(_path(identity) + ("?dryRun=true" if dry_run else ""), rules)
    if not dry_run or as_json:
        _print(told, as_json)
        return
    print_text(f"profiles  {told['profilesBefore']} now, {told['profilesAfter']} then")
    print_text(f"ids       {told['idsMoved']} would belong to another profile")
    if told["examples"]:
        print_text("")
        print_table(["id", "value", "to"], [[each["type"], each["id"], each["to"]] for each in told["examples"]])
    note("Nothing was changed.")


@app.command()
def reset(identity: _Identity, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Take an identity's own rules away; those of the settings hold again."""
    with connect(home) as platform:
        _print(platform.delete(_path(identity)), as_json)


def _path(identity: str) -> str:
    return f"/api/identities/{path_part(identity)}/rules"


def _print(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    for line in msgspec.json.format(msgspec.json.encode(told["rules"]), indent=2).decode().splitlines():
        print_text(line)
    note("They are the identity's own." if told["own"] else "They are those of the settings.")
