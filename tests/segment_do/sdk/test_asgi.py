"""ASGI middleware around real applications, served by uvicorn; the events arrive at a real HTTP server."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from segment_do import Analytics
from segment_do.sdk.asgi import AnalyticsMiddleware
from tests.segment_do.sdk.platform import Platform
from tests.segment_do.sdk.serving import asgi

Make = Callable[..., Analytics]


def told(platform: Platform, client: Analytics) -> list[tuple[str, str, int]]:
    """Method, path and status of every event, once all have arrived."""
    client.flush().wait(10)
    return [
        (event["properties"]["method"], event["properties"]["path"], event["properties"]["status"])
        for event in platform.events
    ]


async def user(request: Request) -> Response:
    request.state.user = request.path_params["id"]
    return PlainTextResponse("hello")


async def boom(request: Request) -> Response:
    raise ValueError("boom")


def starlette() -> Starlette:
    async def static(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("a file")(scope, receive, send)

    inner = Mount("/api", routes=[Route("/users/{id}", user, methods=["GET", "POST"])])
    return Starlette(routes=[inner, Route("/boom", boom), Mount("/static", static)])


def fastapi() -> FastAPI:
    app, router = FastAPI(), APIRouter()
    router.add_api_route("/users/{id}", user, methods=["GET", "POST"])
    app.include_router(router, prefix="/api")
    app.add_api_route("/boom", boom)
    app.mount("/static", PlainTextResponse("a file"))
    return app


@pytest.mark.parametrize(("framework", "mounted"), [(starlette, "/static"), (fastapi, "/static/a.css")])
def test_requests_are_told_by_their_route(
    platform: Platform, client: Analytics, framework: Callable[[], Any], mounted: str
) -> None:
    """One event a request: the route's template with all its prefixes where the framework tells it, else the path; 404 by
    its path, an exception as 500."""
    app = framework()
    app.add_middleware(AnalyticsMiddleware, analytics=client, skip=["/health"])
    with asgi(app) as http:
        assert http.get("/api/users/7?token=secret", headers={"referer": "https://a.example/"}).text == "hello"
        assert http.post("/api/users/8").status_code == 200
        assert http.get("/nowhere").status_code == 404
        assert http.get("/boom", headers={"connection": "close"}).status_code == 500
        assert http.get("/static/a.css").text == "a file"
        assert http.get("/health").status_code == 404
    assert told(platform, client) == [
        ("GET", "/api/users/{id}", 200),
        ("POST", "/api/users/{id}", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/boom", 500),
        ("GET", mounted, 200),
    ]
    first = platform.events[0]
    assert first["context"]["userAgent"] == "browser/1"
    assert first["properties"]["referrer"] == "https://a.example/"
    assert 0 < first["properties"]["duration_ms"] < 10_000
    assert "secret" not in str(platform.events)


def test_users_and_visitors_are_known(platform: Platform, client: Analytics) -> None:
    """`identify` sees what the application left in the scope; the visitor comes from the cookie; the address if asked."""
    app = starlette()
    app.add_middleware(
        AnalyticsMiddleware, analytics=client, ip=True, page=True, identify=lambda scope: scope["state"].get("user")
    )
    with asgi(app) as http:
        http.get("/api/users/7", headers={"cookie": "ajs_anonymous_id=visitor"})
    client.flush().wait(10)
    (event,) = platform.events
    assert (event["type"], event["name"]) == ("page", "/api/users/{id}")
    assert (event["userId"], event["anonymousId"]) == ("7", "visitor")
    assert event["context"]["ip"] == "127.0.0.1"


def test_streams_stream_and_are_told_at_their_end(platform: Platform, client: Analytics) -> None:
    """The first part arrives before the second is made; the duration is that of the whole."""
    go_on = threading.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        assert await asyncio.to_thread(go_on.wait, 10)
        yield b"two"

    async def stream(request: Request) -> Response:
        return StreamingResponse(parts())

    app = AnalyticsMiddleware(Starlette(routes=[Route("/stream", stream)]), client)
    with asgi(app) as http, http.stream("GET", "/stream") as response:
        received = response.iter_raw()
        assert next(received) == b"one"
        assert client._sender.unsettled == 0
        go_on.set()
        assert next(received) == b"two"
    assert told(platform, client) == [("GET", "/stream", 200)]


def test_a_background_task_does_not_hold_up_the_event(platform: Platform, client: Analytics) -> None:
    """The request has ended with its response, whatever the application does behind it."""
    go_on = threading.Event()

    async def view(request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(go_on.wait, 10))

    with asgi(AnalyticsMiddleware(Starlette(routes=[Route("/", view)]), client)) as http:
        assert http.get("/").text == "done"
        assert platform.arrived.acquire(timeout=10)
        go_on.set()
    assert told(platform, client) == [("GET", "/", 200)]


def test_a_client_that_leaves_is_told_too(platform: Platform, client: Analytics) -> None:
    """A response that was cut off counts once, with the status that it began with."""
    left = threading.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        assert await asyncio.to_thread(left.wait, 10)
        while True:
            yield b"more" * 10_000
            await asyncio.sleep(0)  # an application that never waits hears of nothing

    async def stream(request: Request) -> Response:
        return StreamingResponse(parts())

    with asgi(AnalyticsMiddleware(Starlette(routes=[Route("/stream", stream)]), client)) as http:
        with http.stream("GET", "/stream") as response:
            next(response.iter_raw())
        left.set()
        assert platform.arrived.acquire(timeout=10)
    assert told(platform, client) == [("GET", "/stream", 200)]


def test_a_full_queue_changes_nothing(platform: Platform, make: Make) -> None:
    """While the platform takes nothing and the queue is full, every request is answered as ever."""
    release = threading.Event()
    platform.answers.append((release, 200, {}, {"success": True}))
    app = starlette()
    client = make(queue_events=2, on_full="raise", linger_seconds=0.0)
    app.add_middleware(AnalyticsMiddleware, analytics=client)
    with asgi(app) as http:
        assert [http.get(f"/api/users/{number}").status_code for number in range(20)] == [200] * 20
    assert client._sender.unsettled == 2
    release.set()
    assert len(told(platform, client)) == 2


async def test_a_failing_client_changes_nothing() -> None:
    """Whatever the analytics object raises, the response and the application's own exceptions are as without it."""
    wrapped = AnalyticsMiddleware(starlette(), cast(Analytics, object()))
    with asgi(wrapped) as http:
        assert await asyncio.to_thread(lambda: http.get("/api/users/7").text) == "hello"
        assert (await asyncio.to_thread(http.get, "/boom", headers={"connection": "close"})).status_code == 500


def scope_of(kind: str = "http") -> dict[str, Any]:
    headers = [(b"user-agent", b"browser/1"), (b"cookie", b"ajs_anonymous_id=visitor")]
    return {"type": kind, "method": "GET", "path": "/", "headers": headers, "client": ("10.0.0.1", 1)}


async def nothing() -> Any:
    raise AssertionError("nobody asked")


async def test_the_event_comes_behind_the_response() -> None:
    """Nothing is queued while a part of the response is still to be handed to the server."""
    with Analytics.testing() as events:
        queued: list[int] = []

        async def send(message: Any) -> None:
            queued.append(len(events))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            await send({"type": "http.response.body", "body": b"2"})
            assert len(events) == 1

        await AnalyticsMiddleware(app, Analytics("wk"))(scope_of(), nothing, send)
        assert queued == [0, 0, 0]
        assert [event["properties"]["status"] for event in events] == [201]


@pytest.mark.parametrize(
    ("raised", "status"), [(ValueError("boom"), 500), (asyncio.CancelledError(), 499), (None, 500)]
)
async def test_what_the_application_raises_is_raised(raised: BaseException | None, status: int) -> None:
    """The very exception comes out; the event has 500, 499 for a request that was given up, 500 where no answer came."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if raised is not None:
            raise raised

    with Analytics.testing() as events:
        serving = AnalyticsMiddleware(app, Analytics("wk"))(scope_of(), nothing, nothing)
        if raised is None:
            await serving
        else:
            with pytest.raises(type(raised)) as caught:
                await serving
            assert caught.value is raised
        assert [event["properties"]["status"] for event in events] == [status]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_connections_pass_untouched(kind: str) -> None:
    """The application gets the server's own scope, receive and send; there is no event."""
    got: list[Any] = []

    async def app(*given: Any) -> None:
        got.extend(given)

    given = (scope_of(kind), nothing, nothing)
    with Analytics.testing() as events:
        await AnalyticsMiddleware(app, Analytics("wk"))(*given)
        assert len(events) == 0
    assert all(one is other for one, other in zip(got, given, strict=True))


def test_lifespan_runs_through_it(client: Analytics) -> None:
    """An application that starts and stops something does so under the middleware."""
    stages: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        stages.append("started")
        yield
        stages.append("stopped")

    with asgi(AnalyticsMiddleware(Starlette(lifespan=lifespan), client), lifespan="on") as http:
        assert http.get("/").status_code == 404
    assert stages == ["started", "stopped"]


async def test_a_request_costs_little(client: Analytics) -> None:
    """The middleware's own time, queueing the event included, is below 100 µs a request (median)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def send(message: Any) -> None:
        pass

    async def median_seconds(served: Any) -> float:
        taken = []
        for _ in range(1_500):
            scope = scope_of()
            began = time.perf_counter()
            await served(scope, nothing, send)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    plain = await median_seconds(app)
    own = min([await median_seconds(AnalyticsMiddleware(app, client)) for _ in range(3)]) - plain
    print(f"middleware: {own * 1e6:.1f} µs a request")  # noqa: T201
    assert own < 100e-6
