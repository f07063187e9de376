"""`segment-do import`: history, from a file of events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from segment_do.cli.client import connect
from segment_do.cli.history import Import, State
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_text
from segment_do.cli.sending import say_waiting

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One JSON object a line; may be gzipped.")],
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID|NAME", help="Import as this source; default: one named cli.")
    ] = None,
    errors: Annotated[
        str | None, typer.Option("--errors", metavar="FILE", help="Write every bad line there, as JSON lines.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on where it stopped.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Import a file of events, with the times they have.

    Stopped or killed, it goes on from there when it is run again, and nothing counts twice. Lines that are no events, or
    break the contract, are told at the end and stop nothing.
    """
    path = Path(file)
    began = time.monotonic()
    with connect(home) as platform:
        owner = platform.ensure_source("cli") if source is None else platform.source(source)
        with _progress(path) as on_progress:
            running = Import(
                platform,
                owner,
                path,
                restart=restart,
                errors=None if errors is None else Path(errors),
                on_progress=on_progress,
                on_wait=say_waiting,
            )
            before = running.state.line
            already = running.state.finished
            if running.resumed and not already and before:
                note(f"Going on after line {before:,}.")
            try:
                with running:
                    running.run()
            except BaseException:
                note(f"Stopped after line {running.state.line:,}. Run the same command again to go on from there.")
                raise
    if already:
        note(f"{path} was imported before, all of it. --restart sends it again.")
    _report(running, as_json, time.monotonic() - began, errors)


def _report(running: Import, as_json: bool, seconds: float, errors: str | None) -> None:
    state = running.state
    for bad in sorted(running.bad, key=lambda one: one.line):
        note(f"Line {bad.line}: {bad.message}")
    count = state.unreadable + state.set_aside
    if count > len(running.bad):
        note(f"{count:,} bad lines in all." + ("" if errors else " --errors FILE keeps them."))
    if state.undated:
        note(f"{state.undated:,} events have no timestamp: they count as happening when they were imported.")
    if as_json:
        print_json(
            {
                "source": state.source,
                "lines": state.line,
                "accepted": state.accepted,
                "setAside": state.set_aside,
                "unreadable": state.unreadable,
                "undated": state.undated,
                "bytes": state.offset,
                "seconds": round(seconds, 3),
            }
        )
    else:
        print_text(
            f"{state.accepted:,} events imported, {state.set_aside:,} set aside,"
            f" {state.unreadable:,} unreadable lines, {seconds:.1f} s."
        )


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int, State], None]]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _position, _state: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    size_bytes = path.stat().st_size if path.is_file() else 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TextColumn("{task.fields[bad]:,} set aside"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(path.name, total=size_bytes, rate=0.0, bad=0)
        began = time.monotonic()
        first: list[int] = []

        def show(position: int, state: State) -> None:
            if not first:
                first.append(state.accepted)
            rate = (state.accepted - first[0]) / max(time.monotonic() - began, 0.001)
            bar.update(task, completed=position, rate=rate, bad=state.set_aside + state.unreadable)

        yield show
