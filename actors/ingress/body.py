"""Reading a request's body: gzip undone, with bounds on bytes and on time.

A body costs at most its limit in memory whatever it claims to be, and a client that dribbles is cut off.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from segment_do.errors import MalformedBody, SlowBody, TooLarge

__all__ = ["ClientGone", "Receive", "body_too_large", "body_too_slow", "gunzip", "read_body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_MOST_GZIP_MEMBERS: Final = 64
"""Each costs a copy of what follows it; clients send one, or a few where chunks are compressed by themselves."""


class ClientGone(Exception):
    """The client left before its body had arrived; there is nobody to answer."""


async def read_body(receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The body as sent, from an ASGI server.

    Raises:
        TooLarge: more bytes came than are allowed.
        SlowBody: it was not complete in time.
        ClientGone: the connection closed in between.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > max_bytes:
                    raise body_too_large(max_bytes)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise body_too_slow(timeout_seconds) from None


def gunzip(data: bytes, *, max_bytes: int) -> bytes:
    """A gzip body undone; stops as soon as it is larger than allowed, so that a bomb costs no more than a body.

    Raises:
        MalformedBody: it is not gzip, cut short, or cut into too many members.
        TooLarge: more than ``max_bytes`` come out.
    """
    out = b""
    members = 0
    while data:
        members += 1
        if members > _MOST_GZIP_MEMBERS:
            raise MalformedBody(f"The gzip body has more than {_MOST_GZIP_MEMBERS} members.")
        stream = zlib.decompressobj(wbits=31)
        try:
            out += stream.decompress(data, max_bytes + 1 - len(out))
        except zlib.error as error:
            raise MalformedBody(f"The body is not gzip: {error}.") from None
        if len(out) > max_bytes or stream.unconsumed_tail:
            raise body_too_large(max_bytes)
        if not stream.eof:
            raise MalformedBody("The gzip body is cut short.")
        data = stream.unused_data.lstrip(b"\0")
    return out


def body_too_large(max_bytes: int) -> TooLarge:
    """The error of a body beyond its bound."""
    return TooLarge(f"The body is larger than {max_bytes:,} bytes.", code="body_too_large")


def body_too_slow(timeout_seconds: float) -> SlowBody:
    """The error of a body that did not come in time."""
    return SlowBody(f"The body did not arrive within {timeout_seconds:g} seconds.")
