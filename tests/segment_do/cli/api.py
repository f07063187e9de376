"""Plays the platform's API over real HTTP on 127.0.0.1: keeps what it is sent, and misbehaves where a test says so."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN = "token-of-the-tests"
CUT = "cut"
"""In ``Api.misbehave``: store the events, then cut the connection without an answer."""

WEBHOOK = {
    "type": "webhook",
    "name": "Webhook",
    "description": "Sends every event as JSON.",
    "fields": [
        {"name": "url", "label": "URL", "type": "url", "required": True, "description": "Where to."},
        {"name": "headers", "label": "Headers", "type": "mapping", "secret": True, "default": {}},
        {"name": "batch_size", "label": "Batch size", "type": "integer", "default": 1},
        {"name": "verify", "label": "Verify", "type": "boolean", "default": True},
        {"name": "secret", "label": "Secret", "type": "text", "secret": True},
    ],
}


class Api:
    """State of the platform played, and its server."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new, on the same port."""
        self.sources: dict[str, dict[str, Any]] = {}
        self.destinations: dict[str, dict[str, Any]] = {}
        self.apps: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        """messageId → event, as first stored."""
        self.received = 0
        """Events stored, doubles included."""
        self.batches: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Method, path as sent, headers."""
        self.bodies: list[bytes] = []
        self.misbehave: deque[tuple[int, dict[str, str]] | str | None] = deque()
        """For each next tracking request: a status and headers, CUT, or None = behave."""
        self.on_batch: Callable[[], None] = lambda: None
        self.trace_after = 0
        """Traces of a message that see nothing yet, before one more stage is seen each time."""
        self.delivered: dict[str, Any] = {}
        """What the trace's last stage says of destinations."""
        self.traces: dict[str, int] = {}
        self.sql: bytes = b'{"columns":["n"],"rows":[[1]],"elapsedMs":1.5,"truncated":false}'
        self.fail: tuple[int, dict[str, Any]] | bytes | None = None
        """Answer of every control request: a status and an error, or bytes with status 500."""
        self.streams: deque[list[bytes]] = deque()
        """What each next /api/tail sends before it is cut; after the last one it hangs."""

    def __enter__(self) -> Api:
        routes = [
            Route("/v1/{kind}", self._track, methods=["POST"]),
            Route("/ready", self._ready),
            Route("/api/tail", self._guarded(self._tail)),
            Route("/api/{path:path}", self._guarded(self._control), methods=["GET", "POST", "PATCH", "DELETE"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer waits 40 ms.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()

    def add_source(self, name: str, identity: str | None = None) -> dict[str, Any]:
        source = {
            "id": f"src_{len(self.sources) + 1}",
            "name": name,
            "identity": identity or name.lower(),
            "writeKey": f"wk_{len(self.sources) + 1}",
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        self.sources[source["id"]] = source
        return source

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def check(request: Request) -> Response:
            self.requests.append((request.method, request.url.path, dict(request.headers)))
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return _error(401, "admin_token", "This path needs the admin token.", "`segment-do token` prints it.")
            if isinstance(self.fail, bytes):
                return Response(self.fail, 500)
            if self.fail is not None:
                return JSONResponse(self.fail[1], self.fail[0], {"retry-after": "7", "location": "/ready"})
            return await answer(request)

        return check

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    async def _track(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((request.method, request.url.path, dict(request.headers)))
        self.on_batch()
        fault = self.misbehave.popleft() if self.misbehave else None
        if isinstance(fault, tuple):
            told = {"code": "malformed_body", "message": "The body cannot be read.", "error": ""}
            if fault[0] in (429, 503):
                told = {"code": "busy", "message": "Too many requests are in flight.", "error": ""}
            return JSONResponse(told, fault[0], fault[1])
        key = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().rstrip(":")
        if key not in {source["writeKey"] for source in self.sources.values()}:
            return _error(401, "unknown_write_key", "The write key is not known.", "")
        self.bodies.append(body)
        batch = json.loads(body)
        self.batches.append(batch)
        rejected = []
        for index, event in enumerate(batch["batch"]):
            if not event.get("userId") and not event.get("anonymousId"):
                told = {"code": "no_user_anon_id", "message": "The event has neither userId nor anonymousId."}
                rejected.append({"index": index, "messageId": event.get("messageId"), **told})
                continue
            self.received += 1
            self.events.setdefault(event["messageId"], event)
        if fault == CUT:
            return _Cut()
        return JSONResponse({"success": True, **({"rejected": rejected} if rejected else {})})

    async def _tail(self, request: Request) -> Response:
        parts = self.streams.popleft() if self.streams else None

        async def stream() -> AsyncIterator[bytes]:
            yield b": connected\n\n"
            for part in parts or []:
                yield part
            if parts is None:
                await asyncio.Event().wait()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def _control(self, request: Request) -> Response:
        parts = request.path_params["path"].split("/")
        body = await request.body()
        told = json.loads(body) if body else {}
        match request.method, parts:
            case "GET", ["status"]:
                return JSONResponse(
                    {
                        "version": "0.1.0", "home": "/data", "url": self.url, "ready": True,
                        "components": [{"name": "ingress", "state": "ready"}],
                        "ingress": {"events": len(self.requests) * 1000, "failed": 0},
                        "queue": {"end": 7, "destinations": {"dst_1": {"lag": 2, "dead": 0}}},
                        "warehouse": {"rows": 7},
                    }
                )  # fmt: skip
            case "GET", ["sources"]:
                return JSONResponse({"sources": list(self.sources.values())})
            case "POST", ["sources"]:
                for source in self.sources.values():
                    if source["name"] == told["name"]:
                        if told.get("ensure"):
                            return JSONResponse(source)
                        return _error(409, "conflict", f"There is a source {told['name']!r} already.", "")
                return JSONResponse(self.add_source(told["name"], told.get("identity")))
            case "POST", ["sources", source_id, "rotate"] if source_id in self.sources:
                self.sources[source_id]["writeKey"] = "wk_new"
                return JSONResponse(self.sources[source_id])
            case "DELETE", ["sources", source_id] if source_id in self.sources:
                del self.sources[source_id]
                return JSONResponse({"deleted": source_id})
            case "PATCH", ["sources", source_id] if source_id in self.sources:
                self.sources[source_id] |= told
                return JSONResponse(self.sources[source_id])
            case _, ["sources", source_id, "oauth-apps", *rest] if source_id in self.sources:
                return self._oauth(request.method, source_id, rest, told)
            case "GET", ["destination-types"]:
                return JSONResponse({"types": [WEBHOOK]})
            case "GET", ["destinations"]:
                return JSONResponse({"destinations": list(self.destinations.values())})
            case "POST", ["destinations"]:
                made = {"id": "dst_1", "name": "Webhook", "sourceId": None, "enabled": True, **told}
                self.destinations["dst_1"] = {**made, "delivery": {"lag": 1, "delivered": 2, "retrying": 0, "dead": 0}}
                return JSONResponse(made)
            case "POST", ["destinations", "dst_1", "test"]:
                ok = told == {} and bool(self.destinations)
                return JSONResponse({"ok": ok, "status": 200 if ok else 500, "detail": "" if ok else "It said no."})
            case "DELETE", ["destinations", "dst_1"] if self.destinations:
                self.destinations.clear()
                return JSONResponse({"deleted": "dst_1"})
            case "GET", ["destinations", "dst_1", "dead"]:
                letter = {"at": "2026-01-01T00:00:00Z", "offset": 3, "messageId": "m", "attempts": 9, "status": 500}
                return JSONResponse({"dead": [{**letter, "reason": "gave_up:status_500", "event": "{}"}]})
            case "POST", ["destinations", "dst_1", "replay"]:
                return JSONResponse({"replayed": 3 if told.get("dead") else told["fromOffset"]})
            case "POST", ["sql"]:
                self.bodies.append(body)
                return Response(self.sql, media_type="application/json")
            case "GET", ["rejected"]:
                one = {"receivedAt": "2026-01-01T00:00:00Z", "sourceId": "src_1", "code": "missing_event"}
                return JSONResponse({"rejected": [{**one, "message": "No name.\x1b[31m", "messageId": "m"}]})
            case "GET", ["trace", *rest]:
                return JSONResponse(self._traced("/".join(rest)))
            case "GET", ["profiles", "tom", "user_id:u1"]:
                found = {"profileId": "p1", "externalIds": [{"type": "user_id", "id": "u1"}], "traits": {"plan": "pro"}}
                return JSONResponse({**found, "createdAt": "2026", "updatedAt": "2027"})
        return _error(404, "not_found", f"There is nothing at {'/'.join(parts)}.", "")

    def _oauth(self, method: str, source_id: str, rest: list[str], told: dict[str, Any]) -> Response:
        key = {"kid": told.get("kid", "key_made"), "publicKey": told.get("publicKey")}
        match method, rest:
            case "GET", []:
                return JSONResponse({"apps": list(self.apps.values())})
            case "POST", []:
                made = {"id": f"oap_{len(self.apps) + 1}", "name": told["name"], "sourceId": source_id, "enabled": True}
                self.apps[str(made["id"])] = {**made, "createdAt": "2026", "keys": [key]}
                return JSONResponse(self.apps[str(made["id"])])
            case "POST", [app_id, "keys"] if app_id in self.apps:
                self.apps[app_id]["keys"].append(key)
                return JSONResponse(self.apps[app_id])
            case "DELETE", [app_id] if app_id in self.apps:
                del self.apps[app_id]
                return JSONResponse({"deleted": app_id})
            case "DELETE", [app_id, "keys", kid] if app_id in self.apps:
                self.apps[app_id]["keys"] = [each for each in self.apps[app_id]["keys"] if each["kid"] != kid]
                return JSONResponse(self.apps[app_id])
        return _error(404, "not_found", "The source has no such OAuth app.", "")

    def _traced(self, message_id: str) -> dict[str, Any]:
        seen = self.traces[message_id] = self.traces.get(message_id, 0) + 1
        past = seen - self.trace_after if message_id in self.events else 0
        stages = {"applied": past > 0, "queryable": past > 1, "delivered": self.delivered if past > 2 else {}}
        if past <= 2 and self.delivered:
            stages["delivered"] = dict.fromkeys(self.delivered, False)
        return {"messageId": message_id, "stages": stages}


class _Cut(Response):
    """Ends the connection in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _error(status: int, code: str, message: str, hint: str) -> Response:
    told = {"success": False, "code": code, "message": message, "error": message}
    return JSONResponse({**told, "hint": hint} if hint else told, status)
