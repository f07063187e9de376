"""Lines of a file or a pipe, as they come: numbered, with their place, in memory no more than one read and one line.

Lines that arrived together are handed over together, so that a slow pipe is not waited on for the sake of a full batch.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from segment_do.errors import InvalidRequest

__all__ = ["Input", "Line", "read_lines"]

READ_BYTES: Final = 2**20
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line without its end."""

    number: int
    """From 1."""
    end: int
    """Offset of the byte after it and its newline."""
    text: bytes | None
    """None: it was longer than allowed and is not kept."""


def read_lines(
    read: Callable[[int], bytes], *, max_bytes: int, number: int = 0, offset: int = 0
) -> Iterator[list[Line]]:
    """The lines that each ``read`` completed. ``number`` and ``offset`` are those of what was read before.

    A last line without a newline counts. ``\\r`` before the newline and a byte order mark at the start are taken away.
    """
    pending = b""  # the start of a line whose end has not come
    lost = 0  # bytes before it that were too many to keep
    while True:
        chunk = read(READ_BYTES)
        if chunk:
            parts = (pending + chunk).split(b"\n")
            pending = parts.pop()
        else:
            parts = [pending] if pending or lost else []
        found = []
        for part in parts:
            text = part if offset else part.removeprefix(_BOM)
            number += 1
            offset += lost + len(part) + bool(chunk)
            found.append(Line(number, offset, None if lost or len(text) > max_bytes else text.removesuffix(b"\r")))
            lost = 0
        if found:
            yield found
        if not chunk:
            return
        if len(pending) > max_bytes:
            lost, pending = lost + len(pending), b""


class Input:
    """A file of lines, gzipped or not (its first bytes say which). Use it with ``with``.

    Raises:
        InvalidRequest: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = path.open("rb")
            self.gzipped = self._raw.read(2) == _GZIP
            self._raw.seek(0)
        except OSError as error:
            raise InvalidRequest(f"The file {path} cannot be read: {error.strerror}.") from error
        self._stream: gzip.GzipFile | BufferedReader = gzip.GzipFile(fileobj=self._raw) if self.gzipped else self._raw

    def __enter__(self) -> Input:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        self._raw.close()

    @property
    def position(self) -> int:
        """Bytes of the file read so far, compressed ones where it is compressed."""
        return self._raw.tell()

    def read(self, size_bytes: int) -> bytes:
        """Up to so many bytes of content; none at the end."""
        try:
            return self._stream.read(size_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidRequest(f"The file {self.path} is not whole gzip: {error}.") from error
        except OSError as error:
            raise InvalidRequest(f"The file {self.path} cannot be read: {error.strerror}.") from error

    def skip(self, size_bytes: int) -> None:
        """Go to a place in the content; of gzip, everything before it is read."""
        if not self.gzipped:
            self._raw.seek(size_bytes)
            return
        while size_bytes > 0 and (skipped := len(self.read(min(size_bytes, READ_BYTES)))):
            size_bytes -= skipped
