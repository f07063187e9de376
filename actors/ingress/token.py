"""``POST /token``: a client assertion in, an access token out (OAuth 2.0 client credentials, as Segment's clients ask for it).

The order: the form → the assertion taken apart → its signature and times, by the key of its app → used up, once for all
replicas, and counted → a token, signed here. Answers have the names of RFC 6749 beside our own, and are never to be cached.
No CORS: a private key has no place in a browser. The ``Date`` by which clients correct their clocks is the server's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from actors.ingress.answers import Headers, Send, later, oauth_error_body, send_answer, status_of
from actors.ingress.body import ClientGone, Receive, read_body
from actors.ingress.keys import Keys
from segment_do.errors import ClientRefused, MalformedBody, NotReady, SegmentDoError, Unavailable
from segment_do.oauth import issue_token, read_assertion, read_request
from segment_do.settings import Settings

__all__ = ["TokenEndpoint"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Redeem = Callable[[str, str, float], Awaitable[None]]

_PATHS: Final = frozenset({"/token", "/token/"})
_MOST_BYTES: Final = 65_536
_NEVER_CACHED: Final[Headers] = [(b"cache-control", b"no-store"), (b"pragma", b"no-cache")]


class TokenEndpoint:
    """ASGI application; what is not for it goes ``elsewhere``. ``redeem(app_id, jti, expires_at)`` uses an assertion up."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        secret: bytes,
        redeem: Redeem,
        elsewhere: App,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._secret = secret
        self._redeem = redeem
        self._elsewhere = elsewhere
        self._clock = clock
        self.issued = 0
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope.get("path") not in _PATHS:
            await self._elsewhere(scope, receive, send)
            return
        if scope["method"] != "POST":
            wrong = MalformedBody("This path takes POST.", code="method_not_allowed")
            await send_answer(send, 405, oauth_error_body(wrong), [*_NEVER_CACHED, (b"allow", b"POST")])
            return
        try:
            body = await read_body(
                receive, max_bytes=_MOST_BYTES, timeout_seconds=self._settings.ingress.body_timeout_seconds
            )
            answer = await self._token(body)
        except ClientGone:
            return
        except Exception as error:  # told to the client, whatever it is
            self.refused += 1
            if not isinstance(error, SegmentDoError):
                log.exception("token request failed")
                error = Unavailable("The request failed inside the platform.", hint="Try again later.", retry_after=5)
            await send_answer(send, status_of(error), oauth_error_body(error), [*_NEVER_CACHED, *later(error)])
            return
        self.issued += 1
        await send_answer(send, 200, answer, _NEVER_CACHED)

    async def _token(self, body: bytes) -> bytes:
        request = read_request(body)
        assertion = read_assertion(request.assertion)
        if request.client_id not in (None, assertion.app_id):
            raise ClientRefused("The client_id is not the assertion's sub.")
        if not self._keys.loaded:
            raise NotReady("The platform is starting: OAuth apps are not loaded yet.", retry_after=1)
        app = await self._keys.app(assertion.app_id, assertion.kid)
        settings = self._settings.oauth
        verified = assertion.verify(app, self._clock(), max_seconds=settings.assertion_max_seconds)
        await self._redeem(verified.app.id, verified.jti, verified.expires_at)
        token = issue_token(self._secret, verified, request.scope, self._clock(), settings.token_seconds)
        return msgspec.json.encode(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": settings.token_seconds,
                "scope": request.scope,
            }
        )
