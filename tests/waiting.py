"""Waiting for what a test is not told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]

_LOOK_SECONDS = 0.001


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Look until the condition holds; ``seconds`` only bound a test that fails.

    Between two looks the loop rests: one that only turned would keep the interpreter from the threads that bring the condition about,
    for five milliseconds at each of their steps.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(_LOOK_SECONDS)
