"""How people and programs name an id in text: ``type:value``."""

from __future__ import annotations

from segment_do.errors import InvalidRequest
from segment_do.identity.decision import Id

__all__ = ["named_id", "named_profile", "text_of"]


def named_id(text: str) -> Id:
    """``type:value`` as an external id.

    Raises:
        InvalidRequest: it is none.
    """
    kind, colon, value = text.partition(":")
    if not (kind and colon and value):
        raise InvalidRequest("An id is named by its type and value, as in user_id:u1.", code="invalid_id")
    return kind, value


def named_profile(text: str) -> Id | str:
    """``type:value`` as an external id, or a profile id (``use_…``, ``acc_…``) as it is.

    Raises:
        InvalidRequest: it is neither.
    """
    return text if ":" not in text and text.startswith(("use_", "acc_")) else named_id(text)


def text_of(one: Id) -> str:
    """An id as it is named."""
    return f"{one[0]}:{one[1]}"
