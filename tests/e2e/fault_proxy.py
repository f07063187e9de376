"""A proxy before the platform that misbehaves as it is told, and keeps what it saw."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import httpx

from tests.browser.serving import serving

__all__ = ["CUT", "NO_CORS", "FaultProxy", "Seen", "fault_proxy"]

CUT: Final = "cut"
"""The platform stores the request; the connection is closed before its answer has gone back."""
NO_CORS: Final = "no cors"
"""The answer goes back without the headers that let a page read it."""
_CORS: Final = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers")


@dataclass(frozen=True)
class Seen:
    """One POST to a tracking path, as it came."""

    path: str
    retry: str | None
    message_ids: tuple[str, ...]


@dataclass
class FaultProxy:
    """``faults``: what becomes of the next POSTs, oldest first: CUT, NO_CORS or ``(status, headers)``; then all is well."""

    url: str = ""
    host: str = ""
    faults: deque[Any] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)

    def attempts(self) -> dict[str, list[str | None]]:
        """``X-Retry-Count`` of each time a message was sent, by its id."""
        found: dict[str, list[str | None]] = {}
        for request in self.seen:
            for message_id in request.message_ids:
                found.setdefault(message_id, []).append(request.retry)
        return found


@contextmanager
def fault_proxy(platform: str) -> Iterator[FaultProxy]:
    """A proxy before ``platform`` (its URL), on a port of its own."""
    proxy = FaultProxy()
    upstream = httpx.Client(base_url=platform, timeout=20.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._forward(b"", None)

        def do_OPTIONS(self) -> None:
            self._forward(b"", None)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.rstrip("/") == "/v1/m":
                self._forward(raw, None)
                return
            body = json.loads(gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw)
            ids = tuple(event["messageId"] for event in body.get("batch", [body]))
            fault = proxy.faults.popleft() if proxy.faults else None
            proxy.seen.append(Seen(self.path, self.headers.get("X-Retry-Count"), ids))
            if isinstance(fault, tuple):
                origin = self.headers.get("Origin")
                opened = {_CORS[0]: origin, _CORS[1]: "true", _CORS[2]: "Retry-After"} if origin else {}
                self._answer(
                    fault[0], {"content-type": "application/json", **opened, **fault[1]}, b'{"success": false}'
                )
            else:
                self._forward(raw, fault)

        def _forward(self, body: bytes, fault: str | None) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            answer = upstream.request(self.command, self.path, content=body, headers=headers)
            if fault == CUT:
                self.close_connection = True
                return
            dropped = {"content-encoding", "content-length", "transfer-encoding", "connection", "date"}
            dropped |= set(_CORS) if fault == NO_CORS else set()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
            self._answer(answer.status_code, kept, answer.content)

        def _answer(self, status: int, headers: dict[str, Any], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as proxy.host:
        proxy.url = f"http://{proxy.host}"
        yield proxy
    upstream.close()
