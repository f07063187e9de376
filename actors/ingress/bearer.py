"""Access tokens at the door: what comes with ``Authorization: Bearer``, judged without asking anyone.

A source that requires OAuth takes nothing without a good token; at other sources the write key is enough, and a bearer header
beside it is looked at only to find the short way for the next request. Tokens found good are remembered until their time is
over or anything in the control store has changed, revoked keys among it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from actors.control.model import Source
from actors.ingress.keys import Keys
from segment_do.errors import SegmentDoError, Unauthorized
from segment_do.events.intake import body_write_key
from segment_do.oauth import SCOPE, Grant, read_token

__all__ = ["Bearers"]

_MOST_TOKENS: Final = 10_000
"""Good tokens remembered. At the bound all are forgotten: each is checked once more when it comes."""


class Bearers:
    """One event loop uses it. ``clock``: seconds since 1970."""

    def __init__(self, keys: Keys, secret: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._secret = secret
        self._clock = clock
        self._good: dict[bytes, Grant] = {}
        self._version = -1

    def source(self, header: bytes, body: bytes) -> Source | None:
        """The source of a request whose token was found good before; None = :meth:`admit` has to look. The fast path."""
        grant = self._good.get(header)
        if grant is None or self._version != self._keys.version or grant.expires_at <= self._clock():
            return None
        key = body_write_key(body)
        source = self._keys.known(key) if key is not None else None
        return source if source is not None and source.id in grant.source_ids else None

    async def admit(self, source: Source, header: bytes | None) -> None:
        """Let a request of this source pass.

        Raises:
            Unauthorized: the source requires OAuth, and the token is missing, not ours, expired, revoked or another source's.
            Unavailable: the token's app is not known here and the control actor cannot be reached.
        """
        token = _token(header) if header is not None else None
        if token is None or header is None:
            if source.require_oauth:
                raise Unauthorized(
                    "This source takes events with an access token only.",
                    hint="Give your client its OAuth settings; docs/oauth.md has them.",
                    code="oauth_required",
                )
            return
        try:
            grant = await self._check(source, token)
        except SegmentDoError:
            if source.require_oauth:
                raise
            return
        self._remember(header, grant)

    async def _check(self, source: Source, token: str) -> Grant:
        grant = read_token(self._secret, token, self._clock())
        app = await self._keys.app(grant.app_id, grant.kid)
        key = app.key(grant.kid) if app is not None else None
        if key is None or key.fingerprint != grant.fingerprint:
            raise Unauthorized(
                "The access token was revoked: its app or its key is no longer there.", code="revoked_access_token"
            )
        if source.id not in grant.source_ids or grant.scope != SCOPE:
            raise Unauthorized("The access token is for another source.", code="wrong_access_token")
        return grant

    def _remember(self, header: bytes, grant: Grant) -> None:
        if self._version != self._keys.version or len(self._good) >= _MOST_TOKENS:
            self._good.clear()
            self._version = self._keys.version
        self._good[header] = grant


def _token(header: bytes) -> str | None:
    scheme, _, given = header.partition(b" ")
    return given.strip().decode("latin-1") if scheme.lower() == b"bearer" else None
