"""`segment-do profile`: one person, or account, as an identity knows it; why it is one, and how that is changed by hand.

`segment-do profile IDENTITY ID` is short for `segment-do profile show IDENTITY ID`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from segment_do.cli import computations, profile_rules, profile_tokens
from segment_do.cli.client import connect, path_part
from segment_do.cli.files import read_text
from segment_do.cli.options import HomeOption, JsonOption, LimitOption
from segment_do.cli.output import as_text, note, print_json, print_table, print_text
from segment_do.errors import InvalidRequest

__all__ = ["app"]


class _Group(TyperGroup):
    """Takes what is none of its commands for the arguments of ``show``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((each for each in args if not each.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["show", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="People and accounts: what is known of them, why they are one, changes by hand.",
)
app.add_typer(computations.app, name="computations")
app.add_typer(profile_rules.app, name="rules")
app.add_typer(profile_tokens.app, name="tokens")


def _checked(external_id: str) -> str:
    kind, colon, value = external_id.partition(":")
    if not (kind and colon and value):
        raise typer.BadParameter("A profile is named by one of its ids, as in user_id:u1.")
    return external_id


def _named(profile: str) -> str:
    return profile if profile.startswith(("use_", "acc_")) else _checked(profile)


_Identity = Annotated[str, typer.Argument(help="Agent or application whose graph it is.")]
_Profile = Annotated[
    str,
    typer.Argument(
        metavar="TYPE:VALUE", callback=_named, help="One of its ids, such as user_id:u1, or its profile id."
    ),
]
_Id = Annotated[
    str, typer.Argument(metavar="TYPE:VALUE", callback=_checked, help="One of its ids, such as user_id:u1.")
]
_Other = Annotated[
    str, typer.Argument(metavar="TYPE:VALUE", callback=_checked, help="Another id, such as email:u1@example.com.")
]


@app.command()
def show(
    identity: _Identity,
    external_id: _Profile,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show a profile: its ids and traits."""
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


@app.command()
def why(
    identity: _Identity, one: _Profile, other: _Profile, as_json: JsonOption = False, home: HomeOption = None
) -> None:
    """Show the events that make two ids one profile.

    With --json the chain as one object; null where they are not one.
    """
    with connect(home) as platform:
        told = platform.get(_path(identity, "why"), **{"from": one, "to": other})
    chain = told["chain"]
    if as_json:
        print_json(told)
    elif chain is None:
        note(f"{one} and {other} are not one profile.")
    elif not chain:
        note("They are the same id.")
    else:
        print_table(["bond", "when", "rule", "message", "source", "ids"], [_edge_row(each) for each in chain])


@app.command()
def history(identity: _Identity, external_id: _Profile, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show what made a profile, in the order in which it counts.

    With --json one object a step.
    """
    with connect(home) as platform:
        steps = platform.get(_path(identity, "history"), id=external_id)["steps"]
    if as_json:
        print_json(*steps)
    elif steps:
        rows = [
            [*_edge_row(each["edge"])[:4], ", ".join(each["joined"]), ", ".join(each["leftOut"]), each["merged"]]
            for each in steps
        ]
        print_table(["bond", "when", "rule", "message", "one profile", "left out", "merged"], rows)
    else:
        note("Nothing was joined: the profile is this one id.")


@app.command()
def traits(
    identity: _Identity,
    external_id: _Profile,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this trait.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show the values that traits had, the newest first: of each the last event that set it.

    With --json one object a trait.
    """
    query = {"id": external_id} | ({} if name is None else {"name": name})
    with connect(home) as platform:
        told = platform.get(_path(identity, "trait-history"), **query)["traits"]
    if as_json:
        print_json(*told)
    elif told:
        rows = [
            [each["name"], value["value"], value["timestamp"], value["messageId"], value["sourceId"]]
            for each in told
            for value in each["values"]
        ]
        print_table(["trait", "value", "when", "message", "source"], rows)
    else:
        note("It never had that trait." if name is not None else "It has no traits.")


@app.command()
def unmerge(
    identity: _Identity,
    bond: Annotated[int, typer.Argument(min=1, help="Number of the bond, as `profile why` and `history` show it.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Undo what one event brought together."""
    with connect(home) as platform:
        told = platform.post(_path(identity, "unmerge"), {"bond": bond})
    _done(told, as_json, f"Bond {bond} is undone.")


@app.command()
def merge(identity: _Identity, one: _Id, other: _Other, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Make the profiles of two ids one, whatever the limits say."""
    with connect(home) as platform:
        told = platform.post(_path(identity, "merge"), {"ids": [one, other]})
    _done(told, as_json, f"They are {told['profileId']} now.")


@app.command()
def split(
    identity: _Identity,
    external_ids: Annotated[list[str], typer.Argument(metavar="TYPE:VALUE...", help="The ids to take out, together.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Take ids out of their profile."""
    ids = [_checked(each) for each in external_ids]
    with connect(home) as platform:
        told = platform.post(_path(identity, "split"), {"ids": ids})
    if as_json:
        print_json(told)
    else:
        print_table(["id", "profile now"], list(told["profileIds"].items()))


@app.command()
def simulate(
    identity: _Identity,
    event: Annotated[
        str, typer.Argument(metavar="EVENT", help="A tracking event, JSON; - reads standard input.")
    ] = "-",
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Read the event from a file.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show which profile an event would belong to, and what would become of ids. Nothing is stored."""
    with connect(home) as platform:
        told = platform.post(_path(identity, "simulate"), {"event": _event(event, file)})
    if as_json:
        print_json(told)
        return
    if told["profileId"] is None:
        note("It carries no id that counts: it would belong to no profile. Nothing was stored.")
        return
    print_text(f"profileId  {told['profileId']}")
    if told["moved"]:
        print_text("")
        rows = [[each["type"], each["id"], each.get("from"), each["to"]] for each in told["moved"]]
        print_table(["id", "value", "from", "to"], rows)
    note("Nothing was stored.")


@app.command()
def audit(identity: _Identity, limit: LimitOption = 20, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show what was changed by hand, the newest first.

    With --json one object a line.
    """
    with connect(home) as platform:
        lines = platform.get(_path(identity, "audit"), limit=limit)["lines"]
    if as_json:
        print_json(*lines)
    elif lines:
        print_table(
            ["line", "when", "action", "detail"],
            [[each["line"], each["at"], each["action"], each["detail"]] for each in lines],
        )
    else:
        note("Nothing was changed by hand.")


def _path(identity: str, what: str) -> str:
    return f"/api/identities/{path_part(identity)}/{what}"


def _edge_row(edge: dict[str, Any]) -> list[Any]:
    return [
        edge["bond"],
        edge["timestamp"],
        edge["rule"],
        edge["messageId"],
        edge["sourceId"],
        ", ".join(edge["ids"]),
    ]


def _done(told: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(told)
    else:
        print_text(text)


def _event(given: str, file: Path | None) -> Any:
    try:
        text = read_text(file) if file is not None else sys.stdin.read() if given == "-" else given
        found = msgspec.json.decode(text)
    except (UnicodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The event is no JSON that can be read: {error}.") from None
    if not isinstance(found, dict):
        raise InvalidRequest("An event is a JSON object.")
    return found
