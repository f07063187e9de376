"""`segment-do sources webhook`: sources that take any program's JSON, and what they make of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.files import read_json, read_text
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_text
from segment_do.errors import InvalidRequest

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Sources that take any program's JSON, turned into events.")

_Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Id or name of the source.")]
_FLAGS: Final = {"true": True, "false": False}


@app.command("set")
def set_(
    source: _Source,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="custom, segment or commercetools.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; signature.secret=abc is one inside another."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="The mapping, JSON (docs/mapping.md).")
    ] = None,
    function: Annotated[
        Path | None, typer.Option("--function", metavar="FILE", help="Python with on_request(request, settings).")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Let a source take webhook calls, in place of any it took before."""
    told = _settings(settings or [])
    if mapping is not None:
        told["mapping"] = read_json(mapping)
    if function is not None:
        told["function"] = read_text(function)
    with connect(home) as platform:
        found = platform.source(source)
        made = platform.put(_path(found["id"]), {"kind": kind, "settings": told})
        url = f"{platform.url}{made['path']}"
    if as_json:
        print_json(made)
        return
    print_text(f"{found['name']} takes {made['kind']} webhooks at {url}")
    note(
        "Calls prove themselves by their signature."
        if told.get("secret") or told.get("signature")
        else f"Calls need the write key: user name of Basic authentication, or {url}?writeKey=…"
    )


@app.command()
def show(source: _Source, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show what a source makes of the calls it takes. Secrets are masked."""
    with connect(home) as platform:
        told = platform.get(_path(platform.source(source)["id"]))
    if as_json:
        print_json(told)
    else:
        print_text(f"{told['kind']} at {told['path']}")
        print_text(msgspec.json.format(msgspec.json.encode(told["settings"]), indent=2).decode())


@app.command()
def remove(source: _Source, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Let a source take no more webhook calls."""
    with connect(home) as platform:
        told = platform.delete(_path(platform.source(source)["id"]))
    if as_json:
        print_json(told)
    else:
        print_text(f"{source} takes no webhook calls any more.")


@app.command("try")
def try_(
    source: _Source,
    payload: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="What the sender would post; default: standard input.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show which events a call would make. Nothing is stored."""
    body = sys.stdin.read() if payload is None else read_text(payload)
    with connect(home) as platform:
        found = platform.source(source)
        path = f"/webhooks/{path_part(found['id'])}?dryRun=true&writeKey={quote(found['writeKey'], safe='')}"
        answer = platform.ask("POST", path, body=body.encode())
    made: dict[str, Any] = msgspec.json.decode(answer)
    if as_json:
        print_json(*made["events"])
        return
    for event in made["events"]:
        print_text(msgspec.json.format(msgspec.json.encode(event), indent=2).decode())
    note(f"{len(made['events'])} events, {made['ignored']} parts ignored. Nothing was stored.")


def _path(source_id: str) -> str:
    return f"/api/sources/{path_part(source_id)}/webhook"


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"--set takes KEY=VALUE; {pair.partition('=')[0]!r} has no value.")
        first, dot, second = name.partition(".")
        into, key = (told.setdefault(first, {}), second) if dot else (told, first)
        if not isinstance(into, dict):
            raise InvalidRequest(f"--set gives {first!r} both a value and values inside it.")
        into[key] = _FLAGS.get(value, value)
    return told
