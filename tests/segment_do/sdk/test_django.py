"""Django's middleware, under WSGI and under ASGI, around sync and async views; served over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import django
import httpx
import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from segment_do import Analytics, SettingsError
from segment_do.sdk.django import AnalyticsMiddleware
from tests.segment_do.sdk.platform import Platform
from tests.segment_do.sdk.serving import asgi, wsgiref

if not settings.configured:
    settings.configure(
        SECRET_KEY="of-the-test", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, ROOT_URLCONF=__name__, MIDDLEWARE=[]
    )
    django.setup()

go_on = threading.Event()


class Served(AnalyticsMiddleware):
    skip = ("/health",)
    ip = True

    def identify(self, request: HttpRequest) -> str | None:
        return cast("str | None", getattr(request, "known", None))


def user(request: HttpRequest, name: str) -> HttpResponse:
    request.known = name  # type: ignore[attr-defined]
    return HttpResponse("hello")


async def user_async(request: HttpRequest, name: str) -> HttpResponse:
    request.known = name  # type: ignore[attr-defined]
    return HttpResponse("hello")


def boom(request: HttpRequest) -> HttpResponse:
    raise ValueError("boom")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one"
        assert go_on.wait(10)
        yield b"two"

    async def parts_async() -> AsyncIterator[bytes]:
        yield b"one"
        assert await asyncio.to_thread(go_on.wait, 10)
        yield b"two"

    return StreamingHttpResponse(parts_async() if hasattr(request, "scope") else parts())


urlpatterns = [
    path("users/<str:name>", user),
    path("async/<str:name>", user_async),
    path("boom", boom),
    path("stream", stream),
]


Serve = Callable[[], AbstractContextManager[httpx.Client]]


@pytest.fixture(params=["wsgi", "asgi"])
def serve(request: pytest.FixtureRequest, client: Analytics, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Serves the application with the middleware first."""
    monkeypatch.setattr(Served, "analytics", client, raising=False)
    monkeypatch.setattr(settings, "MIDDLEWARE", [f"{__name__}.Served"])
    monkeypatch.setattr(settings, "ROOT_URLCONF", __name__)
    go_on.clear()
    return lambda: wsgiref(WSGIHandler()) if request.param == "wsgi" else asgi(ASGIHandler())


def test_requests_are_told_by_their_route(platform: Platform, client: Analytics, serve: Serve) -> None:
    """One event a request, sync views and async ones: the URL pattern, 404 by its path, an exception as 500."""
    with serve() as http:
        headers = {"referer": "https://a.example/", "cookie": "ajs_anonymous_id=visitor"}
        assert http.get("/users/ada?token=secret", headers=headers).text == "hello"
        assert http.post("/async/bob").text == "hello"
        assert http.get("/nowhere").status_code == 404
        assert http.get("/boom").status_code == 500
        assert http.get("/health").status_code == 404
    client.flush().wait(10)
    told = [(e["properties"]["method"], e["properties"]["path"], e["properties"]["status"]) for e in platform.events]
    assert told == [
        ("GET", "/users/<str:name>", 200),
        ("POST", "/async/<str:name>", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/boom", 500),
    ]
    first = platform.events[0]
    assert (first["userId"], first["anonymousId"]) == ("ada", "visitor")
    assert (first["context"]["userAgent"], first["context"]["ip"]) == ("browser/1", "127.0.0.1")
    assert first["properties"]["referrer"] == "https://a.example/"
    assert "secret" not in str(platform.events)


def test_streams_stream_and_are_told_at_their_end(platform: Platform, client: Analytics, serve: Serve) -> None:
    """The first part arrives before the second is made; the event comes behind the last."""
    with serve() as http, http.stream("GET", "/stream") as response:
        received = response.iter_raw()
        assert next(received) == b"one"
        assert client._sender.unsettled == 0
        go_on.set()
        assert b"".join(received) == b"two"
    client.flush().wait(10)
    assert [event["properties"]["path"] for event in platform.events] == ["/stream"]


def test_a_failing_client_changes_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the analytics object raises, the response is as without it."""
    monkeypatch.setattr(Served, "analytics", object())
    with serve() as http:
        assert http.get("/users/ada").text == "hello"
        assert http.get("/boom").status_code == 500


@pytest.mark.parametrize("awaited", [False, True])
async def test_what_comes_through_is_raised(awaited: bool) -> None:
    """Where Django lets an exception through (as its test client does), it comes out, and the event has 500."""

    class Made(AnalyticsMiddleware):
        analytics = Analytics("wk")

    def fails(request: Any) -> Any:
        raise ValueError("boom")

    async def fails_later(request: Any) -> Any:
        raise ValueError("boom")

    request = HttpRequest()
    request.method, request.path = "GET", "/"
    with Analytics.testing() as events, pytest.raises(ValueError, match="boom"):
        answer = Made(fails_later if awaited else fails)(request)
        await answer
    assert [event["properties"]["status"] for event in events] == [500]


def test_without_a_client_it_does_not_start() -> None:
    """A class that was named in the settings without its client says what is missing."""
    with pytest.raises(SettingsError, match="analytics = Analytics"):
        AnalyticsMiddleware(lambda request: request)
