"""The form of `POST /token`."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import TokenRequestRefused
from segment_do.oauth import read_request
from tests.segment_do.oauth.signing import form


def test_the_form_as_clients_send_it() -> None:
    """Encoded as a form should be, and as Segment's clients write it, without encoding; the scope may be left out."""
    plain = "&".join(f"{name}={value}" for name, value in form("a.b.c").items())
    for body in (urlencode(form("a.b.c")), plain, urlencode(form("a.b.c", scope="", more="x"))):
        found = read_request(body.encode())
        assert (found.assertion, found.scope, found.client_id) == ("a.b.c", "tracking_api:write", None)
    assert "a.b.c" not in repr(found)


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        (urlencode(form("a", grant_type="password")), "unsupported_grant_type", "unsupported_grant_type"),
        ("", "invalid_request", "unsupported_grant_type"),
        (urlencode(form("a", client_assertion_type="x")), "invalid_request", "unsupported_assertion_type"),
        (urlencode(form("")), "invalid_request", "missing_assertion"),
        (urlencode(form("a", scope="tracking_api:write admin")), "invalid_scope", "unknown_scope"),
        (urlencode(form("a")) + "&scope=x", "invalid_request", "malformed_form"),
        ("&".join(f"a{number}=1" for number in range(40)), "invalid_request", "malformed_form"),
        (b"\xff\xfe", "invalid_request", "malformed_form"),
    ],
)
def test_what_is_wrong_has_a_name(body: str | bytes, error: str, code: str) -> None:
    """OAuth's name and ours."""
    with pytest.raises(TokenRequestRefused) as refused:
        read_request(body.encode() if isinstance(body, str) else body)
    assert (refused.value.oauth_error, refused.value.code) == (error, code)


@given(st.binary())
def test_any_body_is_a_form_or_a_clear_error(body: bytes) -> None:
    """Nothing that is sent raises anything else."""
    with pytest.raises(TokenRequestRefused):
        read_request(body)
