"""Calls to actors, with the errors of our own tree on this side.

What an actor raised comes out as itself. An actor that is gone, restarting or unreachable is ``NotReady``: nothing may be
assumed about whether the call ran, so callers must be able to make it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from actors.naming import NAMESPACE
from segment_do.errors import NotReady

__all__ = ["Actors", "answer", "names_ready"]


async def answer(reference: Any, timeout_seconds: float | None = None) -> Any:
    """What a call returned.

    Raises:
        NotReady: the actor could not be reached, or died, or did not answer in time.
        SegmentDoError: what the actor raised.
    """
    try:
        if timeout_seconds is None:
            return await reference
        return await asyncio.wait_for(asyncio.wrap_future(reference.future()), timeout_seconds)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, Exception) else error from None
    except RayActorError as error:
        raise NotReady(f"An actor is not there: {type(error).__name__}.", retry_after=1) from error
    except TimeoutError:
        raise NotReady("An actor did not answer in time.", retry_after=1) from None
    except RayError as error:
        raise NotReady(f"A call failed: {type(error).__name__}.", retry_after=1) from error


class Actors:
    """Handles of named detached actors, created when they are not there.

    ``make(name)`` gives the actor class with its options and constructor arguments for a name that nobody has yet.
    """

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make
        self._handles: dict[str, Any] = {}
        self._finding: dict[str, asyncio.Task[Any]] = {}

    async def call(self, name: str, method: str, *arguments: Any, timeout_seconds: float | None = None) -> Any:
        """Call a method of the named actor.

        Raises:
            NotReady: see :func:`answer`; the next call looks the actor up again.
            SegmentDoError: what the actor raised.
        """
        handle = self._handles.get(name) or await self._find(name)
        try:
            return await answer(getattr(handle, method).remote(*arguments), timeout_seconds)
        except NotReady as error:
            if isinstance(error.__cause__, RayError):
                self._handles.pop(name, None)
            raise

    async def ask(self, name: str, method: str, *arguments: Any, timeout_seconds: float | None = None) -> Any:
        """Call what may be called twice. That an actor has left is only known by the first call that fails: the next one starts it again.

        Raises:
            NotReady, SegmentDoError: see :meth:`call`.
        """
        try:
            return await self.call(name, method, *arguments, timeout_seconds=timeout_seconds)
        except NotReady as error:
            if not isinstance(error.__cause__, ActorDiedError):
                raise
            return await self.call(name, method, *arguments, timeout_seconds=timeout_seconds)

    async def _find(self, name: str) -> Any:
        finding = self._finding.get(name)
        if finding is None:
            finding = self._finding[name] = asyncio.create_task(asyncio.to_thread(self._get_or_create, name))
        try:
            handle = await asyncio.shield(finding)
        except (RayError, ValueError) as error:
            raise NotReady(f"The actor {name} could not be started: {type(error).__name__}.") from error
        finally:
            self._finding.pop(name, None)
        self._handles[name] = handle
        return handle

    def _get_or_create(self, name: str) -> Any:
        try:
            return ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return self._make(name)


def names_ready(names: list[str]) -> Iterator[tuple[str, float]]:
    """Each named actor as it answers for the first time, with the seconds that took."""
    begun = time.monotonic()
    waiting = {ray.get_actor(name, namespace=NAMESPACE).__ray_ready__.remote(): name for name in names}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            ray.get(reference)
            yield waiting.pop(reference), time.monotonic() - begun
