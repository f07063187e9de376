"""Real servers for the middleware's tests, each in a thread of its own; when one has stopped, its requests have ended."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import uvicorn
import werkzeug.serving


@contextmanager
def asgi(app: Any, lifespan: str = "off") -> Iterator[httpx.Client]:
    """uvicorn, and a client of it."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan=lifespan))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with client_of(listening.getsockname()[1]) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class _Silent(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@contextmanager
def wsgiref(app: Any) -> Iterator[httpx.Client]:
    """The standard library's server, and a client of it."""
    with _until_left(make_server("127.0.0.1", 0, app, handler_class=_Quiet)) as client:
        yield client


@contextmanager
def werkzeugs(app: Any) -> Iterator[httpx.Client]:
    """Flask's development server, and a client of it."""
    with _until_left(werkzeug.serving.make_server("127.0.0.1", 0, app, request_handler=_Silent)) as client:
        yield client


WSGI_SERVERS: list[Callable[[Any], Any]] = [wsgiref, werkzeugs]


@contextmanager
def _until_left(server: Any) -> Iterator[httpx.Client]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with client_of(server.server_port) as client:
            yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(port: int) -> httpx.Client:
    """A client of a server on this machine."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0, headers={"user-agent": "browser/1"})
