"""The identities that one actor holds: each woken by its first call, put to sleep when idle.

Bound: ``_MOST_AWAKE`` at a time; to wake one more, the one used longest ago goes to sleep first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from actors.identity.activation import Activation, HandOver, unfinished
from actors.identity.courier import Deliver
from actors.identity.filling import Past
from actors.ingress.dispatcher import Batch
from segment_do.errors import NotFound, NotReady, OwnershipLost, SegmentDoError
from segment_do.identity import read_rules_file
from segment_do.identity.computations_file import read_computations_file
from segment_do.identity.shards import layouts
from segment_do.identity.shards.letters import Envelope
from segment_do.settings import Settings
from segment_do.units import identity_of, shard_of, shown_name

__all__ = ["Household"]

T = TypeVar("T")
log = structlog.get_logger(__name__)

_MOST_AWAKE: Final = 512
_THREADS: Final = 4


class Household:
    """Activations by identity. One event loop uses it."""

    def __init__(
        self,
        settings: Settings,
        hand_over: HandOver,
        clock: Callable[[], float] = time.monotonic,
        deliver: Deliver | None = None,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
        past: Past | None = None,
    ) -> None:
        self._now = now
        self._past = past
        self._settings = settings
        self._hand_over = hand_over
        self._deliver = deliver or self.receive
        self._clock = clock
        self._awake: dict[str, Activation] = {}
        self._waking: dict[str, asyncio.Task[Activation]] = {}
        self._threads = ThreadPoolExecutor(
            1 if settings.identity.placement == "dedicated" else _THREADS, thread_name_prefix="graph"
        )
        self._begun_at = clock()
        self._rules = read_rules_file(settings.identity.rules_file)
        self._layouts = layouts(settings.identity)
        self._declared = read_computations_file(settings.identity.computations_file)

    @property
    def empty(self) -> bool:
        """Nobody is awake, and nobody has been for as long as an idle identity stays."""
        idle_for = self._clock() - self._begun_at
        return not self._awake and not self._waking and idle_for > self._settings.identity.idle_seconds

    async def apply(self, batches: list[Batch]) -> None:
        """Apply batches, each to its identity, all at once; returns when all are committed.

        Raises:
            NotReady: an identity is still held by another activation; nothing says which batches were applied,
                so all are to be sent again.
            StorageFailed, Busy: see :meth:`Activation.apply`.
        """
        self._begun_at = self._clock()
        outcomes = await asyncio.gather(
            *(self._apply(identity, pack, count) for identity, count, pack in batches), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def receive(self, unit: str, letters: list[Envelope]) -> None:
        """Take in letters for one shard; returns when they are committed.

        Raises:
            NotReady: it is held by another activation.
            StorageFailed: see :meth:`Activation.receive`.
        """
        self._begun_at = self._clock()
        await self._with(unit, lambda activation: activation.receive(letters))

    async def ask(self, identity: str, question: str, arguments: dict[str, Any]) -> Any:
        """Ask an identity's graph; see :mod:`segment_do.identity.questions`. One that was never seen makes no files.

        Raises:
            NotFound: no event came for this identity yet.
            NotReady: it is still held by another activation.
            SegmentDoError: what the question raises.
        """
        self._begun_at = self._clock()
        layout = self._layouts.get(identity_of(identity))
        counted = layout is not None and layout.all_shards is not None  # few, and each may be asked about all profiles
        if identity not in self._awake and not counted and not self._settings.paths.identity(identity).exists():
            raise NotFound(
                "Profile was not found." if question == "profile" else f"No event came for {identity!r} yet."
            )
        return await self._with(identity, lambda activation: activation.ask(question, arguments))

    def status(self) -> list[dict[str, Any]]:
        """Those awake."""
        return [activation.status() for activation in self._awake.values()]

    async def keep(self) -> None:
        """Put idle identities to sleep, drop closed ones, do housekeeping. Called about once a second."""
        now, idle_seconds = self._clock(), self._settings.identity.idle_seconds
        for identity, activation in list(self._awake.items()):
            if (
                activation.closed
            ):  # its file failed, or was lost: what it still has to hand over must not wait for an event
                await self._sleep(identity)
                await self._try_to_wake(identity)
            elif activation.idle and activation.settled and now - activation.used_at > idle_seconds:
                log.info("identity goes to sleep", identity=shown_name(identity))
                await self._sleep(identity)
            else:
                await activation.maintain()

    async def recover(self, mine: Callable[[str], bool]) -> None:
        """Wake those of ours whose process ended with events to hand over. One that cannot wake is left for :meth:`keep`."""
        for identity in await asyncio.to_thread(unfinished, self._settings.paths.root / "identities"):
            if mine(identity):
                await self._try_to_wake(identity)

    async def close(self) -> None:
        """Put everyone to sleep."""
        for identity in list(self._awake):
            await self._sleep(identity)

    async def _apply(self, identity: str, pack: bytes, count: int) -> None:
        if identity not in self._awake and not count:  # it goes to sleep as soon as it has done its work
            (await self._activation(identity)).used_at -= self._settings.identity.idle_seconds
        await self._with(identity, lambda activation: activation.apply(pack, count))

    async def _with(self, identity: str, call: Callable[[Activation], Awaitable[T]]) -> T:
        activation = await self._activation(identity)
        try:
            return await call(activation)
        except OwnershipLost as error:
            if self._awake.get(identity) is activation:
                await self._sleep(identity)
            raise NotReady(f"Identity {shown_name(identity)!r} is changing hands.", retry_after=1) from error

    async def _activation(self, identity: str) -> Activation:
        activation = self._awake.get(identity)
        if activation is not None and not activation.closed:
            return activation
        waking = self._waking.get(identity)
        if waking is None:
            waking = self._waking[identity] = asyncio.create_task(self._wake(identity))
            waking.add_done_callback(lambda _task: self._waking.pop(identity, None))
        try:
            return await asyncio.shield(waking)
        except OwnershipLost as error:
            raise NotReady(f"Identity {shown_name(identity)!r} is still held elsewhere.", retry_after=1) from error

    async def _try_to_wake(self, identity: str) -> None:
        try:
            await self._activation(identity)
        except SegmentDoError as error:
            log.warning("identity does not wake", identity=shown_name(identity), error=str(error))

    async def _wake(self, identity: str) -> Activation:
        if identity in self._awake:
            await self._sleep(identity)
        while len(self._awake) >= _MOST_AWAKE:
            await self._sleep(min(self._awake, key=lambda name: self._awake[name].used_at))
        activation = await Activation.wake(
            self._settings.paths.identity(identity),
            identity,
            self._settings.identity,
            self._hand_over,
            self._threads,
            self._now,
            monotonic=self._clock,
            rules=self._rules.of(identity_of(identity)),
            layout=self._layouts[identity_of(identity)] if shard_of(identity) else None,
            deliver=self._deliver,
            past=self._past,
            declared=self._declared.of(identity_of(identity)),
        )
        self._awake[identity] = activation
        return activation

    async def _sleep(self, identity: str) -> None:
        activation = self._awake.pop(identity, None)
        if activation is not None:
            await activation.close()
