"""Client assertions: only what the app's own key has signed, and only in its time."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import ClientRefused, TokenRequestRefused, Unauthorized
from segment_do.oauth import App, Verified, read_assertion
from tests.segment_do.oauth.signing import NOW, app, claims, pair, public_pem, sign


def verify(assertion: str, registered: App | None = None, now: float = NOW) -> Verified:
    return read_assertion(assertion).verify(registered or app(), now, max_seconds=300)


def part(told: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


def test_what_a_client_signs_is_taken() -> None:
    """The claims of the Python client (whole seconds) and of the Node client (fractions, typ) verify, with key and jti."""
    for told, headers in (
        (claims(jti="j1"), {}),
        (claims(iat=NOW - 5.25, exp=NOW + 54.75, jti="j1"), {"typ": "JWT"}),
        (claims(iss="https://issuer.example", aud=["a", "b"], jti="j1"), {}),
    ):
        found = verify(sign(told, **headers))
        assert (found.app.id, found.kid, found.jti) == ("oap_1", "k1", "j1")
        assert found.fingerprint == app().keys[0].fingerprint
        assert found.expires_at >= told["exp"]


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"exp": NOW - 6}, "assertion_expired", "Token is expired"),
        ({"iat": NOW + 6, "exp": NOW + 60}, "assertion_too_early", "Token used before issued"),
        ({"nbf": NOW + 6}, "assertion_too_early", "Token used before issued"),
        ({"iat": NOW - 5, "exp": NOW + 296}, "assertion_too_long", None),
        ({"exp": 1e300}, "assertion_too_long", None),
        *(({name: None}, "malformed_assertion", None) for name in ("sub", "aud", "iat", "exp", "jti")),
        ({"aud": ""}, "malformed_assertion", None),
        ({"aud": []}, "malformed_assertion", None),
        ({"aud": ["a", ""]}, "malformed_assertion", None),
        ({"jti": ""}, "malformed_assertion", None),
        ({"jti": "x" * 201}, "malformed_assertion", None),
        ({"exp": True}, "malformed_assertion", None),
        ({"iat": "0"}, "malformed_assertion", None),
        ({"sub": "x" * 201}, "malformed_assertion", None),
    ],
)
def test_claims_that_do_not_hold(changed: dict[str, Any], code: str, message: str | None) -> None:
    """Each has its code; the two about time are, letter by letter, what clients take as a reason to correct their clocks."""
    told = claims() | changed
    payload = part({name: value for name, value in told.items() if value is not None})
    header = part({"alg": "RS256", "kid": "k1", "typ": "JWT"})
    signed = f"{header}.{payload}"
    signature = base64.urlsafe_b64encode(
        jwt.get_algorithm_by_name("RS256").sign(signed.encode(), pair())
    ).rstrip(b"=").decode()  # fmt: skip
    with pytest.raises(TokenRequestRefused) as refused:
        verify(f"{signed}.{signature}")
    assert refused.value.code == code
    assert refused.value.oauth_error == "invalid_request"
    assert message in (None, refused.value.message)


def test_clocks_may_differ_a_little() -> None:
    """Five seconds either way, and not one more."""
    for now in (NOW + 55 + 4.9, NOW - 5 - 5):
        verify(sign(claims()), now=now)
    for now in (NOW + 55 + 5, NOW - 5 - 5.1):
        with pytest.raises(TokenRequestRefused):
            verify(sign(claims()), now=now)


@pytest.mark.parametrize(
    "registered",
    [None, app("oap_2"), app(k2="first"), app(k1="second"), app(enabled=False)],
    ids=["no app", "another app", "another kid", "another key", "disabled"],
)
def test_who_cannot_prove_it_hears_one_answer(registered: App | None) -> None:
    """An unknown app, an unknown key and a wrong signature cannot be told apart."""
    with pytest.raises(ClientRefused) as refused:
        read_assertion(sign(claims())).verify(registered, NOW, max_seconds=300)
    assert refused.value.code == "invalid_client"
    assert "oap_1" not in str(refused.value)


def test_the_sender_does_not_choose_how_it_is_checked() -> None:
    """No algorithm but RS256: not none, not HMAC under the public key, not another RSA; no critical extensions."""
    told = claims()
    hmac_key = base64.urlsafe_b64encode(public_pem().encode()).decode()
    for assertion in (
        f"{part({'alg': 'none', 'kid': 'k1'})}.{part(told)}.",
        f"{part({'alg': 'none', 'kid': 'k1'})}.{part(told)}.{sign(told).split('.')[2]}",
        jwt.encode(told, hmac_key, algorithm="HS256", headers={"kid": "k1"}),
        jwt.encode(told, pair(), algorithm="RS512", headers={"kid": "k1"}),
        jwt.encode(told, pair(), algorithm="PS256", headers={"kid": "k1"}),
        sign(told, typ="at+jwt"),
        sign(told, crit=["x"], x=1),
        jwt.encode(told, pair(), algorithm="RS256"),
    ):
        with pytest.raises(TokenRequestRefused) as refused:
            read_assertion(assertion)
        assert refused.value.code == "malformed_assertion"


@given(st.data())
def test_a_tampered_assertion_never_verifies(data: st.DataObject) -> None:
    """Whatever letter is changed, put in or left out, it is refused, and with an error of ours."""
    good = sign(claims(jti="j"))
    position = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.text(max_size=2).filter(lambda text: text != good[position]))
    tampered = good[:position] + letter + good[position + 1 :]
    if tampered != good:
        with pytest.raises((TokenRequestRefused, Unauthorized)):
            verify(tampered)


@given(st.one_of(st.text(), st.lists(st.text(alphabet="abcdefEyJhbGciOiJ.-_=", max_size=50), max_size=4).map(".".join)))
def test_any_text_is_an_assertion_or_a_clear_error(text: str) -> None:
    """Nothing that is sent raises anything else."""
    with pytest.raises(TokenRequestRefused):
        read_assertion(text)
