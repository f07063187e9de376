"""Tokens that open a space. Only a digest is kept: a token is shown once, when it is made, and cannot be told again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

import msgspec

__all__ = ["ProfileToken", "digest_of", "new_secret", "opens"]

_SECRET_BYTES = 32


class ProfileToken(msgspec.Struct, frozen=True, rename="camel"):
    """One token of an identity."""

    id: str
    identity: str
    name: str
    digest: str
    """SHA-256 of the token, hexadecimal. A token is 256 random bits, so a slow digest would protect nothing more."""
    created_at: str

    def __repr__(self) -> str:
        return f"ProfileToken(id={self.id!r}, identity={self.identity!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("id", self.id), ("identity", self.identity)]


def new_secret() -> str:
    """What the caller keeps."""
    return f"pat_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest_of(secret: str) -> str:
    """What the platform keeps."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def opens(secret: str, tokens: Iterable[ProfileToken]) -> bool:
    """Whether it is one of these. Looks at all of them, each in constant time."""
    given = digest_of(secret)
    found = False
    for token in tokens:
        found |= hmac.compare_digest(given, token.digest)
    return found
