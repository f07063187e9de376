"""Server-sent events from the bytes of a stream (WHATWG HTML, section 9.2), cut anywhere."""

from __future__ import annotations

from typing import Final, NamedTuple

from segment_do.errors import CorruptData

__all__ = ["Message", "MessageReader"]

_MAX_BYTES: Final = 4 * 2**20
"""Largest message; events are tens of kilobytes."""


class Message(NamedTuple):
    """One dispatched message."""

    event: str
    data: bytes
    """Lines of data joined by a space: in JSON a newline can only be white space, and a message stays one line."""
    id: str
    """Last id that the stream has told; empty before the first."""


class MessageReader:
    """Feed it the bytes as they come. A message that is not complete at the end was never sent."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[bytes] = []
        self._size_bytes = 0
        self._id = ""

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that these bytes complete. Comments are heartbeats and are stepped over.

        Raises:
            CorruptData: a message is larger than any event: this is not the platform's stream.
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        found: list[Message] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                if self._data:
                    found.append(Message(self._event or "message", b" ".join(self._data), self._id))
                self._event, self._data, self._size_bytes = "", [], 0
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
                self._size_bytes += len(value)
            elif field == b"event":
                self._event = value.decode("utf-8", "replace")
            elif field == b"id" and b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        if len(self._rest) + self._size_bytes > _MAX_BYTES:
            raise CorruptData(f"The live stream sent a message of more than {_MAX_BYTES:,} bytes.")
        return found
