"""Tokens of the Profile API in the control store: which open which identity's profiles. Digests alone are kept.

Every change raises the store's version, so that the replicas hear of it at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import aiosqlite

from segment_do.errors import InvalidRequest, NotFound
from segment_do.profile_api.token import ProfileToken, digest_of, new_secret

__all__ = ["SCHEMA", "ProfileTokens"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS profile_tokens (
    id TEXT PRIMARY KEY, identity TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL
) STRICT;
"""
_MOST_TOKENS: Final = 100
"""Tokens of one identity. Every replica keeps all of them in memory, and looks at all of a space's for each request."""


class ProfileTokens:
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

    async def all(self, identity: str | None = None) -> list[ProfileToken]:
        """All tokens, oldest first, or those of one identity."""
        rows = await self._database.execute_fetchall(
            "SELECT id, identity, name, digest, created_at FROM profile_tokens WHERE ? IS NULL OR identity = ?"
            " ORDER BY created_at, id",
            (identity, identity),
        )
        return [ProfileToken(*row) for row in rows]

    async def create(self, identity: str, name: str) -> tuple[ProfileToken, str]:
        """A new token, and the secret, which nobody can be told again. The identity need not have been seen.

        Raises:
            InvalidRequest: the identity has too many.
        """
        secret = new_secret()
        token = ProfileToken(f"pto_{secrets.token_hex(8)}", identity, name, digest_of(secret), self._now())
        async with self._writing:
            if len(await self.all(identity)) >= _MOST_TOKENS:
                raise InvalidRequest(f"An identity has at most {_MOST_TOKENS} tokens.", code="too_many_tokens")
            await self._change(
                (
                    "INSERT INTO profile_tokens VALUES (?, ?, ?, ?, ?)",
                    (token.id, token.identity, token.name, token.digest, token.created_at),
                )
            )
        return token, secret

    async def revoke(self, identity: str, token_id: str) -> None:
        """End a token.

        Raises:
            NotFound: the identity has no such token.
        """
        async with self._writing:
            if token_id not in [each.id for each in await self.all(identity)]:
                raise NotFound(
                    f"The identity {identity!r} has no token {token_id!r}.",
                    hint="`segment-do profile tokens list` shows those there are.",
                )
            await self._change(("DELETE FROM profile_tokens WHERE id = ?", (token_id,)))
