"""`segment-do profile`: one person, or account, as an identity knows it."""

from __future__ import annotations

from typing import Annotated

import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import as_text, print_json, print_table, print_text

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(profile)


def profile(
    identity: Annotated[str, typer.Argument(help="Agent or application whose graph it is.")],
    external_id: Annotated[str, typer.Argument(metavar="TYPE:VALUE", help="One of its ids, such as user_id:u1.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show a profile: its ids and traits."""
    kind, colon, value = external_id.partition(":")
    if not (kind and colon and value):
        raise typer.BadParameter("A profile is named by one of its ids, as in user_id:u1.")
    with connect(home) as platform:
        found = platform.get(f"/api/profiles/{path_part(identity)}/{path_part(external_id)}")
    if as_json:
        print_json(found)
        return
    for name, about in found.items():
        if name not in ("externalIds", "traits") and about not in (None, [], {}):
            print_text(f"{name}  {as_text(about)}")
    print_text("")
    print_table(["id", "value"], [[one.get("type"), one.get("id")] for one in found.get("externalIds") or []])
    traits = found.get("traits") or {}
    if traits:
        print_text("")
        print_table(["trait", "value"], list(traits.items()))
