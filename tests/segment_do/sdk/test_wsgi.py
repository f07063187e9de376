"""WSGI middleware around real applications, served by wsgiref and werkzeug; the events arrive at a real HTTP server."""

from __future__ import annotations

import io
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from wsgiref.util import FileWrapper

import flask
import pytest

from segment_do import Analytics
from segment_do.sdk.wsgi import AnalyticsMiddleware
from tests.segment_do.sdk.platform import Platform
from tests.segment_do.sdk.serving import WSGI_SERVERS, wsgiref

Make = Callable[..., Analytics]


def told(platform: Platform, client: Analytics) -> list[tuple[str, str, int]]:
    """Method, path and status of every event, once all have arrived."""
    client.flush().wait(10)
    return [
        (event["properties"]["method"], event["properties"]["path"], event["properties"]["status"])
        for event in platform.events
    ]


def shop() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/users/<name>", methods=["GET", "POST"])
    def user(name: str) -> flask.Response:
        flask.request.environ["shop.user"] = name
        return flask.Response("hello")

    @app.route("/boom")
    def boom() -> flask.Response:
        raise ValueError("boom")

    return app


@pytest.mark.parametrize("serving", WSGI_SERVERS)
def test_flask_requests_are_told_by_their_route(platform: Platform, client: Analytics, serving: Any) -> None:
    """One event a request: the rule's template, 404 by its path, an exception as the 500 that Flask makes of it."""
    app = shop()
    app.wsgi_app = AnalyticsMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, client, skip=["/health"], ip=True, identify=lambda environ: environ.get("shop.user")
    )
    with serving(app) as http:
        headers = {"referer": "https://a.example/", "cookie": "ajs_anonymous_id=visitor"}
        assert http.get("/users/ada?token=secret", headers=headers).text == "hello"
        assert http.post("/users/bob").status_code == 200
        assert http.get("/nö").status_code == 404
        assert http.get("/boom").status_code == 500
        assert http.get("/health").status_code == 404
    assert told(platform, client) == [
        ("GET", "/users/<name>", 200),
        ("POST", "/users/<name>", 200),
        ("GET", "/nö", 404),
        ("GET", "/boom", 500),
    ]
    first = platform.events[0]
    assert (first["userId"], first["anonymousId"]) == ("ada", "visitor")
    assert (first["context"]["userAgent"], first["context"]["ip"]) == ("browser/1", "127.0.0.1")
    assert first["properties"]["referrer"] == "https://a.example/"
    assert "secret" not in str(platform.events)


@pytest.mark.parametrize("serving", WSGI_SERVERS)
def test_streams_stream_and_are_closed(platform: Platform, client: Analytics, serving: Any) -> None:
    """The first part arrives before the second is made, ``close`` is called, and the event comes behind it."""
    go_on, closed = threading.Event(), threading.Event()

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            assert go_on.wait(10)
            yield b"two"

        def close(self) -> None:
            assert client._sender.unsettled == 0
            closed.set()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        return Parts()

    with serving(AnalyticsMiddleware(app, client)) as http, http.stream("GET", "/stream") as response:
        received = response.iter_raw()
        assert next(received) == b"one"
        go_on.set()
        assert b"".join(received) == b"two"
    assert closed.is_set()
    assert told(platform, client) == [("GET", "/stream", 200)]


def test_a_single_part_keeps_its_length(client: Analytics) -> None:
    """A server that counts the parts to know the Content-Length can still do so."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    for served in (app, AnalyticsMiddleware(app, client)):
        with wsgiref(served) as http:
            assert http.get("/").headers["content-length"] == "5"


def test_a_file_is_the_servers_to_send(platform: Platform, client: Analytics) -> None:
    """What the application made with the server's file wrapper reaches the server as it is."""
    made: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        made.append(environ["wsgi.file_wrapper"](io.BytesIO(b"a file")))
        return cast(Iterable[bytes], made[0])

    wrapped = AnalyticsMiddleware(app, client)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.file_wrapper": FileWrapper}
    assert wrapped(environ, lambda *_: lambda _: None) is made.pop()
    with wsgiref(wrapped) as http:
        assert http.get("/file").text == "a file"
    assert told(platform, client) == [("GET", "/", 200), ("GET", "/file", 200)]


def test_an_application_that_starts_late_is_told_with_its_status() -> None:
    """A generator says its status with its first part; one that nobody asks for a part has none, and counts as left."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("202 Accepted", [])
        yield b"hello"

    with Analytics.testing() as events:
        wrapped = AnalyticsMiddleware(app, Analytics("wk"))
        for ask in (True, False):
            body = wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
            if ask:
                assert list(body) == [b"hello"]
            body.close()  # type: ignore[attr-defined]
            body.close()  # type: ignore[attr-defined]
        assert [event["properties"]["status"] for event in events] == [202, 499]


@pytest.mark.parametrize("where", ["call", "part", "close"])
def test_what_the_application_raises_is_raised(where: str) -> None:
    """The very exception comes out, wherever it was raised; the event has 500, and there is one."""
    boom = ValueError("boom")

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            if where == "part":
                raise boom

        def close(self) -> None:
            if where == "close":
                raise boom

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        if where == "call":
            raise boom
        return Parts()

    with Analytics.testing() as events:
        with pytest.raises(ValueError, match="boom") as caught:
            body = AnalyticsMiddleware(app, Analytics("wk"))({"PATH_INFO": "/"}, lambda *_: lambda _: None)
            try:
                list(body)
            finally:
                body.close()  # type: ignore[attr-defined]
        assert caught.value is boom
        assert [event["properties"]["status"] for event in events] == [500]


def test_write_still_writes(platform: Platform, client: Analytics) -> None:
    """The old way of answering, the callable that ``start_response`` returns, goes through."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])(b"hello")
        return []

    with wsgiref(AnalyticsMiddleware(app, client)) as http:
        assert http.get("/").text == "hello"
    assert told(platform, client) == [("GET", "/", 200)]


def test_a_full_queue_or_a_failing_client_changes_nothing(platform: Platform, make: Make) -> None:
    """While the queue is full, or the analytics object raises, every request is answered as ever."""
    release = threading.Event()
    platform.answers.append((release, 200, {}, {"success": True}))
    full = make(queue_events=2, on_full="raise", linger_seconds=0.0)
    for client in (full, cast(Analytics, object())):
        app = shop()
        app.wsgi_app = AnalyticsMiddleware(app.wsgi_app, client)  # type: ignore[method-assign]
        with wsgiref(app) as http:
            assert [http.get(f"/users/{number}").status_code for number in range(20)] == [200] * 20
    assert full._sender.unsettled == 2
    release.set()
    assert len(told(platform, full)) == 2


def test_a_request_costs_little(client: Analytics) -> None:
    """The middleware's own time, queueing the event included, is below 100 µs a request (median)."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    def median_seconds(served: Any) -> float:
        taken = []
        for _ in range(1_500):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_COOKIE": "ajs_anonymous_id=visitor"}
            began = time.perf_counter()
            body = served(environ, lambda *_: lambda _: None)
            for _part in body:
                pass
            getattr(body, "close", lambda: None)()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    plain = median_seconds(app)
    own = min(median_seconds(AnalyticsMiddleware(app, client)) for _ in range(3)) - plain
    print(f"middleware: {own * 1e6:.1f} µs a request")  # noqa: T201
    assert own < 100e-6
