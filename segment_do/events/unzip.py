"""Gzip undone piece by piece: what comes in and what goes out are bounded, whatever the data claims to be.

Promised: no call holds more than a piece of each side in memory; data beyond ``max_bytes`` is refused as soon as it appears, so a
bomb costs no more than a file may. Nothing here touches disk or network.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from segment_do.errors import MalformedBody, TooLarge

__all__ = ["Unzip"]

_PIECE_IN: Final = 64 * 1024
_PIECE_OUT: Final = 256 * 1024
_MOST_MEMBERS: Final = 65_536
"""Each costs a copy of the rest of its piece. Compressors that work in blocks make one for some 64 KB of text."""


class Unzip:
    """One gzip file of one or more members: :meth:`feed` its bytes in order, then :meth:`finish`."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._stream = zlib.decompressobj(wbits=31)
        self._members = 1
        self._begun = False
        self.size = 0
        """Bytes that have come out."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes of the file hold, in pieces. Nothing happens where they are not asked for.

        Raises:
            MalformedBody: it is not gzip, is damaged, or is cut into too many members.
            TooLarge: more than ``max_bytes`` come out.
        """
        for at in range(0, len(data), _PIECE_IN):
            yield from self._feed(data[at : at + _PIECE_IN])

    def finish(self) -> None:
        """The file has ended.

        Raises:
            MalformedBody: too early.
        """
        if not self._stream.eof:
            raise MalformedBody(
                "The gzip file is cut short." if self._begun else "The body is empty; a gzip file is wanted.",
                code="malformed_gzip",
            )

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                data = data.lstrip(b"\0")  # padding, as tapes leave it
                if not data:
                    return
                self._next_member()
            self._begun = True
            try:
                piece = self._stream.decompress(data, _PIECE_OUT)
            except zlib.error as error:
                raise MalformedBody(f"The body is not gzip: {error}.", code="malformed_gzip") from None
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self.size += len(piece)
            if self.size > self._max_bytes:
                raise TooLarge(f"The file unpacks to more than {self._max_bytes:,} bytes.", code="unpacked_too_large")
            if piece:
                yield piece

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise MalformedBody(f"The gzip file has more than {_MOST_MEMBERS:,} members.", code="malformed_gzip")
        self._stream = zlib.decompressobj(wbits=31)
