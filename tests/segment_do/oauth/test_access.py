"""Access tokens: only ours, only as they were made, only in their time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import Unauthorized
from segment_do.oauth import SCOPE, Verified, issue_token, read_token
from segment_do.oauth.access import GRACE_SECONDS
from tests.segment_do.oauth.signing import NOW, app

SECRET = b"s" * 32


def token(secret: bytes = SECRET) -> str:
    known = app()
    return issue_token(secret, Verified(known, "k1", known.keys[0].fingerprint, "j", NOW + 60), SCOPE, NOW, 3600)


def test_a_token_says_what_it_allows() -> None:
    """App, key, sources, scope and the end are in it, and it can stand in a header."""
    grant = read_token(SECRET, token(), NOW)
    assert (grant.app_id, grant.kid, grant.source_ids, grant.scope) == ("oap_1", "k1", ("src_tom",), SCOPE)
    assert grant.expires_at == NOW + 3600 + GRACE_SECONDS
    assert token().isascii()
    assert token().isprintable()
    assert " " not in token()


def test_a_token_ends() -> None:
    """Good to its last second and the grace behind it, and expired from then on."""
    end = NOW + 3600 + GRACE_SECONDS
    read_token(SECRET, token(), end - 0.1)
    with pytest.raises(Unauthorized) as refused:
        read_token(SECRET, token(), end)
    assert refused.value.code == "expired_access_token"


def test_another_platforms_token_is_not_ours() -> None:
    """Under another secret, or after the secret was lost, a token is nothing; and the error does not repeat it."""
    with pytest.raises(Unauthorized) as refused:
        read_token(SECRET, token(b"t" * 32), NOW)
    assert refused.value.code == "invalid_access_token"
    assert token(b"t" * 32) not in str(refused.value)


@given(st.data())
def test_a_tampered_token_never_verifies(data: st.DataObject) -> None:
    """Whatever letter is changed, put in or left out."""
    good = token()
    position = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.text(max_size=2).filter(lambda text: text != good[position]))
    tampered = good[:position] + letter + good[position + 1 :]
    if tampered != good:
        with pytest.raises(Unauthorized):
            read_token(SECRET, tampered, NOW)


@given(st.text())
def test_any_text_is_no_token(text: str) -> None:
    """Nothing that is sent raises anything else."""
    with pytest.raises(Unauthorized):
        read_token(SECRET, text, NOW)
    with pytest.raises(Unauthorized):
        read_token(SECRET, token() + text + ".", NOW)
