"""`segment-do profile computations`: computed traits and audiences of one identity."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from segment_do.cli.client import Client, connect, path_part
from segment_do.cli.files import read_object
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Computed traits and audiences of an identity.")

_POLL_SECONDS: Final = 0.5

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
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Count events of before as well, and wait until they are counted.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Add one, or put it in the place of the one with its key. It counts events from now on, with --backfill those of before, too.

    Counting goes on where this command is stopped; `list` shows how far it is.
    """
    definition = read_object(file)
    if backfill:
        definition["backfill"] = True
    key = str(definition.get("key", ""))
    with connect(home) as platform:
        found = platform.put(f"{_path(identity)}/{path_part(key)}", definition)["computations"]
        if definition.get("backfill"):
            found = _wait(platform, identity, key, found)
    _print(found, as_json)


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
            [
                each["definition"]["key"],
                each["definition"]["class"],
                each["definition"].get("kind", ""),
                each["since"],
                "settings" if each["declared"] else "",
                _progress(each),
            ]
            for each in found
        ]
        print_table(["key", "class", "kind", "since", "declared in", "events of before"], rows)
    else:
        note("There are none yet. `segment-do profile computations set IDENTITY FILE` adds one.")


def _progress(each: dict[str, Any]) -> str:
    if not each["filling"]:
        return ""
    return f"counting: {each['filled'] / each['target']:.0%}" if each.get("target") else "about to be counted"


def _wait(platform: Client, identity: str, key: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Until the computation of this key has counted the events of before, or is no more."""
    with _bar(key) as show:
        while True:
            filling = [each for each in found if each["definition"]["key"] == key and each["filling"]]
            if not filling:
                return found
            show(filling[0])
            time.sleep(_POLL_SECONDS)
            found = platform.get(_path(identity))["computations"]


@contextmanager
def _bar(key: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _each: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"events looked through for {key}", total=None)
        yield lambda each: bar.update(task, completed=each["filled"], total=each.get("target"))
