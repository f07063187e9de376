"""The control store: sources, write keys, OAuth apps, profile tokens, destinations, in one small SQLite file with one owner.

Every change is one synced transaction and raises ``version``; followers wait for a version above the one they know.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from actors.control.model import Source, slug
from actors.control.oauth import SCHEMA as OAUTH_SCHEMA
from actors.control.oauth import OAuthApps, Statement
from actors.control.profile_tokens import SCHEMA as PROFILE_TOKENS_SCHEMA
from actors.control.profile_tokens import ProfileTokens
from destinations.base import DestinationConfig
from segment_do.computed import COMPUTED_SOURCE
from segment_do.errors import Conflict, InvalidRequest, NotFound
from segment_do.oauth import App
from segment_do.profile_api import ProfileToken
from segment_do.webhooks import WebhookConfig

__all__ = ["ControlStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, identity TEXT NOT NULL, write_key TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL, UNIQUE (name, identity)
) STRICT;
CREATE TABLE IF NOT EXISTS destinations (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, source_id TEXT, name TEXT NOT NULL, settings TEXT NOT NULL,
    enabled INTEGER NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS webhooks (
    source_id TEXT PRIMARY KEY REFERENCES sources (id) ON DELETE CASCADE, kind TEXT NOT NULL, settings TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL) STRICT;
INSERT INTO meta SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM meta);
"""
_SOURCES = """
SELECT id, name, identity, write_key, sources.created_at,
    EXISTS (SELECT 1 FROM oauth_required WHERE source_id = sources.id), kind, settings
FROM sources LEFT JOIN webhooks ON webhooks.source_id = sources.id
"""
_LONGEST_NAME = 200


class ControlStore:
    """Open it with :meth:`open`; one event loop uses it."""

    def __init__(self, database: aiosqlite.Connection, version: int) -> None:
        self._database = database
        self._version = version
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self.oauth = OAuthApps(database, self._writing, self._change, _now)
        self.profile_tokens = ProfileTokens(database, self._writing, self._change, _now)

    @classmethod
    async def open(cls, path: Path) -> ControlStore:
        """Open or create the file (mode 0600)."""
        path.touch(mode=0o600, exist_ok=True)
        database = await aiosqlite.connect(path, isolation_level=None)
        # A rollback journal and one connection: few, small writes; FULL so that a key handed out is never lost.
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute("PRAGMA locking_mode = EXCLUSIVE")
        await database.execute("PRAGMA foreign_keys = ON")
        await database.executescript(_SCHEMA + OAUTH_SCHEMA + PROFILE_TOKENS_SCHEMA)
        rows = list(await database.execute_fetchall("SELECT version FROM meta"))
        return cls(database, rows[0][0])

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def wait_newer(self, version: int, timeout_seconds: float) -> int:
        """The version once it is above ``version``, or the same one when time runs out."""
        if self._version <= version:
            changed = self._changed
            try:
                async with asyncio.timeout(timeout_seconds):
                    await changed.wait()
            except TimeoutError:
                pass
        return self._version

    async def sources(self) -> list[Source]:
        """All sources, oldest first."""
        rows = await self._database.execute_fetchall(f"{_SOURCES} ORDER BY sources.created_at, id")
        return [_source(row) for row in rows]

    async def source(self, source_id: str) -> Source:
        """One source.

        Raises:
            NotFound: there is none of this id.
        """
        for row in await self._database.execute_fetchall(f"{_SOURCES} WHERE id = ?", (source_id,)):
            return _source(row)
        raise NotFound(f"There is no source {source_id!r}.", hint="`segment-do sources list` shows those there are.")

    async def create_source(self, name: str, identity: str | None, *, ensure: bool = False) -> Source:
        """A new source with a new write key. With ``ensure``, the one of this name and identity if there is one.

        Raises:
            InvalidRequest: a name or identity that cannot be used.
            Conflict: there is one already, and ``ensure`` is not set.
        """
        name = _usable("name", name)
        identity = _usable("identity", identity) if identity else slug(name)
        async with self._writing:
            for row in await self._database.execute_fetchall(
                f"{_SOURCES} WHERE name = ? AND identity = ?", (name, identity)
            ):
                if ensure:
                    return _source(row)
                raise Conflict(f"There is a source {name!r} for identity {identity!r} already.")
            source = Source(f"src_{secrets.token_hex(8)}", name, identity, _new_key(), _now())
            await self._change(
                (
                    "INSERT INTO sources VALUES (?, ?, ?, ?, ?)",
                    (source.id, source.name, source.identity, source.write_key, source.created_at),
                )
            )
        return source

    async def rotate(self, source_id: str) -> Source:
        """Give a source a new write key; the old one stops working.

        Raises:
            NotFound: there is none of this id.
        """
        async with self._writing:
            source = await self.source(source_id)
            renewed = msgspec.structs.replace(source, write_key=_new_key())
            await self._change(("UPDATE sources SET write_key = ? WHERE id = ?", (renewed.write_key, source_id)))
        return renewed

    async def delete_source(self, source_id: str) -> None:
        """Remove a source, with its OAuth apps; its events stay.

        Raises:
            NotFound: there is none of this id.
        """
        async with self._writing:
            await self.source(source_id)
            await self._change(("DELETE FROM sources WHERE id = ?", (source_id,)))

    async def require_oauth(self, source_id: str, required: bool) -> Source:
        """Refuse a source's bare write key from now on, or take it again.

        Raises:
            NotFound: there is none of this id.
        """
        await self.source(source_id)
        await self.oauth.require(source_id, required)
        return await self.source(source_id)

    async def set_webhook(self, source_id: str, webhook: WebhookConfig | None) -> Source:
        """Let a source take a webhook's calls, in place of any it took before, or no more (None).

        Raises:
            NotFound: there is none of this id.
        """
        async with self._writing:
            await self.source(source_id)
            if webhook is None:
                await self._change(("DELETE FROM webhooks WHERE source_id = ?", (source_id,)))
            else:
                settings = msgspec.json.encode(webhook.settings).decode()
                await self._change(
                    ("INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?)", (source_id, webhook.kind, settings))
                )
        return await self.source(source_id)

    async def oauth_apps(self, source_id: str) -> list[App]:
        """The OAuth apps of a source.

        Raises:
            NotFound: there is no source of this id.
        """
        await self.source(source_id)
        return await self.oauth.all(source_id)

    async def create_oauth_app(self, source_id: str, name: str, pem: str, kid: str | None = None) -> App:
        """A new OAuth app with its first key.

        Raises:
            NotFound: there is no source of this id.
            InvalidRequest: a name, key or id that cannot be used, or too many apps.
        """
        await self.source(source_id)
        return await self.oauth.create(source_id, _usable("name", name), pem, kid)

    async def create_profile_token(self, identity: str, name: str) -> tuple[ProfileToken, str]:
        """A new token of the Profile API for an identity, and its secret, which is kept nowhere.

        Raises:
            InvalidRequest: a name or identity that cannot be used, or too many tokens.
        """
        return await self.profile_tokens.create(_usable("identity", identity), _usable("name", name))

    async def destinations(self) -> list[DestinationConfig]:
        """All destinations with their settings, secrets included."""
        rows = await self._database.execute_fetchall(
            "SELECT id, type, source_id, name, settings, enabled, created_at FROM destinations ORDER BY created_at, id"
        )
        return [
            DestinationConfig(
                id=row[0],
                type=row[1],
                source_id=row[2],
                name=row[3],
                settings=msgspec.json.decode(row[4]),
                enabled=bool(row[5]),
                created_at=row[6],
            )
            for row in rows
        ]

    async def add_destination(
        self, kind: str, source_id: str | None, name: str | None, settings: dict[str, Any]
    ) -> DestinationConfig:
        """A new destination; its settings were checked by the registry. The source may be what computed traits and audiences come from.

        Raises:
            NotFound: the source it is for does not exist.
        """
        if source_id is not None and source_id != COMPUTED_SOURCE:
            await self.source(source_id)
        added = DestinationConfig(
            id=f"dst_{secrets.token_hex(8)}",
            type=kind,
            source_id=source_id,
            name=_usable("name", name or kind),
            settings=settings,
            enabled=True,
            created_at=time.time_ns() // 1000,
        )
        async with self._writing:
            values = (
                added.id,
                added.type,
                added.source_id,
                added.name,
                msgspec.json.encode(settings).decode(),
                added.created_at,
            )
            await self._change(("INSERT INTO destinations VALUES (?, ?, ?, ?, ?, 1, ?)", values))
        return added

    async def delete_destination(self, destination_id: str) -> None:
        """Remove a destination.

        Raises:
            NotFound: there is none of this id.
        """
        async with self._writing:
            rows = list(
                await self._database.execute_fetchall("SELECT 1 FROM destinations WHERE id = ?", (destination_id,))
            )
            if not rows:
                raise NotFound(f"There is no destination {destination_id!r}.")
            await self._change(("DELETE FROM destinations WHERE id = ?", (destination_id,)))

    async def _change(self, *statements: Statement) -> None:
        await self._database.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                await self._database.execute(statement, values)
            await self._database.execute("UPDATE meta SET version = version + 1")
            await self._database.execute("COMMIT")
        except BaseException:
            await self._database.execute("ROLLBACK")
            raise
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _source(row: Any) -> Source:
    source_id, name, identity, write_key, created_at, require_oauth, kind, settings = row
    webhook = None if kind is None else WebhookConfig(kind, msgspec.json.decode(settings))
    return Source(source_id, name, identity, write_key, created_at, bool(require_oauth), webhook)


def _usable(what: str, given: str) -> str:
    given = given.strip()
    if not given or len(given) > _LONGEST_NAME or any(ord(letter) < 32 for letter in given):
        raise InvalidRequest(f"The {what} must have 1 to {_LONGEST_NAME} characters, none of them a control character.")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"The {what} is not valid Unicode text.") from None
    return given


def _new_key() -> str:
    return secrets.token_urlsafe(24)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
