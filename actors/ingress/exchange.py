"""One tracking request and its one answer, as the door sees them: no socket, no framework.

A shell makes one when a request's head has come (:mod:`.protocol` on the public port, :mod:`.tracking_app` behind an ASGI
server), and sends whatever :meth:`Exchange.answer` is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from actors.ingress.answers import Headers

__all__ = ["PATHS", "UPLOADS", "Exchange"]

_LETTERS: Final = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias", "b": "batch"}
PATHS: Final = {
    **{f"/v1/{name}": (name, False) for name in _LETTERS.values()},
    **{f"/v1/{letter}": (name, True) for letter, name in _LETTERS.items()},
    "/v1/import": ("batch", False),
    "/v1/set": ("set", False),
}
"""Path → what is sent there (a type of call, ``batch``, or ``set`` for objects), and whether only browsers and phones
send there. With and without a slash at the end (contract, section 1.1)."""
UPLOADS: Final = b"/v0/upload/"
"""Below it whole files are sent, which take their time."""
PATHS.update({f"{path}/": meant for path, meant in list(PATHS.items())})


class Exchange:
    """What a request's head says. Header names come in lower case."""

    __slots__ = (
        "authorization",
        "client",
        "client_side",
        "encoding",
        "forwarded",
        "key",
        "kind",
        "length",
        "origin",
        "reserved",
        "retries",
    )

    def __init__(
        self, kind: str, client_side: bool, client: str | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self.kind = kind
        self.client = client
        self.client_side = client_side
        """Sent by a browser or a phone itself, so that its address is the person's."""
        self.authorization: bytes | None = None
        self.encoding: bytes | None = None
        self.forwarded: bytes | None = None
        self.origin: bytes | None = None
        self.key: str | None = None
        """A write key that the address itself carries."""
        self.retries = 0
        """What ``X-Retry-Count`` says: how often the client has sent this before."""
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
                self.client_side = True
            elif name == b"x-retry-count":
                self.retries = int(value) if value.isdigit() and len(value) < 7 else 0
            elif name == b"x-forwarded-for":
                self.forwarded = value

    def answer(self, status: int, body: bytes, headers: Headers | None) -> None:
        """Send this answer; called once, in the door's event loop. It must not raise where the client has gone."""
        raise NotImplementedError
