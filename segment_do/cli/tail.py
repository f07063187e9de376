"""`segment-do tail`: events as they arrive."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer

from segment_do.cli.client import Client, connect
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_lines, print_text, printable
from segment_do.cli.sse import MessageReader
from segment_do.errors import PlatformNotRunning, SegmentDoError, Unavailable
from segment_do.sdk.retry import wait_seconds

__all__ = ["register"]

_SILENCE_SECONDS: Final = 60.0
"""The platform sends a heartbeat every few seconds; a line silent for so long is dead."""


class _Event(msgspec.Struct, rename="camel"):
    type: Any = None
    event: Any = None
    name: Any = None
    user_id: Any = None
    anonymous_id: Any = None
    timestamp: Any = None
    properties: msgspec.Raw = msgspec.Raw(b"")
    traits: msgspec.Raw = msgspec.Raw(b"")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tail)


def tail(
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID|NAME", help="Only events of this source.")
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only events of this identity.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type, such as track.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only events, pages or screens of this name.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Leave after so many events.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show events as they are stored, until Ctrl-C.

    With --json the whole event on each line.
    """
    shown = 0
    with connect(home) as platform:
        query = {} if identity is None else {"identity": identity}
        if source is not None:
            query["source"] = str(platform.source(source)["id"])
        for data in _events(platform, query):
            try:
                found = msgspec.json.decode(data, type=_Event)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if (type_ not in (None, found.type)) or (event not in (None, found.event or found.name)):
                continue
            if as_json:
                print_lines([data])
            else:
                print_text(_one_line(found))
            shown += 1
            if shown == limit:
                return


def _events(platform: Client, query: dict[str, str]) -> Iterator[bytes]:
    """Events for ever. A line that breaks is opened again; only a platform that was never reached, or refuses, ends it."""
    failures = 0
    last_id = ""
    reached = False
    while True:
        reader = MessageReader()
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with platform.stream("/api/tail", query, headers, silence_seconds=_SILENCE_SECONDS) as response:
                if not reached:
                    note("Waiting for events. Ctrl-C ends it.")
                elif failures:
                    note("Connected again.")
                reached = True
                for chunk in response.iter_bytes():
                    failures = 0
                    for message in reader.feed(chunk):
                        last_id = message.id
                        if message.event == "event":
                            yield message.data
            error: SegmentDoError = Unavailable("The platform closed the live stream.")
        except (Unavailable, PlatformNotRunning) as broken:
            if not reached and isinstance(broken, PlatformNotRunning):
                raise
            error = broken
        failures += 1
        if failures == 1:
            note(f"{error.message} Connecting again; events that pass meanwhile may not be shown.")
        platform.pause(wait_seconds(failures, None, random.random(), soon=True))  # noqa: S311 - jitter, not a secret
        platform.find_again()


def _one_line(event: _Event) -> str:
    when = event.timestamp[11:23] if isinstance(event.timestamp, str) else ""
    who = f"user {event.user_id}" if event.user_id else f"anonymous {event.anonymous_id}"
    what = event.event or event.name or ""
    details = bytes(event.properties) or bytes(event.traits)
    shown = "" if details in (b"", b"{}", b"null") else details.decode("utf-8", "replace")
    line = printable(f"{when:<12}  {event.type or '':<8}  {what:<28}  {who:<30}  {shown}").rstrip()
    # On a terminal one line stays one line; in a pipe nothing is cut.
    return line[: shutil.get_terminal_size().columns] if sys.stdout.isatty() else line
