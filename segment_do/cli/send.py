"""`segment-do send`: events from flags, a file, or stdin; followed to their destinations with ``--wait``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from segment_do.cli.batches import MAX_BATCH_BYTES, Outgoing, fresh_id, outgoing
from segment_do.cli.client import Client, connect
from segment_do.cli.lines import Input, Line, read_lines
from segment_do.cli.options import HomeOption, JsonOption, TimeoutOption
from segment_do.cli.sending import Sending
from segment_do.errors import InvalidEvent, InvalidRequest
from segment_do.sdk.message import build

__all__ = ["register"]

_DOCUMENT_BYTES: Final = 2**20
"""A file up to this size may be one JSON document, over several lines, instead of a line an event."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(send)


def send(
    lines: Annotated[
        str | None, typer.Argument(metavar="-", help="Read events from stdin, one JSON object a line.")
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="track, identify, page, screen, group or alias.")] = "track",
    event: Annotated[str | None, typer.Option("--event", help="Name of a track event.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of a page or screen.")] = None,
    user_id: Annotated[str | None, typer.Option("--user-id", help="Who did it.")] = None,
    anonymous_id: Annotated[
        str | None, typer.Option("--anonymous-id", help="Who did it, where nobody knows yet.")
    ] = None,
    group_id: Annotated[str | None, typer.Option("--group-id", help="For group: the group.")] = None,
    previous_id: Annotated[str | None, typer.Option("--previous-id", help="For alias: the id until now.")] = None,
    properties: Annotated[
        str | None, typer.Option("--properties", metavar="JSON", help="Properties, an object.")
    ] = None,
    traits: Annotated[str | None, typer.Option("--traits", metavar="JSON", help="Traits, an object.")] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="JSON", help="Context, an object.")] = None,
    message_id: Annotated[str | None, typer.Option("--message-id", help="Counts once; default: a new one.")] = None,
    timestamp: Annotated[
        str | None, typer.Option("--timestamp", help="When it happened, ISO 8601; default: now.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Read events from a file, as from stdin.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID|NAME", help="Send as this source; default: one named cli.")
    ] = None,
    write_key: Annotated[
        str | None,
        typer.Option(
            "--write-key",
            metavar="KEY",
            envvar="SEGMENT_DO_WRITE_KEY",
            help="Send with this key; --source goes before.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the events until they are queryable and delivered.")
    ] = False,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Send events, from flags, a file or stdin.

    Exit code 1 if one was set aside, or if --wait ran out of time.
    """
    flags = {
        "event": event, "name": name, "userId": user_id, "anonymousId": anonymous_id, "groupId": group_id,
        "previousId": previous_id, "messageId": message_id, "timestamp": timestamp,
    }  # fmt: skip
    objects = {"properties": properties, "traits": traits, "context": context}
    given = {field: value for field, value in {**flags, **objects}.items() if value is not None}
    if lines not in (None, "-"):
        raise typer.BadParameter("The only argument is -, for stdin; a file is named with --file.")
    many = lines is not None or file is not None
    if (lines is not None and file is not None) or (many and given):
        raise typer.BadParameter("Events come from flags, from --file or from stdin (-): one of them.")
    if not many and not given:
        raise typer.BadParameter("There is no event. Try --event NAME --user-id ID, or - for stdin.")
    if not many:
        chunks: Iterator[list[Outgoing | InvalidEvent]] = iter([[_from_flags(type_, given, objects)]])
    elif file is not None and file != "-":
        chunks = _from_file(Path(file))
    else:
        # What has come is sent, full batch or not: somebody may be typing.
        stdin: Any = sys.stdin.buffer
        chunks = map(_prepared, read_lines(stdin.read1, max_bytes=MAX_BATCH_BYTES))
    with connect(home) as platform:
        key = _write_key(platform, source, write_key)
        sending = Sending(platform, key, wait=wait, as_json=as_json)
        for chunk in chunks:
            sending.send(chunk)
        sending.finish(timeout, many=many)


def _write_key(platform: Client, source: str | None, write_key: str | None) -> str:
    if source is not None:
        return str(platform.source(source)["writeKey"])
    return write_key or str(platform.ensure_source("cli")["writeKey"])


def _from_flags(type_: str, given: dict[str, Any], objects: dict[str, str | None]) -> Outgoing:
    fields: dict[str, Any] = {"type": type_, **given}
    for name in objects:
        if name in fields:
            try:
                fields[name] = msgspec.json.decode(fields[name], type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise InvalidRequest(
                    f"--{name} is not a JSON object: {error}.", hint=f"For example --{name} '{{\"total\": 5}}'."
                ) from error
    try:
        built = build(fields, speaker=None, now=time.time(), new_id=fresh_id)
    except InvalidEvent as error:
        if error.code == "no_user_anon_id":
            raise InvalidEvent(error.message, hint="Add --user-id or --anonymous-id.", code=error.code) from None
        raise
    return Outgoing(built.message_id, built.data)


def _from_file(path: Path) -> Iterator[list[Outgoing | InvalidEvent]]:
    with Input(path) as opened:
        head = opened.read(_DOCUMENT_BYTES)
        document = _document(head) if len(head) < _DOCUMENT_BYTES else None
        if document is not None:
            yield _prepared(document)
            return
        held = [head]
        read: Callable[[int], bytes] = lambda size: held.pop() if held else opened.read(size)  # noqa: E731
        for chunk in read_lines(read, max_bytes=MAX_BATCH_BYTES):
            yield _prepared(chunk)


def _document(data: bytes) -> list[Line] | None:
    """The events of a whole document: an object over several lines, or an array. None: it is lines."""
    data = data.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        if data.startswith(b"["):
            return [Line(0, 0, bytes(event)) for event in msgspec.json.decode(data, type=list[msgspec.Raw])]
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [Line(0, 0, data)]


def _prepared(lines: list[Line]) -> list[Outgoing | InvalidEvent]:
    prepared: list[Outgoing | InvalidEvent] = []
    for line in lines:
        where = f"Line {line.number}: " if line.number else ""
        if line.text is None:
            prepared.append(
                InvalidEvent(f"{where}it is longer than {MAX_BATCH_BYTES:,} bytes.", code="event_too_large")
            )
        elif line.text.strip():
            try:
                prepared.append(outgoing(line.text, fresh_id, line=line.number, end=line.end))
            except InvalidEvent as error:
                prepared.append(InvalidEvent(f"{where}{error.message}", code=error.code))
    return prepared
