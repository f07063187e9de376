"""Middleware for ASGI applications (Starlette, FastAPI, any other): each HTTP request becomes an event.

    app.add_middleware(AnalyticsMiddleware, analytics=analytics)   # Starlette, FastAPI
    app = AnalyticsMiddleware(app, analytics)                      # any other

Promised: messages pass one by one, in their order and unchanged, so streams stream. The event is queued after the last
part of the response was handed to the server; websockets and lifespan are not touched; what the application raises is
raised again. Nothing here can fail a request or have it wait (:mod:`segment_do.sdk.served`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Unpack

from segment_do.sdk.analytics import Analytics
from segment_do.sdk.served import CLIENT_LEFT, FAILED, Head, Teller, TellerOptions

__all__ = ["AnalyticsMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AnalyticsMiddleware:
    """Wraps an application. Options: :class:`~segment_do.sdk.served.Teller`; functions get the request's ASGI scope."""

    def __init__(self, app: App, analytics: Analytics, **options: Unpack[TellerOptions[Scope]]) -> None:
        self.app = app
        self._teller: Teller[Scope] = Teller(analytics, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server."""
        if scope["type"] != "http" or not self._teller.wants(scope["path"]):
            await self.app(scope, receive, send)
            return
        request = _Request(self._teller, scope, send)
        try:
            await self.app(scope, receive, request.send)
        except Exception:
            request.end(FAILED)
            raise
        except BaseException:  # cancelled, as some servers do when the client has gone
            request.end(request.status or CLIENT_LEFT)
            raise
        request.end(request.status or FAILED)  # it returned before its response was whole


class _Request:
    """One request under way."""

    __slots__ = ("_began", "_ended", "_mount", "_scope", "_send", "_teller", "status")

    def __init__(self, teller: Teller[Scope], scope: Scope, send: Send) -> None:
        self._teller = teller
        self._scope = scope
        self._send = send
        self._mount = len(scope.get("root_path", ""))
        self._ended = False
        self.status = 0
        self._began = teller.clock()

    async def send(self, message: Message) -> None:
        """Pass a message on; behind the last one the request has ended, whatever the application still does."""
        await self._send(message)
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
        elif kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body")):
            self.end(self.status)

    def end(self, status: int) -> None:
        """Tell it, once."""
        if not self._ended:
            self._ended = True
            self._teller.tell(self._scope, self._head, status, self._teller.clock() - self._began)

    def _head(self, scope: Scope) -> Head:
        headers = dict(scope["headers"])
        client = scope.get("client")
        return Head(
            method=scope["method"],
            path=scope["path"],
            route=self._route(scope),
            user_agent=headers.get(b"user-agent", b"").decode("latin-1"),
            referrer=headers.get(b"referer", b"").decode("latin-1"),
            cookies=headers.get(b"cookie", b"").decode("latin-1"),
            ip=client[0] if client else "",
        )

    def _route(self, scope: Scope) -> str:
        """The template of the route that routers leave in the scope, below the paths it is mounted under."""
        route = scope.get("route")
        path = getattr(route, "path", None)
        if not isinstance(path, str):
            return ""
        mounted: str = scope.get("root_path", "")[self._mount :]
        if hasattr(route, "routes"):  # a mount whose application has no router: its own path is in root_path
            return mounted or path
        # FastAPI keeps an included router's prefix beside the route, not in it.
        included = getattr((scope.get("fastapi") or {}).get("effective_route_context"), "path_format", "")
        return mounted + (included or path)
