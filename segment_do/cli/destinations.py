"""`segment-do destinations`: where events go. The types, and the settings each takes, come from the platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import typer

from segment_do.cli.client import Client, connect, path_part
from segment_do.cli.options import HomeOption, JsonOption, LimitOption
from segment_do.cli.output import note, print_json, print_table, print_text
from segment_do.errors import InvalidRequest, SegmentDoError

__all__ = ["app", "parse_settings"]

app = typer.Typer(no_args_is_help=True, help="Where events are delivered, and what became of them.")

_DestinationId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the destination, as `destinations list` shows it.")
]
_COMPUTED: Final = "computed"  # segment_do.computed.COMPUTED_SOURCE, without loading what it needs
_JSON_FIELDS: Final = ("boolean", "integer", "mapping")
"""Field types whose values are JSON; those of the others are text, whatever they look like."""


@app.command()
def add(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Type, as `destinations types` shows it.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; headers.X-Token=abc adds an entry to a mapping."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="ID|NAME",
            help="Deliver this source's events; default: all. `computed`: what computed traits and audiences tell.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name to show; default: the type's.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Add a destination; it gets every event from now on."""
    with connect(home) as platform:
        told: dict[str, Any] = {"type": type_, "settings": parse_settings(settings or [], _fields(platform, type_))}
        if source is not None:
            told["sourceId"] = source if source == _COMPUTED else platform.source(source)["id"]
        if name is not None:
            told["name"] = name
        added = platform.post("/api/destinations", told)
    if as_json:
        print_json(added)
    else:
        print_text(f"Added {added['type']} {added['id']}.")
        note(f"Try it with `segment-do destinations test {added['id']}`.")


@app.command("list")
def list_(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List destinations and how their delivery is doing.

    With --json one object a line.
    """
    with connect(home) as platform:
        found = platform.get("/api/destinations")["destinations"]
    if as_json:
        print_json(*found)
    elif found:
        counts = ["state", "delivered", "lag", "retrying", "dead", "lastFailure"]
        rows = []
        for one in found:
            delivery = one.get("delivery") or {}
            about = [one["id"], one["type"], one.get("name"), one.get("sourceId") or "all"]
            rows.append([*about, *[delivery.get(count) for count in counts]])
        print_table(["id", "type", "name", "source", "state", *counts[1:5], "last failure"], rows)
    else:
        note("There are no destinations yet. `segment-do destinations add TYPE` adds one.")


@app.command()
def types(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the types of destinations and their settings.

    With --json one object a line.
    """
    with connect(home) as platform:
        found = platform.get("/api/destination-types")["types"]
    if as_json:
        print_json(*found)
        return
    for index, one in enumerate(found):
        if index:
            print_text("")
        print_text(f"{one['type']}: {one.get('description', '')}")
        print_table(
            ["setting", "type", "required", "secret", "default", "description"],
            [
                [field["name"], field["type"], field.get("required", False), field.get("secret", False),
                 field.get("default"), field.get("description")]
                for field in one.get("fields") or []
            ],
        )  # fmt: skip


@app.command("test")
def try_(destination_id: _DestinationId, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Send one sample event now.

    Exit code 1 if the destination did not take it.
    """
    with connect(home) as platform:
        told = platform.post(f"/api/destinations/{path_part(destination_id)}/test")
    if as_json:
        print_json(told)
    elif told.get("ok"):
        print_text(f"The destination took the event (status {told.get('status')}). {told.get('detail') or ''}".rstrip())
    if not told.get("ok"):
        status = f" (status {told['status']})" if told.get("status") else ""
        raise SegmentDoError(f"The destination did not take the event{status}: {told.get('detail') or 'no detail'}")


@app.command()
def remove(destination_id: _DestinationId, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Remove a destination, with what it still had to deliver."""
    with connect(home) as platform:
        told = platform.delete(f"/api/destinations/{path_part(destination_id)}")
    if as_json:
        print_json(told)
    else:
        print_text(f"Removed {destination_id}.")


@app.command()
def dead(
    destination_id: _DestinationId, limit: LimitOption = 50, as_json: JsonOption = False, home: HomeOption = None
) -> None:
    """Show events that were given up, newest first.

    With --json one object a line, with the event and the destination's answer.
    """
    with connect(home) as platform:
        found = platform.get(f"/api/destinations/{path_part(destination_id)}/dead", limit=limit)["dead"]
    if as_json:
        print_json(*found)
    elif found:
        columns = ["at", "offset", "messageId", "attempts", "status", "reason"]
        print_table(columns, [[one.get(column) for column in columns] for one in found])
    else:
        note("There are no dead letters.")


@app.command()
def replay(
    destination_id: _DestinationId,
    dead: Annotated[bool, typer.Option("--dead", help="Deliver the dead letters again.")] = False,
    from_offset: Annotated[
        int | None, typer.Option("--from-offset", min=0, metavar="N", help="Deliver the log again from this offset on.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Deliver again: the dead letters, or everything from an offset on."""
    if dead == (from_offset is not None):
        raise typer.BadParameter("Say what to replay: --dead or --from-offset N, one of the two.")
    told = {"dead": True} if dead else {"fromOffset": from_offset}
    with connect(home) as platform:
        replayed = platform.post(f"/api/destinations/{path_part(destination_id)}/replay", told)
    if as_json:
        print_json(replayed)
    else:
        print_text(f"{replayed['replayed']:,} events will be delivered again.")


def parse_settings(given: Sequence[str], fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as settings: JSON where the declared type wants JSON and the value is some, else text.

    ``KEY.ENTRY=VALUE`` adds one entry, always text, to the mapping KEY. The platform has the last word on the values.

    Raises:
        InvalidRequest: there is no such setting, or a text is not ``KEY=VALUE``. Never holds a value: it may be a secret.
    """
    declared = {str(field["name"]): str(field.get("type")) for field in fields}
    settings: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidRequest("A setting is given as --set KEY=VALUE.")
        name, dot, entry = key.partition(".")
        if key not in declared and dot and declared.get(name) == "mapping":
            if not entry:
                raise InvalidRequest(f"An entry of the mapping {name} is given as --set {name}.ENTRY=VALUE.")
            mapping = settings.setdefault(name, {})
            if not isinstance(mapping, dict):
                raise InvalidRequest(f"The setting {name} was given as something that is not a mapping before.")
            mapping[entry] = value
        elif key not in declared:
            known = ", ".join(declared) or "none"
            raise InvalidRequest(f"There is no setting {key[:64]!r} for this type.", hint=f"Settings: {known}.")
        else:
            parsed = _parsed(value) if declared[key] in _JSON_FIELDS else value
            earlier = settings.get(key)
            settings[key] = {**earlier, **parsed} if isinstance(earlier, dict) and isinstance(parsed, dict) else parsed
    return settings


def _parsed(value: str) -> Any:
    try:
        return msgspec.json.decode(value.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value


def _fields(platform: Client, type_: str) -> list[dict[str, Any]]:
    found = platform.get("/api/destination-types")["types"]
    for one in found:
        if one["type"] == type_:
            fields: list[dict[str, Any]] = one.get("fields") or []
            return fields
    known = ", ".join(str(one["type"]) for one in found)
    raise InvalidRequest(f"There is no destination type {type_!r}.", hint=f"Types: {known}.")
