"""All commands in one application, and the one place where an error becomes an exit code.

Commands of other packages join through the entry-point group ``segment_do.commands`` (name = command, object = a function with
typer's parameters, or a ``typer.Typer``). They are loaded when asked for, so that ``segment-do sql`` does not pay for ``dev``;
one that cannot be loaded says so when it is called, and disturbs no other.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from segment_do.cli import (
    destinations,
    doctor,
    importing,
    platform,
    profile,
    rejected,
    send,
    sources,
    sql,
    tail,
)
from segment_do.cli.options import HomeOption, use_home
from segment_do.cli.output import print_error, print_text
from segment_do.errors import SegmentDoError, SettingsError
from segment_do.version import __version__

__all__ = ["GROUP", "app"]

GROUP: Final = "segment_do.commands"


class Commands(TyperGroup):
    """Commands of this package, and of those that declare some."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        own = super().list_commands(ctx)
        return [*(name for name in sorted(_plugins()) if name not in own), *own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command; own ones cannot be replaced."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _plugins():
            return _load(_plugins()[cmd_name])
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run it; an error of the project's tree is told and becomes exit code 1."""
        try:
            return super().invoke(ctx)
        except SegmentDoError as error:
            print_error(error)
            raise typer.Exit(1) from error


def _version(asked: bool) -> None:
    if asked:
        print_text(__version__)
        raise typer.Exit


app = typer.Typer(
    name="segment-do",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def everywhere(
    home: HomeOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A customer data platform for AI agents and the products they run."""
    use_home(home)


platform.register(app)
doctor.register(app)
app.add_typer(sources.app, name="sources")
send.register(app)
importing.register(app)
tail.register(app)
sql.register(app)
app.add_typer(destinations.app, name="destinations")
rejected.register(app)
app.add_typer(profile.app, name="profile")


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001 - somebody else's import may raise anything
        reason = f"{type(error).__name__}: {error}"

        def broken() -> None:
            raise SettingsError(
                f"The command {entry.name} ({entry.value}) cannot be loaded: {reason}.",
                hint="Is the server installed? `pip install segment-do[server]`",
            )

        broken.__doc__ = "Cannot be loaded; run it to see why."
        found = broken
    if not isinstance(found, typer.Typer):
        function = found
        found = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        found.command(entry.name)(function)
    return typer.main.get_command(found)
