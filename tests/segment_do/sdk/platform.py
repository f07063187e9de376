"""A platform to talk to: a real HTTP server on a free port that keeps what it receives and answers what it is told."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "admin-token-of-the-test"
CUT = "cut"
"""An answer: the request is read, kept, and the connection closed without a word."""


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw_bytes: int
    sent_bytes: int
    write_key: str | None

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.body["batch"])

    @property
    def message_ids(self) -> list[str]:
        return [event["messageId"] for event in self.events]


@dataclass
class Platform:
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    ensured: list[dict[str, Any]] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)
    """What the next batches are answered: ``(status, headers, body)``, an Event to wait for before it, or CUT; then 200."""
    source_answers: deque[Any] = field(default_factory=deque)
    keys: dict[str, str] = field(default_factory=dict)
    peers: list[int] = field(default_factory=list)
    """The client's port, for each batch."""
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for each request that has been read."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """Events of all acknowledged and unacknowledged requests, in order of arrival."""
        return [event for request in self.requests for event in request.events]

    def distinct(self) -> list[dict[str, Any]]:
        """What the real platform would keep: each messageId once."""
        return list({event["messageId"]: event for event in self.events}.values())


@contextmanager
def running(port: int = 0) -> Iterator[Platform]:
    platform = Platform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            raw = gzip.decompress(sent) if self.headers.get("Content-Encoding") == "gzip" else sent
            body = json.loads(raw, parse_constant=lambda text: 1 / 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.path == "/api/sources":
                self._source(headers, body)
                return
            kind, _, given = headers.get("authorization", "").partition(" ")
            key = base64.b64decode(given).decode().removesuffix(":") if kind == "Basic" else None
            answer = platform.answers.popleft() if platform.answers else (200, {}, {"success": True})
            platform.requests.append(Request(self.path, headers, body, len(raw), len(sent), key))
            platform.peers.append(self.client_address[1])
            platform.arrived.release()
            if answer != CUT and isinstance(answer[0], threading.Event):
                answer[0].wait(10)
                answer = answer[1:]
            if answer == CUT:
                self.close_connection = True
                return
            self._answer(*answer)

        def _source(self, headers: dict[str, str], body: dict[str, Any]) -> None:
            platform.ensured.append(body)
            if platform.source_answers:
                self._answer(*platform.source_answers.popleft())
            elif headers.get("authorization") != f"Bearer {TOKEN}":
                self._answer(401, {}, {"code": "unauthorized", "message": "The token is wrong."})
            else:
                key = platform.keys.setdefault(body["identity"], f"key-of-{body['identity']}")
                self._answer(200, {}, {"id": "s1", **body, "writeKey": key, "createdAt": "2026-01-01T00:00:00Z"})

        def _answer(self, status: int, headers: dict[str, str], body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64
        allow_reuse_address = True
        open_connections: set[socket.socket] = set()

        def process_request(self, request: Any, client_address: Any) -> None:
            self.open_connections.add(request)
            super().process_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that hang up are part of the tests

        def shutdown_request(self, request: Any) -> None:
            self.open_connections.discard(request)
            super().shutdown_request(request)

    server = Server(("127.0.0.1", port), Handler)
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield platform
    finally:
        server.shutdown()
        thread.join()
        for connection in list(server.open_connections):  # a platform that stops drops its clients
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()


class FakeTime:
    """Time that passes only by waiting, and remembers how long was waited."""

    def __init__(self, random: float = 1.0) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []
        self._random = random

    def wall(self) -> float:
        return 1_750_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now

    def random(self) -> float:
        return self._random

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
