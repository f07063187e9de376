"""Public keys and their names: what can be registered, and what cannot."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from segment_do.errors import InvalidRequest
from segment_do.oauth import checked_kid, read_public_key
from tests.segment_do.oauth.signing import pair, private_pem, public_pem


def test_one_key_has_one_spelling() -> None:
    """PKCS#1 and SubjectPublicKeyInfo, with whatever space around them, are the same key with the same fingerprint."""
    other = pair().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
    assert read_public_key(public_pem()) == read_public_key(f"\n {other}\r\n ")
    assert read_public_key(public_pem("second")) != read_public_key(public_pem())


def elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "\ud83d",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        public_pem("short", 1024),
        elliptic(),
    ],
    ids=["empty", "letter", "surrogate", "rubbish", "short", "elliptic"],
)
def test_what_is_no_usable_key(text: str) -> None:
    """Rubbish, another kind of key, and one that is too short are refused with what to do."""
    with pytest.raises(InvalidRequest) as refused:
        read_public_key(text)
    assert refused.value.code == "unusable_key"
    assert "openssl" in refused.value.hint


def test_a_private_key_is_not_taken() -> None:
    """Given by mistake it is refused by its name, and not repeated."""
    with pytest.raises(InvalidRequest) as refused:
        read_public_key(private_pem())
    assert refused.value.code == "private_key"
    assert private_pem()[30:60] not in str(refused.value)


@pytest.mark.parametrize("kid", ["", "a b", "a/b", "ä", "a\n", "x" * 201])
def test_a_kid_can_stand_in_a_path(kid: str) -> None:
    """What cannot is refused; without one it comes from the fingerprint."""
    assert checked_kid(None, "0123456789abcdef0123") == "key_0123456789abcdef"
    assert checked_kid("2026-01:a", "") == "2026-01:a"
    with pytest.raises(InvalidRequest):
        checked_kid(kid, "")
