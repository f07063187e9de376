"""What the control actor keeps: sources with their write keys, and destinations."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from segment_do.webhooks import WebhookConfig

__all__ = ["Source", "slug"]


class Source(msgspec.Struct, frozen=True, rename="camel"):
    """Where events come from: a web site, an app, an agent. Its write key feeds one identity."""

    id: str
    name: str
    identity: str
    write_key: str
    created_at: str
    require_oauth: bool = False
    """Whether its bare write key is refused: events then need an access token beside it."""
    webhook: WebhookConfig | None = None
    """What becomes of calls to ``/webhooks/{id}``; None: nothing, it takes none."""

    def __repr__(self) -> str:  # the write key stays out of logs
        return f"Source(id={self.id!r}, name={self.name!r}, identity={self.identity!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        # msgspec gives every struct this method, with all its fields; rich prints what it returns.
        return [("id", self.id), ("name", self.name), ("identity", self.identity)]


def slug(name: str) -> str:
    """A name as an identifier: lowercase ASCII letters and digits, joined by dashes; ``source`` where none are left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "source"
