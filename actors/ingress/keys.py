"""Which source a write key belongs to, and which OAuth apps there are, as one replica knows it.

A copy of the control actor's sources and apps, kept up to date by a long poll; looking a key up costs a dictionary access. A
key that is not in the copy may be a second old: then, and at most every ``refresh_seconds``, the control actor is asked before
the key is called unknown. Where the control actor cannot be reached, keys already known go on working.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from actors.control.model import Source
from segment_do.errors import Unavailable
from segment_do.oauth import App
from segment_do.profile_api.token import ProfileToken, opens

__all__ = ["KeySet", "Keys", "basic_key"]

log = structlog.get_logger(__name__)

_MOST_HEADERS = 10_000
_AGAIN_SECONDS = 0.5
_REST_SECONDS = 0.1
"""After an answer: each holds all there is, so that ten thousand sources made in a row must not be told of ten thousand times."""


class KeySet(NamedTuple):
    """All sources, OAuth apps and tokens of the Profile API at one version of the control store."""

    version: int
    sources: list[Source]
    apps: Sequence[App] = ()
    profile_tokens: Sequence[ProfileToken] = ()


class Keys:
    """Write key → source. ``fetch(since)`` returns the sources once the store is newer than ``since`` (a long poll)."""

    def __init__(
        self,
        fetch: Callable[[int], Awaitable[KeySet]],
        *,
        refresh_seconds: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._wait = wait
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._by_key: dict[str, Source] = {}
        self._by_header: dict[bytes, Source] = {}
        self._by_id: dict[str, Source] = {}
        self._apps: dict[str, App] = {}
        self._profile_tokens: dict[str, list[ProfileToken]] = {}
        self._version = -1
        self._refreshed_at = -1e9
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> bool:
        """False until the control actor was heard once: before that no key can be judged."""
        return self._version >= 0

    @property
    def version(self) -> int:
        """Of the control store, as far as it is known here: what was concluded from an earlier one may not hold."""
        return self._version

    def by_header(self, header: bytes) -> Source | None:
        """The source of an Authorization header seen before; the fast path."""
        return self._by_header.get(header)

    def known(self, key: str) -> Source | None:
        """The source of a write key, as far as this copy knows."""
        return self._by_key.get(key)

    def remember(self, header: bytes, source: Source) -> None:
        """From now on :meth:`by_header` knows this header."""
        if len(self._by_header) >= _MOST_HEADERS:  # starts over rather than remember everything ever sent
            self._by_header.clear()
        self._by_header[header] = source

    async def resolve(self, *keys: str) -> Source | None:
        """The source of the first of these write keys that has one, asking the control actor before saying None.

        Raises:
            Unavailable: none is known here and the control actor cannot be reached.
        """
        for asked in (False, True):
            if asked and keys:
                await self._refresh()
            for key in keys:
                if source := self._by_key.get(key):
                    return source
        return None

    async def webhook_source(self, source_id: str) -> Source | None:
        """The source of this id, asking the control actor before saying None, or that it takes no webhook.

        Raises:
            Unavailable: it is not known here and the control actor cannot be reached.
        """
        source = self._by_id.get(source_id)
        if source is None or source.webhook is None:
            await self._refresh()
            source = self._by_id.get(source_id)
        return source

    async def app(self, app_id: str, kid: str) -> App | None:
        """An OAuth app, asking the control actor before saying that there is none, or that it has no such key.

        Raises:
            Unavailable: it is not known here and the control actor cannot be reached.
        """
        app = self._apps.get(app_id)
        if app is None or app.key(kid) is None:
            await self._refresh()
            app = self._apps.get(app_id)
        return app

    async def opens(self, space: str, token: str) -> bool:
        """Whether it is a token of the Profile API for this identity, asking the control actor before saying no.

        Raises:
            Unavailable: it is not known here and the control actor cannot be reached.
        """
        if opens(token, self._profile_tokens.get(space, ())):
            return True
        await self._refresh()
        return opens(token, self._profile_tokens.get(space, ()))

    async def follow(self) -> None:
        """Keep the copy up to date until cancelled."""
        while True:
            try:
                self._take(await self._fetch(self._version))
                await self._wait(_REST_SECONDS)
            except Unavailable as error:
                log.warning("control actor not reached; known write keys go on working", error=str(error))
                await self._wait(_AGAIN_SECONDS)
            except Exception:
                # Whatever broke: without this loop a key that was rotated away would go on working.
                log.exception("write keys were not followed; known ones go on working")
                await self._wait(_AGAIN_SECONDS)

    async def _refresh(self) -> None:
        if self._refreshing is None:
            wait = self._refreshed_at + self._refresh_seconds - self._clock()
            self._refreshing = asyncio.create_task(self._refresh_after(max(0.0, wait)))
        await asyncio.shield(self._refreshing)

    async def _refresh_after(self, wait_seconds: float) -> None:
        # Unknown keys, however many, cost one call to the control actor every refresh_seconds.
        try:
            if wait_seconds:
                await asyncio.sleep(wait_seconds)
            self._take(await self._fetch(-1))
        finally:
            self._refreshed_at = self._clock()
            self._refreshing = None

    def _take(self, found: KeySet) -> None:
        if found.version <= self._version:
            return
        self._version = found.version
        self._by_key = {source.write_key: source for source in found.sources}
        self._by_header = {}
        self._by_id = {source.id: source for source in found.sources}
        self._apps = {app.id: app for app in found.apps}
        self._profile_tokens = {}
        for token in found.profile_tokens:
            self._profile_tokens.setdefault(token.identity, []).append(token)


def basic_key(header: bytes) -> str | None:
    """The write key of ``Authorization: Basic …``: the user name, with or without a colon behind it."""
    scheme, _, given = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(given.strip() + b"=" * (-len(given.strip()) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return text.partition(":")[0] or None
