"""Names in the paths of the control API: an identity, or an id, may hold a slash, which decoding a whole path would make the end of it.

So the paths that name one are matched as they were sent, and each name is decoded by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Final
from urllib.parse import quote, unquote

from pydantic import AfterValidator

__all__ = ["Name", "PathsAsSent"]

Name = Annotated[str, AfterValidator(unquote)]
"""A part of a path that :class:`PathsAsSent` lets through."""

_NAMING: Final = ("/api/identities/", "/api/profiles/")

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class PathsAsSent:
    """ASGI middleware."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(_NAMING):
            sent = scope.get("raw_path") or quote(scope["path"]).encode()
            scope = {**scope, "path": sent.partition(b"?")[0].decode("utf-8", "replace")}
        await self._app(scope, receive, send)
