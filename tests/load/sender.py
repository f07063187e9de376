"""Seeded load that behaves as SDKs do, with a ledger of all of it.

Many connections, each a task: single events and batches of 1 to 50, several identities, some messages sent twice on purpose
under one id, some that break the contract among good ones. What is refused or unknown is sent again under the same id up
to ``resend`` times, or left as it is; the seed decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.load.http import Answer, Connection, Cut, NotConnected, post
from tests.load.ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Fact, Ledger

__all__ = ["Load", "Prober", "Target"]

_REFUSING: Final = frozenset({429, 503})
_USERS: Final = 200
_IDENTIFIES_A_USER: Final = 20


class Target(NamedTuple):
    """A source to send to."""

    identity: str
    write_key: str


class _Message(NamedTuple):
    id: str
    body: dict[str, Any]
    bad: bool = False


class Load:
    """``events_per_second`` over ``connections`` until stopped. ``tag`` makes ids of different runs differ."""

    def __init__(
        self,
        port: int,
        targets: list[Target],
        ledger: Ledger,
        *,
        seed: int,
        tag: str,
        connections: int = 16,
        events_per_second: float = 400.0,
        resend: int = 3,
    ) -> None:
        self._port = port
        self._targets = targets
        self._ledger = ledger
        self._tag = tag
        self._seed = seed
        self._connections = connections
        self._pace_seconds = connections / events_per_second
        self._resend = resend
        self._numbers: Iterator[int] = iter(range(10**9))
        self._identified: dict[tuple[str, str], int] = {}
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin sending."""
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(self._connections)]

    async def stop(self) -> None:
        """Let requests in flight end, with an outcome each."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _send(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{self._tag}/{number}")
        connection = Connection(self._port)
        sent_before: list[tuple[Target, _Message]] = []
        loop = asyncio.get_running_loop()
        due = loop.time() + rng.random() * self._pace_seconds
        while not self._stopping.is_set():
            target = rng.choice(self._targets)
            messages = self._messages(rng, target, sent_before)
            await self._deliver(rng, connection, target, messages)
            due = max(due + len(messages) * self._pace_seconds, loop.time() - 1.0)  # no storm after an outage
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stopping.wait()
        connection.close()

    async def _deliver(
        self, rng: random.Random, connection: Connection, target: Target, messages: list[_Message]
    ) -> None:
        """One request, and perhaps the same again until it is answered with 200."""
        if len(messages) == 1 and rng.random() < 0.9:
            message = messages[0]
            body = {key: value for key, value in message.body.items() if key != "type"}
            request = post(f"/v1/{message.body['type']}", json.dumps(body).encode(), target.write_key)
        else:
            request = post("/v1/batch", json.dumps({"batch": [m.body for m in messages]}).encode(), target.write_key)
        patience = rng.choice((0, 1, self._resend))
        for attempt in range(patience + 1):
            if await self._once(connection, request, messages) or self._stopping.is_set():
                return
            if attempt < patience:
                await asyncio.sleep(rng.uniform(0.05, 0.5) * 2**attempt)  # an SDK's backoff

    async def _once(self, connection: Connection, request: bytes, messages: list[_Message]) -> bool:
        number = self._ledger.sent([each.id for each in messages])
        try:
            answer = await connection.ask(request)
        except NotConnected as error:
            self._ledger.outcome(number, REFUSED, f"not connected: {error}")
            return False
        except Cut as error:
            self._ledger.outcome(number, UNKNOWN, f"cut: {error}")
            return False
        return self._answered(number, answer, messages)

    def _answered(self, number: int, answer: Answer, messages: list[_Message]) -> bool:
        if answer.status == 200:
            rejected = json.loads(answer.body).get("rejected", ())
            if rejected:
                self._ledger.set_aside([messages[each["index"]].id for each in rejected])
            self._ledger.outcome(number, ACKNOWLEDGED)
            return True
        refused = answer.status in _REFUSING or 400 <= answer.status < 500
        detail = f"{answer.status} {answer.body[:120].decode(errors='replace')}"
        self._ledger.outcome(number, REFUSED if refused else UNKNOWN, detail)
        return False

    def _messages(self, rng: random.Random, target: Target, before: list[tuple[Target, _Message]]) -> list[_Message]:
        count = 1 if rng.random() < 0.6 else rng.randint(1, 50)
        messages = [self._message(rng, target) for _ in range(count)]
        if rng.random() < 0.1:  # the same again, in the same request or in a later one
            known = [message for its, message in before if its == target]
            messages.append(rng.choice(known or messages))
        before.extend((target, message) for message in messages[:2] if not message.bad)
        del before[:-200]
        return messages

    def _message(self, rng: random.Random, target: Target) -> _Message:
        message_id = f"{self._tag}-{next(self._numbers):09d}"
        user = f"u{rng.randrange(_USERS)}"
        body: dict[str, Any] = {"messageId": message_id, "context": {"library": {"name": "load", "version": "1"}}}
        kind = rng.random()
        if kind < 0.005:  # breaks the contract: a track without a name
            return _Message(message_id, body | {"type": "track", "userId": user}, bad=True)
        if kind < 0.1:
            return self._identify(message_id, body, target, user)
        if kind < 0.2:
            return _Message(message_id, body | {"type": "page", "name": "Home", "anonymousId": f"a-{user}-0"})
        properties = {"revenue": round(rng.uniform(1, 100), 2), "n": rng.randrange(1000)}
        return _Message(
            message_id, body | {"type": "track", "event": "Bought", "userId": user, "properties": properties}
        )

    def _identify(self, message_id: str, body: dict[str, Any], target: Target, user: str) -> _Message:
        """An identify that leaves a mark of its own: one trait nobody else sets, one of the user's anonymous ids."""
        count = self._identified.get((target.identity, user), 0)
        user = f"{user}-{self._tag}-{count // _IDENTIFIES_A_USER}"  # bounded traits a user
        self._identified[target.identity, user.partition("-")[0]] = count + 1
        nth = count % _IDENTIFIES_A_USER
        anonymous = f"a-{user}-{nth % 3}"
        self._ledger.fact(Fact(message_id, target.identity, user, anonymous, f"t{nth}", count))
        traits = {f"t{nth}": count}
        return _Message(
            message_id, body | {"type": "identify", "userId": user, "anonymousId": anonymous, "traits": traits}
        )


class Prober:
    """One small request after another, each on a new connection: when was the service there, and when not?"""

    def __init__(self, port: int, target: Target, ledger: Ledger, *, tag: str, every_seconds: float = 0.02) -> None:
        self._port = port
        self._target = target
        self._ledger = ledger
        self._tag = tag
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None
        self.accepted_at: list[float] = []
        """Loop times of 200s, ascending."""

    def start(self) -> None:
        """Begin probing."""
        self._task = asyncio.create_task(self._probe())

    async def stop(self) -> None:
        """End it (the request in flight becomes unknown)."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def gap_seconds(self, since: float, until: float) -> float:
        """The longest time between two 200s in a span, its ends counted as such."""
        times = [since, *(each for each in self.accepted_at if since < each < until), until]
        return max(after - before for before, after in itertools.pairwise(times))

    async def _probe(self) -> None:
        loop = asyncio.get_running_loop()
        for number in range(10**9):
            message_id = f"{self._tag}-p{number:08d}"
            body = json.dumps({"messageId": message_id, "event": "Probe", "userId": "prober"}).encode()
            request = self._ledger.sent([message_id])
            connection = Connection(self._port, timeout_seconds=3.0)
            try:
                answer = await connection.ask(post("/v1/track", body, self._target.write_key))
            except NotConnected as error:
                self._ledger.outcome(request, REFUSED, f"not connected: {error}")
            except Cut as error:
                self._ledger.outcome(request, UNKNOWN, f"cut: {error}")
            else:
                if answer.status == 200:
                    self.accepted_at.append(loop.time())
                    self._ledger.outcome(request, ACKNOWLEDGED)
                else:
                    refused = answer.status in _REFUSING or 400 <= answer.status < 500
                    self._ledger.outcome(request, REFUSED if refused else UNKNOWN, str(answer.status))
            finally:
                connection.close()
            await asyncio.sleep(self._every_seconds)
