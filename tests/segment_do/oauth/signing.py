"""Key pairs and assertions as clients make them, by another library than the one that is tested."""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from segment_do.oauth import SCOPE, App, PublicKey, read_public_key

__all__ = ["NOW", "app", "claims", "form", "pair", "private_pem", "public_pem", "sign"]

NOW = 1_800_000_000.0


def pair(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of that name; the same one each time, because making one takes long."""
    return _made(name, bits)


def private_pem(name: str = "first") -> str:
    return pair(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(name: str = "first", bits: int = 2048) -> str:
    return pair(name, bits).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def app(app_id: str = "oap_1", source_id: str = "src_tom", enabled: bool = True, **keys: str) -> App:
    """An app; ``keys``: kid → name of a pair."""
    registered = [
        PublicKey(kid, *read_public_key(public_pem(name)), "") for kid, name in (keys or {"k1": "first"}).items()
    ]
    return App(app_id, "an app", source_id, (SCOPE,), tuple(registered), enabled, "")


def claims(now: float = NOW, **changed: Any) -> dict[str, Any]:
    """Claims as the Python client makes them; None takes one away."""
    told = {
        "iss": "oap_1",
        "sub": "oap_1",
        "aud": "http://127.0.0.1:8000",
        "iat": int(now) - 5,
        "exp": int(now) + 55,
        "jti": str(uuid.uuid4()),
    }
    return {name: value for name, value in {**told, **changed}.items() if value is not None}


def sign(told: dict[str, Any], kid: str = "k1", name: str = "first", **headers: Any) -> str:
    return jwt.encode(told, pair(name), algorithm="RS256", headers={"kid": kid, **headers})


def form(assertion: str, **changed: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        "scope": SCOPE,
        **changed,
    }


@cache
def _made(_name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)
