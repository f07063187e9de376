"""The form that ``POST /token`` takes (RFC 6749 section 4.4 with the client authentication of RFC 7523 section 2.2)."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from segment_do.errors import TokenRequestRefused
from segment_do.oauth.app import SCOPE

__all__ = ["TokenRequest", "read_request"]

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_FIELDS: Final = 32


class TokenRequest(NamedTuple):
    """A request for a token. Its repr keeps the assertion to itself: within its minute it is worth a token."""

    assertion: str
    scope: str
    client_id: str | None

    def __repr__(self) -> str:
        return f"TokenRequest(scope={self.scope!r}, client_id={self.client_id!r})"


def read_request(body: bytes) -> TokenRequest:
    """The form's fields; those that OAuth does not know are passed over.

    Raises:
        TokenRequestRefused: a field is missing, comes twice, or asks for what there is not.
    """
    fields: dict[str, str] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise TokenRequestRefused("The body is not a form.", code="malformed_form") from None
    for name, value in pairs:
        if name in fields:
            raise TokenRequestRefused(f"The form has the field {name[:60]!r} twice.", code="malformed_form")
        fields[name] = value
    if fields.get("grant_type") != "client_credentials":
        raise TokenRequestRefused(
            "The grant_type must be client_credentials.",
            code="unsupported_grant_type",
            oauth_error="unsupported_grant_type" if fields.get("grant_type") else "invalid_request",
        )
    if fields.get("client_assertion_type") != _ASSERTION_TYPE:
        raise TokenRequestRefused(
            f"The client_assertion_type must be {_ASSERTION_TYPE}.", code="unsupported_assertion_type"
        )
    if not fields.get("client_assertion"):
        raise TokenRequestRefused("The field client_assertion is missing.", code="missing_assertion")
    if set((fields.get("scope") or SCOPE).split()) != {SCOPE}:
        raise TokenRequestRefused(f"The only scope is {SCOPE}.", code="unknown_scope", oauth_error="invalid_scope")
    return TokenRequest(fields["client_assertion"], SCOPE, fields.get("client_id") or None)
