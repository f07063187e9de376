"""The ``next`` of a cursor: text that only we read, safe in a query."""

from __future__ import annotations

import base64
import binascii

__all__ = ["read_next", "write_next"]


def write_next(place: str) -> str:
    """Where the next page begins, as the cursor tells it."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_next(given: str) -> str:
    """
    Raises:
        ValueError: it was not written here.
    """
    try:
        return base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True).decode()
    except binascii.Error as error:
        raise ValueError from error
