"""Client assertions: a JWT by which an app proves, with its private key, who it is (RFC 7523; RS256 and nothing else).

Reading one proves nothing: it only says whose key it claims to be signed with. :meth:`Assertion.verify` proves it. The issuer
is not looked at, because clients and documentation disagree about it; the audience must be there, and may be any, because a
platform has as many addresses as it has proxies in front.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from segment_do.errors import ClientRefused, TokenRequestRefused
from segment_do.oauth.app import App, load_public_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["LEEWAY_SECONDS", "Assertion", "Verified", "read_assertion"]

LEEWAY_SECONDS: Final = 5
"""Clocks may disagree by so much; clients date their assertions five seconds back as well."""
_LONGEST: Final = 16_384
_LONGEST_ID: Final = 200
_LOADED_KEYS: Final = 256
"""Parsed keys kept; of more, the one used longest ago is parsed again when it is needed."""


class _Header(msgspec.Struct):
    alg: str
    kid: str
    typ: str = "JWT"
    crit: Any = None


class _Claims(msgspec.Struct):
    sub: str
    aud: str | list[str]
    iat: float
    exp: float
    jti: str
    nbf: float | None = None


class Verified(NamedTuple):
    """An assertion whose signature and times hold. Whether it was used before is not known here."""

    app: App
    kid: str
    fingerprint: str
    jti: str
    expires_at: float
    """Seconds since 1970 after which it is refused anyway."""


class Assertion:
    """A well-formed assertion: ``app_id`` and ``kid`` are what it claims, nothing is proven yet."""

    __slots__ = ("_claims", "_signature", "_signed", "app_id", "kid")

    def __init__(self, header: _Header, claims: _Claims, signed: bytes, signature: bytes) -> None:
        self.app_id = claims.sub
        self.kid = header.kid
        self._claims = claims
        self._signed = signed
        self._signature = signature

    def verify(self, app: App | None, now: float, *, max_seconds: float) -> Verified:
        """Prove it with the key of the app that it names. ``now``: seconds since 1970.

        Raises:
            ClientRefused: there is no such app or key, or the signature is not the key's.
            TokenRequestRefused: it is past its time, ahead of it, or meant to live longer than ``max_seconds``.
        """
        key = app.key(self.kid) if app is not None and app.id == self.app_id else None
        # One answer for every reason: whoever cannot sign learns nothing about which apps and keys there are.
        if app is None or key is None or not _signed_by(key.pem, self._signed, self._signature):
            raise ClientRefused(
                "The app, its key or the signature of the assertion is not known.",
                hint="`segment-do sources oauth list` shows the apps of a source and the ids of their keys.",
            )
        claims = self._claims
        # Clients compare these two sentences letter by letter, then correct their clocks by our Date and try again.
        if not now - LEEWAY_SECONDS < claims.exp:
            raise TokenRequestRefused("Token is expired", code="assertion_expired")
        if not max(claims.iat, claims.nbf or 0.0) <= now + LEEWAY_SECONDS:
            raise TokenRequestRefused("Token used before issued", code="assertion_too_early")
        if not claims.exp - claims.iat <= max_seconds:
            raise TokenRequestRefused(
                f"The assertion's exp is more than {max_seconds:g} seconds after its iat.", code="assertion_too_long"
            )
        return Verified(app, key.kid, key.fingerprint, claims.jti, claims.exp + LEEWAY_SECONDS)


def read_assertion(text: str) -> Assertion:
    """Take a JWT apart.

    Raises:
        TokenRequestRefused: it is no JWT signed with RS256, or a claim is missing or of the wrong kind.
    """
    parts = text.split(".")
    if len(text) > _LONGEST or len(parts) != 3 or not text.isascii():
        raise _malformed("it is not three parts joined by dots")
    try:
        header = msgspec.json.decode(_decoded(parts[0]), type=_Header)
        if header.alg != "RS256":  # before anything else is believed: the sender must not choose how it is checked
            raise _malformed("its alg is not RS256")
        if header.typ.upper() != "JWT" or header.crit is not None:
            raise _malformed("its header asks for what is not supported")
        claims = msgspec.json.decode(_decoded(parts[1]), type=_Claims)
        signature = _decoded(parts[2])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError):
        raise _malformed(
            "its header or its claims cannot be read; alg, kid, sub, aud, iat, exp and jti are needed"
        ) from None
    if not all(1 <= len(each) <= _LONGEST_ID for each in (header.kid, claims.sub, claims.jti)):
        raise _malformed(f"kid, sub and jti have 1 to {_LONGEST_ID} characters")
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if not audiences or not all(audiences):
        raise _malformed("its aud is empty")
    return Assertion(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def _signed_by(pem: str, signed: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        _loaded(pem).verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


@lru_cache(_LOADED_KEYS)
def _loaded(pem: str) -> RSAPublicKey:
    return load_public_key(pem)


def _decoded(part: str) -> bytes:
    """Base64 for URLs as it is written when it is made: Python's decoder would pass over letters that are none."""
    data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise ValueError(part)
    return data


def _malformed(why: str) -> TokenRequestRefused:
    return TokenRequestRefused(f"The client assertion cannot be used: {why}.", code="malformed_assertion")
