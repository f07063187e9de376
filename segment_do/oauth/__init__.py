"""OAuth 2.0 for sources, the rules alone: apps and their keys, assertions, access tokens. No Ray, no I/O, clocks passed in."""

from segment_do.oauth.access import Grant, issue_token, read_token
from segment_do.oauth.app import SCOPE, App, PublicKey, checked_kid, read_public_key
from segment_do.oauth.assertion import Assertion, Verified, read_assertion
from segment_do.oauth.redemption import Redemptions
from segment_do.oauth.request import TokenRequest, read_request

__all__ = [
    "SCOPE",
    "App",
    "Assertion",
    "Grant",
    "PublicKey",
    "Redemptions",
    "TokenRequest",
    "Verified",
    "checked_kid",
    "issue_token",
    "read_assertion",
    "read_public_key",
    "read_request",
    "read_token",
]
