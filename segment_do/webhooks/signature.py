"""Signatures of webhook calls: an HMAC of the body under a shared secret, in a header."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from segment_do.errors import Unauthorized
from segment_do.webhooks.call import Call

__all__ = ["Signature", "hex_sha1", "prove"]

_ALGORITHMS: Final[dict[str, Callable[[], object]]] = {
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a sender signs: GitHub's is ``{"header": "X-Hub-Signature-256", "prefix": "sha256="}``."""

    secret: str
    header: str
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    """What stands before the value in the header."""

    def verify(self, call: Call) -> None:
        """Raises Unauthorized: the header is missing, or is not the body's signature."""
        digest = hmac.new(self.secret.encode(), call.body, self.algorithm).digest()
        expected = digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode()
        prove(call, self.header, [self.prefix + expected])


def hex_sha1(secret: str, signed: bytes) -> str:
    """Lower-case hex of the HMAC-SHA1, which is what Segment signs with."""
    return hmac.new(secret.encode(), signed, hashlib.sha1).hexdigest()


def prove(call: Call, header: str, expected: Iterable[str]) -> None:
    """Raises Unauthorized: a header of the call is none of what was expected. Takes the same time whatever is wrong in it."""
    given = call.headers.get(header.lower(), "")
    # All are compared, none in a way that tells how far it was right.
    proven = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
    if not any(proven):
        what = f"The signature in {header} is not the body's." if given else f"The call has no signature in {header}."
        raise Unauthorized(what, hint="The sender and this source must have the same secret.", code="signature_refused")
