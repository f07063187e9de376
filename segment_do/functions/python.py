"""Python functions: their code looked at, and called in a sandbox.

Each call gets a fresh interpreter, so that no call sees what another left; that costs about 0.7 ms on two slow cores. The workers start with
the first call.
"""

from __future__ import annotations

import ast
import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segment_do.errors import Busy, InvalidRequest

if TYPE_CHECKING:
    from segment_do.functions.sandbox import Sandbox

__all__ = ["Functions", "PythonFunction", "check_python"]

MAX_CODE_CHARS: Final = 64_000
_SECONDS: Final = 5.0
"""Segment's own limit for a function."""
_WAITING: Final = 64
"""Calls in flight or waiting for a worker; more are refused as busy."""


class PythonFunction(NamedTuple):
    """Code that defines a function, and its name."""

    code: str
    name: str


class Functions:
    """Calls functions. One event loop uses it; :meth:`close` it at the end."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._sandbox: Sandbox | None = None
        self._opening = asyncio.Lock()
        self._calls = 0

    async def call(self, function: PythonFunction, *arguments: Any) -> Any:
        """What the function returns for these JSON values.

        Raises:
            InvalidEvent: it failed, took too long or too much memory.
            Busy: too many calls wait.
        """
        if self._calls >= _WAITING:
            raise Busy("Too many functions wait for a worker.", retry_after=1)
        self._calls += 1
        try:
            sandbox = await self._opened()
            return await sandbox.run(function.code, function.name, arguments, self._seconds)
        finally:
            self._calls -= 1

    async def close(self) -> None:
        """End the workers."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.close()

    async def _opened(self) -> Sandbox:
        from segment_do.functions.sandbox import Sandbox  # 20 ms and 6 MB, for those who have functions

        async with self._opening:
            if self._sandbox is None:
                self._sandbox = await Sandbox.open(self._seconds)
            return self._sandbox


def check_python(code: str, name: str) -> PythonFunction:
    """A function from its code, looked at and not run.

    Raises:
        InvalidRequest: it is no Python, is too long, or does not define a function of this name at its top.
    """
    if len(code) > MAX_CODE_CHARS:
        raise InvalidRequest(f"The function has more than {MAX_CODE_CHARS:,} characters.", code="invalid_function")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f" in line {line}" if line else ""
        raise InvalidRequest(f"The function is no Python{where}.", code="invalid_function") from None
    if not any(isinstance(part, ast.FunctionDef) and part.name == name for part in tree.body):
        raise InvalidRequest(f"The code does not define the function {name}.", code="invalid_function")
    return PythonFunction(code, name)
