"""One tracking request and its one answer, as the door sees them: no socket, no framework.

A shell makes one when a request's head has come (:mod:`.protocol` on the public port, :mod:`.tracking_app` behind an ASGI
server), and sends whatever :meth:`Exchange.answer` is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from actors.ingress.answers import Headers

__all__ = ["PATHS", "Exchange"]

_BATCH: Final = "batch"
PATHS: Final = {
    **{f"/v1/{name}": name for name in ("track", "identify", "page", "screen", "group", "alias", "batch")},
    "/v1/import": _BATCH,
}
"""Path → what is sent there: a type of call, or ``batch``. With and without a slash at the end."""
PATHS.update({f"{path}/": kind for path, kind in list(PATHS.items())})


class Exchange:
    """What a request's head says. Header names come in lower case."""

    __slots__ = ("authorization", "client", "encoding", "forwarded", "kind", "length", "origin", "reserved")

    def __init__(self, kind: str, client: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.kind = kind
        self.client = client
        self.authorization: bytes | None = None
        self.encoding: bytes | None = None
        self.forwarded: bytes | None = None
        self.origin: bytes | None = None
        self.length = 0
        self.reserved = 0
        """Bytes that the door keeps free for it; the door's own account."""
        for name, value in headers:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else 0
            elif name == b"content-encoding":
                self.encoding = value
            elif name == b"origin":
                self.origin = value
            elif name == b"x-forwarded-for":
                self.forwarded = value

    def answer(self, status: int, body: bytes, headers: Headers | None) -> None:
        """Send this answer; called once, in the door's event loop. It must not raise where the client has gone."""
        raise NotImplementedError
