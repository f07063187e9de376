"""`segment-do profile tokens`: what opens an identity's profiles to the Profile API. A token is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Tokens of the Profile API.")

_Identity = Annotated[str, typer.Argument(help="Agent or application whose profiles it opens.")]


@app.command()
def create(
    identity: _Identity,
    name: Annotated[str, typer.Option("--name", help="What to call it.")] = "token",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a token; it is shown this once."""
    with connect(home) as platform:
        made = platform.post(_path(identity), {"name": name})
    if as_json:
        print_json(made)
        return
    print_text(made["token"])
    note(f"Keep it: it cannot be shown again. {made['id']} is its id.")


@app.command("list")
def list_(identity: _Identity, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the tokens of an identity, without their secrets.

    With --json one object a line.
    """
    with connect(home) as platform:
        tokens = platform.get(_path(identity))["tokens"]
    if as_json:
        print_json(*tokens)
    elif tokens:
        print_table(["id", "name", "created"], [[one["id"], one["name"], one["createdAt"]] for one in tokens])
    else:
        note("There are no tokens. `segment-do profile tokens create` makes one.")


@app.command()
def revoke(
    identity: _Identity,
    token_id: Annotated[
        str, typer.Argument(metavar="TOKEN", help="Id of the token, as `profile tokens list` shows it.")
    ],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """End a token; it is refused within a second."""
    with connect(home) as platform:
        told = platform.delete(f"{_path(identity)}/{path_part(token_id)}")
    if as_json:
        print_json(told)
    else:
        print_text(f"Revoked {token_id}.")


def _path(identity: str) -> str:
    return f"/api/identities/{path_part(identity)}/profile-tokens"
