"""The interpreter in which functions run, in worker processes. Imported by the first call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pydantic_monty as monty

from segment_do.errors import InvalidEvent

__all__ = ["Sandbox"]

_MEMORY_BYTES: Final = 64 * 2**20
_DEEPEST: Final = 200
_MOST_PRINTED: Final = 4_096
_PROCESSES: Final = 2


class Sandbox:
    """A pool of workers; open it with :meth:`open`, close it with :meth:`close`."""

    def __init__(self, pool: monty.AsyncMonty) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, seconds: float) -> Sandbox:
        """Start it, for calls that take at most so long."""
        pool = monty.AsyncMonty(
            min_processes=1, max_processes=_PROCESSES, checkout_timeout=2 * seconds, request_timeout=2 * seconds
        )
        return cls(await pool.__aenter__())

    async def close(self) -> None:
        """End the workers."""
        await self._pool.__aexit__(None, None, None)

    async def run(self, code: str, name: str, arguments: Sequence[Any], seconds: float) -> Any:
        """Run the code, call the function, in an interpreter that nobody used before.

        Raises:
            InvalidEvent: whatever came of it but a value.
        """
        try:
            try:
                return await self._run(code, name, arguments, seconds)
            except monty.MontyCrashedError:  # somebody killed the worker; if it was the function, it does so again
                return await self._run(code, name, arguments, seconds)
        except monty.MontyError as error:
            raise InvalidEvent(f"The function failed: {_said(error)}.", code="function_failed") from None

    async def _run(self, code: str, name: str, arguments: Sequence[Any], seconds: float) -> Any:
        names = {f"argument_{index}": value for index, value in enumerate(arguments)}
        printed = monty.CollectString(max_bytes=_MOST_PRINTED)
        limits = monty.ResourceLimits(
            max_feed_duration_secs=seconds, max_memory=_MEMORY_BYTES, max_recursion_depth=_DEEPEST, max_suspensions=1
        )
        async with self._pool.checkout(script_name="function.py", limits=limits) as session:
            await session.feed_run(code, print_callback=printed)
            return await session.feed_run(f"{name}({', '.join(names)})", inputs=names, print_callback=printed)


def _said(error: monty.MontyError) -> str:
    if not isinstance(error, monty.MontyRuntimeError):
        return str(error)[:500]
    inside = [frame for frame in error.traceback() if frame.function_name]
    return f"{f'line {inside[-1].line}: ' if inside else ''}{error.display('type-msg')[:500]}"
