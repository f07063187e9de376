"""A platform and a site: HTTP servers that keep what they receive and answer what they are told.

Connections are not kept alive: a browser sends a request again by itself when a kept one breaks.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.browser.serving import serving

CUT = "cut"
"""An answer: the request is read, kept, and the connection closed without a word."""
LOST = "lost"
"""An answer: as CUT, and the request is not even read into the record."""

WAIT_SECONDS = 15


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    bytes: int

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.body.get("batch", [self.body]))

    @property
    def retry(self) -> str | None:
        return self.headers.get("x-retry-count")

    @property
    def message_ids(self) -> list[str]:
        return [event["messageId"] for event in self.events]


@dataclass
class Recorder:
    url: str = ""
    host: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """What GET gives: content type and body, by path without its query."""
    requests: list[Request] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)
    """What the next POSTs are answered: ``(status, headers)``, an Event to wait for before a 200, CUT, LOST; then 200."""
    preflights: list[dict[str, str]] = field(default_factory=list)
    sources: list[tuple[dict[str, Any], str | None]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the platform would keep: each messageId once."""
        return list({event["messageId"]: event for request in list(self.requests) for event in request.events}.values())

    def wait(self, done: Callable[[Recorder], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: done(self), WAIT_SECONDS), [
                (request.path, [(event["type"], event.get("event")) for event in request.events])
                for request in self.requests
            ]

    def wait_events(self, count: int) -> list[dict[str, Any]]:
        self.wait(lambda recorder: len(recorder.events) >= count)
        return self.events

    def wait_requests(self, count: int) -> list[Request]:
        self.wait(lambda recorder: len(recorder.requests) >= count)
        return self.requests

    def serve(self, path: str, text: str, kind: str = "text/html; charset=utf-8") -> str:
        self.files[path] = (kind, text.encode())
        return self.url + path

    def serve_file(self, path: str, file: Path) -> None:
        self.files[path] = ("text/javascript; charset=utf-8", file.read_bytes())


@contextmanager
def recording() -> Iterator[Recorder]:
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            kind, body = recorder.files.get(path, ("text/plain", b""))
            self._answer(200 if path in recorder.files else 404, {"Content-Type": kind}, body)

        def do_OPTIONS(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.preflights.append(headers)
            asked = headers.get("access-control-request-headers", "")
            self._answer(204, {"Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": asked}, b"")

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            sent = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not self.path.startswith("/v1/"):
                recorder.sources.append((json.loads(sent or b"{}"), headers.get("authorization")))
                self._answer(200, {"Content-Type": "application/json"}, b'{"writeKey":"key-of-the-agent"}')
                return
            with recorder.changed:
                answer = recorder.answers.popleft() if recorder.answers else (200, {})
                if answer != LOST:
                    recorder.requests.append(Request(self.path, headers, json.loads(sent), len(raw)))
                recorder.changed.notify_all()
            if isinstance(answer, threading.Event):
                answer.wait(WAIT_SECONDS)
                answer = (200, {})
            if answer not in (CUT, LOST):
                self._answer(answer[0], {"Content-Type": "application/json", **answer[1]}, b'{"success": true}')

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Expose-Headers", "Retry-After")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as recorder.host:
        recorder.url = f"http://{recorder.host}"
        yield recorder
