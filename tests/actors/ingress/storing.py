"""Storing in a journal, as the door does, and waiting for it."""

from __future__ import annotations

import asyncio

from actors.ingress.journal import Journal
from segment_do.errors import StorageFailed

__all__ = ["stored"]


async def stored(journal: Journal, identity: str, pack: bytes, count: int = 1) -> None:
    """Returns when the events are on disk; raises what the journal reports."""
    outcome: asyncio.Future[StorageFailed | None] = asyncio.get_running_loop().create_future()
    journal.append(identity, count, pack, outcome.set_result)
    if failed := await outcome:
        raise failed
