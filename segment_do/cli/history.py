"""Imports a file of events so that it may be stopped, killed and run again, and no event counts twice.

After every few batches that the platform has acknowledged, the place in the file is stored beside it; a later run goes on from
there. What was sent after that place is sent again, and recognised: lines without a messageId get one that depends on
nothing but the source, the file's name and first line, the line's number and the line itself. So a copy of the file elsewhere,
or one that has grown, gives the same ids; two files with different names give different ones.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import msgspec

from segment_do.cli.batches import MAX_BATCH_BYTES, Outgoing, batches, body_of, outgoing
from segment_do.cli.client import Client
from segment_do.cli.lines import Input, Line, read_lines
from segment_do.errors import Conflict, InvalidEvent, InvalidRequest, SegmentDoError
from segment_do.home import write_durably

__all__ = ["BadLine", "Import", "State", "state_path"]

_PATIENCE_SECONDS: Final = 600.0
"""Longest that one batch is tried again: enough for the platform to be restarted, or to catch up."""
_STORE_SECONDS: Final = 0.25
"""The place is stored at most so often: each time costs two syncs, and losing it costs sending a little again."""
_TOLD_BAD_LINES: Final = 20
"""Bad lines kept for the end; all of them go to the errors file."""


class BadLine(msgspec.Struct):
    """A line that is not in the platform as an event, as it stands in the errors file."""

    line: int
    code: str
    message: str
    text: str = ""
    """The line, at most 2,000 characters of it."""


class State(msgspec.Struct, rename="camel"):
    """How far an import has come. Stored as JSON beside the file."""

    source: str
    size: int
    mtime_ns: int
    offset: int = 0
    """Place of the next line that is not acknowledged, bytes of content."""
    line: int = 0
    """Lines before that place."""
    accepted: int = 0
    set_aside: int = 0
    """Events that the platform refused."""
    unreadable: int = 0
    """Lines that are no events at all."""
    undated: int = 0
    """Accepted events without a timestamp: they count as happening now."""
    errors: str | None = None
    errors_bytes: int = 0
    """Errors file, and how much of it belongs to the lines before the place."""
    finished: bool = False


def state_path(path: Path) -> Path:
    """Where the state of importing ``path`` is kept."""
    return path.with_name(f"{path.name}.segment_do-import.json")


class Import:
    """One run over one file. Use it with ``with``, then :meth:`run`; however that ends, the place is stored.

    Raises:
        InvalidRequest: the file cannot be read, or nothing can be written beside it.
        Conflict: an import of something else under this name was begun, and ``restart`` is not set.
    """

    def __init__(
        self,
        platform: Client,
        source: dict[str, Any],
        path: Path,
        *,
        restart: bool,
        errors: Path | None,
        on_progress: Callable[[int, State], None],
        on_wait: Callable[[float, SegmentDoError], None],
    ) -> None:
        self._platform = platform
        self._write_key = str(source["writeKey"])
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._input = Input(path)
        self._errors: BinaryIO | None = None
        self._stored_at = 0.0
        self._unreadable: list[BadLine] = []  # read, but behind the place: at most those of one chunk
        self.bad: list[BadLine] = []
        """The first bad lines of this run."""
        self.state = State(str(source["id"]), 0, 0)
        try:
            self.state, self.resumed = _begin(path, str(source["id"]), restart)
            if errors is not None and not self.state.finished:
                self._open_errors(errors)
            self._seed = _seed(self.state.source, path)
            self._store()
        except BaseException:
            self._input.__exit__(None, None, None)
            raise

    def __enter__(self) -> Import:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._store()
        finally:
            self._input.__exit__(None, None, None)
            if self._errors is not None:
                self._errors.close()

    def run(self) -> None:
        """Send everything from the place on.

        Raises:
            SegmentDoError: the platform refuses, or cannot be reached for ten minutes. A later run goes on from here.
        """
        state = self.state
        if state.finished:
            return
        self._input.skip(state.offset)
        lines = read_lines(self._input.read, max_bytes=MAX_BATCH_BYTES, number=state.line, offset=state.offset)
        for chunk in lines:
            for batch in batches(self._events(chunk)):
                self._send(batch)
            # Behind the last event there may be bad or empty lines.
            self._advance(chunk[-1].number, chunk[-1].end)
        state.finished = True

    def _events(self, chunk: list[Line]) -> Iterator[Outgoing]:
        for line in chunk:
            text = line.text
            if text is None:
                told = f"The line is longer than {MAX_BATCH_BYTES:,} bytes."
                self._unreadable.append(BadLine(line.number, "event_too_large", told))
            elif text.strip():
                new_id = lambda text=text, number=line.number: self._stable_id(number, text)  # noqa: E731
                try:
                    event = outgoing(text, new_id, historical=True, line=line.number, end=line.end)
                except InvalidEvent as error:
                    self._unreadable.append(BadLine(line.number, error.code, error.message, _shown(text)))
                else:
                    yield event

    def _send(self, batch: list[Outgoing]) -> None:
        ids = [event.message_id for event in batch]
        found = self._platform.deliver(
            "/v1/import",
            body_of(batch),
            self._write_key,
            ids,
            patience_seconds=_PATIENCE_SECONDS,
            on_wait=self._on_wait,
        )
        for event, refused in zip(batch, found, strict=True):
            if refused is None:
                self.state.accepted += 1
                self.state.undated += not event.dated
            elif refused.code == "batch_too_large":
                raise InvalidRequest(
                    refused.message, hint=f"Allow batches of {len(batch)} events (ingress.max_batch_events)."
                )
            else:
                self.state.set_aside += 1
                self._report(BadLine(event.line, refused.code, refused.message, _shown(event.data)))
        self._advance(batch[-1].line, batch[-1].end)

    def _report(self, bad: BadLine) -> None:
        if len(self.bad) < _TOLD_BAD_LINES:
            self.bad.append(bad)
        if self._errors is not None:
            self._errors.write(msgspec.json.encode(bad) + b"\n")

    def _advance(self, line: int, offset: int) -> None:
        # Counted with the place they lie before, so that a later run neither forgets them nor counts them again.
        while self._unreadable and self._unreadable[0].line <= line:
            self.state.unreadable += 1
            self._report(self._unreadable.pop(0))
        self.state.line, self.state.offset = line, offset
        self._on_progress(self._input.position, self.state)
        if time.monotonic() - self._stored_at >= _STORE_SECONDS:
            self._store()

    def _store(self) -> None:
        path = state_path(self._input.path)
        try:
            if self._errors is not None:
                self._errors.flush()
                self.state.errors_bytes = self._errors.tell()
            write_durably(path, msgspec.json.format(msgspec.json.encode(self.state)) + b"\n")
        except OSError as error:
            raise InvalidRequest(
                f"The state of the import cannot be kept in {path}: {error.strerror}.",
                hint="The file's directory has to be writable, so that a later run can go on from there.",
            ) from error
        self._stored_at = time.monotonic()

    def _open_errors(self, path: Path) -> None:
        keep = self.state.errors_bytes if self.resumed and self.state.errors == str(path.absolute()) else 0
        try:
            opened = path.open("r+b" if keep and path.exists() else "wb")
            if keep:
                # What was reported of lines behind the stored place will be reported again.
                opened.truncate(min(keep, path.stat().st_size))
                opened.seek(0, 2)
        except OSError as error:
            raise InvalidRequest(f"The file {path} cannot be written: {error.strerror}.") from error
        self._errors = opened
        self.state.errors = str(path.absolute())

    def _stable_id(self, number: int, text: bytes) -> str:
        digest = hashlib.blake2b(b"%d:%b" % (number, text), digest_size=16, key=self._seed)
        return f"import-{digest.hexdigest()}"


def _begin(path: Path, source_id: str, restart: bool) -> tuple[State, bool]:
    """The state to go on from, and whether there was one."""
    now = path.stat()
    fresh = State(source_id, now.st_size, now.st_mtime_ns)
    if restart:
        return fresh, False
    try:
        known = msgspec.json.decode(state_path(path).read_bytes(), type=State)
    except FileNotFoundError:
        return fresh, False
    except (OSError, msgspec.DecodeError) as error:
        raise Conflict(f"The state of an import, {state_path(path)}, cannot be read.", hint=_RESTART) from error
    if (known.size, known.mtime_ns) != (now.st_size, now.st_mtime_ns):
        raise Conflict(f"{path} has changed since its import was begun.", hint=_RESTART)
    if known.source != source_id:
        raise Conflict(f"{path} was being imported into another source, {known.source}.", hint=_RESTART)
    return known, True


_RESTART: Final = "--restart begins anew. Into the same source nothing is counted twice within the days that messageIds are remembered."


def _seed(source_id: str, path: Path) -> bytes:
    with Input(path) as opened:
        first = opened.read(4096).partition(b"\n")[0]
    told = b"\0".join([source_id.encode(), path.name.encode("utf-8", "surrogateescape"), first])
    return hashlib.blake2b(told, digest_size=32).digest()


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")[:2_000]
