"""Access tokens: what an app gets for an assertion, and shows with its events.

A token says by itself what it allows, under an HMAC-SHA256 whose key every ingress replica has: checking one asks nobody. It is
for us alone; clients see an opaque text. It names the key that it was bought with, so that it ends when that key is taken
away, whatever time it had left.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from segment_do.errors import Unauthorized
from segment_do.oauth.assertion import Verified

__all__ = ["GRACE_SECONDS", "Grant", "issue_token", "read_token"]

GRACE_SECONDS: Final = 5
"""A token is taken for so much longer than its client is told: clients count from when they heard of it, one of them rounds up
to the next second, and all of them drop what is answered 401."""
_PREFIX: Final = "sdo_at1_"
"""Says what it is to people and to scanners for leaked secrets; the digit, how it is made."""
_LONGEST: Final = 2_048


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a token allows: its app may send to these sources until then (seconds since 1970)."""

    app_id: str
    kid: str
    fingerprint: str
    source_ids: tuple[str, ...]
    scope: str
    expires_at: int


def issue_token(secret: bytes, verified: Verified, scope: str, now: float, lifetime_seconds: int) -> str:
    """A token for whoever an assertion has proven to be there."""
    app = verified.app
    expires_at = int(now) + lifetime_seconds + GRACE_SECONDS
    grant = Grant(app.id, verified.kid, verified.fingerprint, (app.source_id,), scope, expires_at)
    said = _PREFIX + urlsafe_b64encode(msgspec.json.encode(grant)).rstrip(b"=").decode()
    return f"{said}.{_mac(secret, said)}"


def read_token(secret: bytes, token: str, now: float) -> Grant:
    """What a token allows, if it is ours and its time is not over. Whether its app still exists is for the caller to look up.

    Raises:
        Unauthorized: ``invalid_access_token`` or ``expired_access_token``.
    """
    said, _, mac = token.partition(".")
    # Compared as text, before anything is decoded: there is one spelling of a token, and no other is looked into.
    if (
        len(token) > _LONGEST
        or not token.isascii()
        or not said.startswith(_PREFIX)
        or not hmac.compare_digest(mac, _mac(secret, said))
    ):
        raise Unauthorized(
            "The access token is not one of this platform's.",
            hint="Ask for one at /token of this platform.",
            code="invalid_access_token",
        )
    encoded = said.removeprefix(_PREFIX)
    grant = msgspec.json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=Grant)
    if grant.expires_at <= now:
        raise Unauthorized(
            "The access token has expired.", hint="Ask for a new one at /token.", code="expired_access_token"
        )
    return grant


def _mac(secret: bytes, said: str) -> str:
    return urlsafe_b64encode(hmac.digest(secret, said.encode(), "sha256")).rstrip(b"=").decode()
