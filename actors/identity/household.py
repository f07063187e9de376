"""The identities that one actor holds: each woken by its first call, put to sleep when idle.

Bounds: ``identity.max_awake`` at a time. To wake one more, the one used longest ago that has nothing to do goes to sleep; while all
of them have, who wants to wake waits, and its events with it in the journal. An identity is never put to sleep with a call on it, or
with events that the queue, or letters that other shards, have yet to take. A shard that letters come for wakes beyond the bound: those
who send them have no rest before. And ``identity.max_awake_bytes``, which :meth:`Household.keep` looks after.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, TypeVar

import structlog

from actors.identity.activation import Activation, HandOver, unfinished
from actors.identity.carrier import Carrier
from actors.identity.courier import Deliver
from actors.identity.filling import Past
from actors.ingress.dispatcher import Batch
from actors.process import give_back_memory
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

_THREADS: Final = 16
"""Most of a small transaction is waiting for the disk, which takes many at once."""
_REPAIR_SECONDS: Final = 5.0
_GIVE_BACK_SECONDS: Final = 5.0


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
        self._carrier = Carrier(hand_over)
        self._deliver = deliver or self.receive
        self._clock = clock
        self._most = settings.identity.max_awake
        # Those awake, the one used longest ago first; those who wake; those whose file is being let go.
        self._awake: dict[str, Activation] = {}
        self._waking: dict[str, asyncio.Task[Activation]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._wanted: Counter[str] = Counter()
        self._urgent: Counter[str] = Counter()
        self._taken = 0
        self._all_busy = False  # no use in looking who has nothing to do: whoever has since was put to sleep at once
        self._queueing: dict[str, asyncio.Future[None]] = {}
        self._somebody_rested = asyncio.Event()
        self._threads = ThreadPoolExecutor(
            1 if settings.identity.placement == "dedicated" else _THREADS, thread_name_prefix="graph"
        )
        self._begun_at = clock()
        self._slept = 0
        self._given_back_at = clock()
        self._rules = read_rules_file(settings.identity.rules_file)
        self._layouts = layouts(settings.identity)
        self._declared = read_computations_file(settings.identity.computations_file)

    @property
    def empty(self) -> bool:
        """Nobody is awake, and nobody has been for as long as an idle identity stays."""
        idle_for = self._clock() - self._begun_at
        return not self._taken and not self._waking and idle_for > self._settings.identity.idle_seconds

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
        self._urgent[unit] += 1
        try:
            self._let_in(unit)
            await self._with(unit, lambda activation: activation.receive(letters))
        finally:
            _subtract(self._urgent, unit)

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
                "Profile was not found."
                if question == "profile" or shard_of(identity)
                else f"No event came for {identity!r} yet."
            )
        return await self._with(identity, lambda activation: activation.ask(question, arguments))

    async def rest(self) -> None:
        """Return when nobody who is awake has anything to do: all is handed over, and no letter is on its way."""
        while not all(activation.idle for activation in self._awake.values()):
            self._somebody_rested.clear()
            await self._somebody_rested.wait()

    def status(self) -> list[dict[str, Any]]:
        """Those awake."""
        return [activation.status() for activation in self._awake.values()]

    async def keep(self) -> None:
        """Put idle identities to sleep, and those for whom there is no memory; drop closed ones; do housekeeping.

        Called about once a second.
        """
        now, idle_seconds = self._clock(), self._settings.identity.idle_seconds
        failed: list[str] = []
        going: list[asyncio.Task[None]] = []
        for identity, activation in list(self._awake.items()):
            if self._awake.get(identity) is not activation:
                continue
            if activation.closed:
                # Its file failed, or was lost: what it still has to hand over must not wait for an event.
                failed.append(identity)
                going.append(self._sleep(identity))
            elif activation.settled and now - activation.used_at > idle_seconds and self._may_sleep(identity):
                log.info("identity goes to sleep", identity=shown_name(identity))
                going.append(self._sleep(identity))
            else:
                try:
                    await activation.maintain()
                except SegmentDoError:  # its own trouble: the others are kept all the same
                    log.exception("housekeeping failed; it goes on", identity=shown_name(identity))
        going += self._relieve()
        if going:
            await asyncio.wait(going)
        if failed:
            # Bounded: while places are short, these wait like any other, and housekeeping goes on.
            waking = [asyncio.create_task(self._try_to_wake(identity)) for identity in failed]
            await asyncio.wait(waking, timeout=_REPAIR_SECONDS)
        if self._slept and now - self._given_back_at >= _GIVE_BACK_SECONDS:
            self._slept, self._given_back_at = 0, now
            await asyncio.to_thread(give_back_memory)

    async def recover(self, mine: Callable[[str], bool]) -> None:
        """Wake those of ours whose process ended with events to hand over. One that cannot wake is left for :meth:`keep`."""
        for identity in await asyncio.to_thread(unfinished, self._settings.paths.root / "identities"):
            if mine(identity):
                await self._try_to_wake(identity)

    async def close(self) -> None:
        """Put everyone to sleep."""
        for identity in list(self._awake):
            self._sleep(identity)
        if self._closing:
            await asyncio.wait(self._closing.values())

    async def _apply(self, identity: str, pack: bytes, count: int) -> None:
        asleep = identity not in self._awake

        async def apply(activation: Activation) -> None:
            if asleep and not count:  # it goes to sleep as soon as it has done its work
                activation.used_at -= self._settings.identity.idle_seconds
            await activation.apply(pack, count)

        await self._with(identity, apply)

    async def _with(self, identity: str, call: Callable[[Activation], Awaitable[T]]) -> T:
        self._wanted[identity] += 1  # not put to sleep meanwhile
        try:
            activation = await self._activation(identity)
            try:
                return await call(activation)
            except OwnershipLost as error:
                if self._awake.get(identity) is activation:
                    await asyncio.shield(self._sleep(identity))
                raise NotReady(f"Identity {shown_name(identity)!r} is changing hands.", retry_after=1) from error
        finally:
            _subtract(self._wanted, identity)
            self._rested(identity)

    async def _activation(self, identity: str) -> Activation:
        activation = self._awake.get(identity)
        if activation is not None and not activation.closed:
            self._awake[identity] = self._awake.pop(identity)  # now the one used last
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
            await self._with(identity, _nothing)
        except SegmentDoError as error:
            log.warning("identity does not wake", identity=shown_name(identity), error=str(error))

    async def _wake(self, identity: str) -> Activation:
        if identity in self._awake:
            self._sleep(identity)
        if identity in self._closing:
            await asyncio.wait({self._closing[identity]})
        await self._take_place(identity)
        try:
            activation = await Activation.wake(
                self._settings.paths.identity(identity),
                identity,
                self._settings.identity,
                self._carrier.hand_over,
                self._threads,
                self._now,
                monotonic=self._clock,
                rules=self._rules.of(identity_of(identity)),
                layout=self._layouts[identity_of(identity)] if shard_of(identity) else None,
                deliver=self._deliver,
                past=self._past,
                declared=self._declared.of(identity_of(identity)),
                rested=lambda: self._rested(identity),
            )
        except BaseException:
            self._leave_place()
            raise
        self._awake[identity] = activation
        return activation

    def _sleep(self, identity: str) -> asyncio.Task[None]:
        """Begin it; the task ends when its file is free for another activation, and its place for another identity."""
        task = self._closing[identity] = asyncio.create_task(self._close(identity, self._awake.pop(identity)))
        return task

    async def _close(self, identity: str, activation: Activation) -> None:
        try:
            await activation.close()
        except Exception:
            log.exception("identity did not go to sleep in order; it is read afresh", identity=shown_name(identity))
        finally:
            del self._closing[identity]
            self._slept += 1
            self._leave_place()

    def _may_sleep(self, identity: str) -> bool:
        activation = self._awake[identity]
        return activation.idle and not activation.closed and not self._wanted[identity]

    async def _take_place(self, identity: str) -> None:
        if self._taken < self._most or self._urgent[identity]:
            self._taken += 1
            self._make_room()
            return
        place = self._queueing[identity] = asyncio.get_running_loop().create_future()
        self._make_room()
        try:
            await place
        except asyncio.CancelledError:
            self._queueing.pop(identity, None)
            if not place.cancelled():  # it was given one a moment ago
                self._leave_place()
            raise

    def _leave_place(self) -> None:
        self._taken -= 1
        while self._queueing and self._taken < self._most:
            self._let_in(next(iter(self._queueing)))

    def _let_in(self, identity: str) -> None:
        """Where it waits for a place, it has one now."""
        place = self._queueing.pop(identity, None)
        if place is not None and not place.done():
            self._taken += 1
            place.set_result(None)

    @property
    def _wanting(self) -> int:
        """Places that are wanted, or taken beyond the bound, and not about to be free."""
        return len(self._queueing) + max(0, self._taken - self._most) - len(self._closing)

    def _make_room(self) -> None:
        """Put to sleep as many as places are wanted, of those that have nothing to do the ones used longest ago."""
        if self._wanting <= 0 or self._all_busy:
            return
        for identity in list(islice(filter(self._may_sleep, self._awake), self._wanting)):
            self._sleep(identity)
        self._all_busy = self._wanting > 0

    def _rested(self, identity: str) -> None:
        """It may have nothing to do any more: then its place is for who waits for one."""
        self._somebody_rested.set()
        if identity in self._awake and self._may_sleep(identity):
            if self._wanting > 0:
                self._sleep(identity)
            else:
                self._all_busy = False

    def _relieve(self) -> list[asyncio.Task[None]]:
        """Put to sleep those used longest ago, until the others fit into memory."""
        held = {identity: activation.memory_bytes for identity, activation in self._awake.items()}
        over = sum(held.values()) - self._settings.identity.max_awake_bytes
        going = []
        for identity, size in held.items():
            if over <= 0:
                break
            if self._may_sleep(identity):
                over -= size
                going.append(self._sleep(identity))
        return going


async def _nothing(_activation: Activation) -> None:
    """Being awake is all that is asked of it."""


def _subtract(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
