"""OAuth apps: who may ask for access tokens for a source, and the public keys that prove it.

Only public keys are kept, RSA of 2,048 to 8,192 bits; the private ones never come here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from segment_do.errors import InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["SCOPE", "App", "PublicKey", "checked_kid", "load_public_key", "read_public_key"]

SCOPE: Final = "tracking_api:write"
"""The one scope there is: sending events."""
_LONGEST_PEM: Final = 16_384
_FEWEST_BITS: Final = 2_048
_MOST_BITS: Final = 8_192
"""Checking a signature costs more with each bit, and whoever asks for a token makes us check one."""
_LONGEST_KID: Final = 200


class PublicKey(msgspec.Struct, frozen=True, rename="camel"):
    """One key of an app. ``fingerprint``: SHA-256 of its DER form, hexadecimal."""

    kid: str
    pem: str
    fingerprint: str
    created_at: str


class App(msgspec.Struct, frozen=True, rename="camel"):
    """A program that may send to one source. ``id`` is its client id."""

    id: str
    name: str
    source_id: str
    scopes: tuple[str, ...]
    keys: tuple[PublicKey, ...]
    enabled: bool
    created_at: str

    def key(self, kid: str) -> PublicKey | None:
        """Its key of that id; None where there is none, or where the app is disabled."""
        if self.enabled:
            for key in self.keys:
                if key.kid == kid:
                    return key
        return None


def read_public_key(text: str) -> tuple[str, str]:
    """``(PEM, fingerprint)`` of a public key as somebody gives it; the PEM in one spelling, whatever was given.

    Raises:
        InvalidRequest: it is no PEM of an RSA public key of a length that is safe and bearable.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    if "PRIVATE KEY" in text:
        raise InvalidRequest(
            "This is a private key. It was not kept, but it has travelled: make a new pair.",
            hint="Give the public key: `openssl rsa -in private.pem -pubout`.",
            code="private_key",
        )
    try:
        key = load_pem_public_key(text.strip().encode("ascii")) if len(text) <= _LONGEST_PEM else None
    except Exception:  # noqa: BLE001  # what a parser of foreign bytes raises is not to be listed
        key = None
    if not isinstance(key, RSAPublicKey) or not _FEWEST_BITS <= key.key_size <= _MOST_BITS:
        raise InvalidRequest(
            f"The key must be an RSA public key in PEM of {_FEWEST_BITS:,} to {_MOST_BITS:,} bits.",
            hint="`openssl genrsa -out private.pem 2048`, then `openssl rsa -in private.pem -pubout -out public.pem`.",
            code="unusable_key",
        )
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return pem, hashlib.sha256(der).hexdigest()


def load_public_key(pem: str) -> RSAPublicKey:
    """A key that :func:`read_public_key` has accepted, to check signatures with."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey)
    return key


def checked_kid(given: str | None, fingerprint: str) -> str:
    """The key's id: the one given, else one made from the fingerprint.

    Raises:
        InvalidRequest: it cannot be part of a header and of a path.
    """
    if given is None:
        return f"key_{fingerprint[:16]}"
    if not 1 <= len(given) <= _LONGEST_KID or not given.isascii() or not given.isprintable() or set(given) & set(" /"):
        raise InvalidRequest(
            f"A key's id has 1 to {_LONGEST_KID} ASCII characters, no space and no slash among them.",
            code="unusable_kid",
        )
    return given
