"""OAuth apps in the control store: which app may send to which source, with which public keys, and which sources insist on it.

Every change raises the store's version, so that the replicas hear of it at once. A source that is deleted takes its apps along.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiosqlite
import msgspec

from segment_do.errors import Conflict, InvalidRequest, NotFound
from segment_do.oauth import SCOPE, App, PublicKey, checked_kid, read_public_key

__all__ = ["SCHEMA", "OAuthApps", "Statement"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS oauth_apps (
    id TEXT PRIMARY KEY, source_id TEXT NOT NULL REFERENCES sources (id) ON DELETE CASCADE, name TEXT NOT NULL,
    scopes TEXT NOT NULL, enabled INTEGER NOT NULL, created_at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS oauth_keys (
    app_id TEXT NOT NULL REFERENCES oauth_apps (id) ON DELETE CASCADE, kid TEXT NOT NULL, pem TEXT NOT NULL,
    fingerprint TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (app_id, kid)
) STRICT;
CREATE TABLE IF NOT EXISTS oauth_required (
    source_id TEXT PRIMARY KEY REFERENCES sources (id) ON DELETE CASCADE
) STRICT;
"""
_MOST_APPS: Final = 100
"""Apps of one source. Every replica keeps all of them in memory."""
_MOST_KEYS: Final = 16
"""Keys of one app: a new one beside an old one is what rotating takes."""

Statement = tuple[str, tuple[Any, ...]]


class OAuthApps:
    """A part of the control store, which gives it its connection, its lock, and ``change(*statements)``: one transaction."""

    def __init__(
        self,
        database: aiosqlite.Connection,
        writing: asyncio.Lock,
        change: Callable[..., Awaitable[None]],
        now: Callable[[], str],
    ) -> None:
        self._database = database
        self._writing = writing
        self._change = change
        self._now = now

    async def all(self, source_id: str | None = None) -> list[App]:
        """All apps, oldest first, or those of one source."""
        keys: dict[str, list[PublicKey]] = {}
        for app_id, *fields in await self._database.execute_fetchall(
            "SELECT app_id, kid, pem, fingerprint, created_at FROM oauth_keys ORDER BY created_at, kid"
        ):
            keys.setdefault(app_id, []).append(PublicKey(*fields))
        rows = await self._database.execute_fetchall(
            "SELECT id, name, source_id, scopes, enabled, created_at FROM oauth_apps"
            " WHERE ? IS NULL OR source_id = ? ORDER BY created_at, id",
            (source_id, source_id),
        )
        return [
            App(row[0], row[1], row[2], tuple(row[3].split()), tuple(keys.get(row[0], ())), bool(row[4]), row[5])
            for row in rows
        ]

    async def create(self, source_id: str, name: str, pem: str, kid: str | None = None) -> App:
        """A new app of a source, with its first key. The source must exist.

        Raises:
            InvalidRequest: a key or an id that cannot be used, or the source has too many apps.
        """
        key = self._key(pem, kid)
        async with self._writing:
            if len(await self.all(source_id)) >= _MOST_APPS:
                raise InvalidRequest(f"A source has at most {_MOST_APPS} OAuth apps.", code="too_many_apps")
            app = App(f"oap_{secrets.token_hex(8)}", name, source_id, (SCOPE,), (key,), True, self._now())
            await self._change(
                (
                    "INSERT INTO oauth_apps VALUES (?, ?, ?, ?, 1, ?)",
                    (app.id, source_id, name, " ".join(app.scopes), app.created_at),
                ),
                _insert(app.id, key),
            )
        return app

    async def add_key(self, source_id: str, app_id: str, pem: str, kid: str | None = None) -> App:
        """A further key of an app; those it has go on working.

        Raises:
            NotFound: the source has no such app.
            Conflict: the app has a key of this id.
            InvalidRequest: the key or its id cannot be used, or there are too many.
        """
        key = self._key(pem, kid)
        async with self._writing:
            app = await self._app(source_id, app_id)
            if any(each.kid == key.kid for each in app.keys):
                raise Conflict(
                    f"The app {app_id} has a key {key.kid!r} already.", hint="Revoke it, or name the new one."
                )
            if len(app.keys) >= _MOST_KEYS:
                raise InvalidRequest(f"An app has at most {_MOST_KEYS} keys.", code="too_many_keys")
            await self._change(_insert(app_id, key))
        return msgspec.structs.replace(app, keys=(*app.keys, key))

    async def delete_key(self, source_id: str, app_id: str, kid: str) -> App:
        """Revoke a key, and with it all tokens that it has bought.

        Raises:
            NotFound: the source has no such app, or the app no such key.
        """
        async with self._writing:
            app = await self._app(source_id, app_id)
            left = tuple(key for key in app.keys if key.kid != kid)
            if len(left) == len(app.keys):
                raise NotFound(f"The app {app_id} has no key {kid!r}.")
            await self._change(("DELETE FROM oauth_keys WHERE app_id = ? AND kid = ?", (app_id, kid)))
        return msgspec.structs.replace(app, keys=left)

    async def enable(self, source_id: str, app_id: str, enabled: bool) -> App:
        """Let an app have and use tokens, or not for now.

        Raises:
            NotFound: the source has no such app.
        """
        async with self._writing:
            app = await self._app(source_id, app_id)
            await self._change(("UPDATE oauth_apps SET enabled = ? WHERE id = ?", (int(enabled), app_id)))
        return msgspec.structs.replace(app, enabled=enabled)

    async def delete(self, source_id: str, app_id: str) -> None:
        """Remove an app, and with it its keys and all their tokens.

        Raises:
            NotFound: the source has no such app.
        """
        async with self._writing:
            await self._app(source_id, app_id)
            await self._change(("DELETE FROM oauth_apps WHERE id = ?", (app_id,)))

    async def require(self, source_id: str, required: bool) -> None:
        """Let a source refuse events that come with its bare write key, or take them again. The source must exist."""
        async with self._writing:
            if required:
                await self._change(("INSERT OR IGNORE INTO oauth_required VALUES (?)", (source_id,)))
            else:
                await self._change(("DELETE FROM oauth_required WHERE source_id = ?", (source_id,)))

    async def _app(self, source_id: str, app_id: str) -> App:
        for app in await self.all(source_id):
            if app.id == app_id:
                return app
        raise NotFound(
            f"The source has no OAuth app {app_id!r}.", hint="`segment-do sources oauth list` shows those there are."
        )

    def _key(self, pem: str, kid: str | None) -> PublicKey:
        pem, fingerprint = read_public_key(pem)
        return PublicKey(checked_kid(kid, fingerprint), pem, fingerprint, self._now())


def _insert(app_id: str, key: PublicKey) -> Statement:
    return (
        "INSERT INTO oauth_keys VALUES (?, ?, ?, ?, ?)",
        (app_id, key.kid, key.pem, key.fingerprint, key.created_at),
    )
