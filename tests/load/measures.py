"""The measurements of ``make bench``, each a coroutine that returns figures. Bounded in time and count; 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.load.figures import Figure
from tests.load.generator import Result, batches, burst, measure, percentile, singles
from tests.load.http import Connection, Cut, NotConnected, post
from tests.load.machine import cpu_seconds, memory
from tests.load.platform import Platform, free_port

__all__ = [
    "FULL",
    "LONG",
    "QUICK",
    "Budget",
    "Limits",
    "Passage",
    "ack",
    "batched",
    "drained",
    "footprint",
    "freshness",
    "limit_server",
    "new_tag",
    "passage",
    "passage_figures",
    "pipeline",
    "reached",
    "rows",
    "single",
]

BATCH: Final = 100
_PASSAGE_SECONDS: Final = 1_800.0


@dataclass(frozen=True)
class Budget:
    """How much is measured."""

    runs: int
    seconds: float
    connections: tuple[int, ...]
    sizes: tuple[int, ...]
    """Events through one identity, one measurement each, on top of one another."""
    identities: tuple[int, ...]
    identity_events: int
    probes: int
    ack_seconds: float
    starts: int
    graphs: tuple[int, ...]
    """Profiles in graphs that are compared, the empty one first."""
    graph_rounds: int
    many: int
    """Identities of a pool, each with few events."""
    together: int
    """Identities of a pool that all work at once."""
    dedicated: int
    """Identities with a process each."""
    profiles: tuple[int, ...]
    """Profiles of one identity, through the platform, one measurement each, on top of one another."""


QUICK: Final = Budget(1, 1.0, (1, 32), (10_000,), (10,), 10_000, 15, 6.5, 1, (0, 20_000), 20, 300, 100, 5, (0, 10_000))
FULL: Final = Budget(
    3,
    4.0,
    (1, 32, 128),
    (10_000, 100_000, 1_000_000),
    (10, 100),
    100_000,
    100,
    30.0,
    3,
    (0, 100_000),
    200,
    2_000,
    1_000,
    30,
    (0, 100_000),
)
LONG: Final = Budget(
    3,
    4.0,
    (1, 32, 128),
    (10_000, 100_000, 1_000_000, 10_000_000),
    (10, 100),
    100_000,
    200,
    60.0,
    3,
    (0, 100_000, 1_000_000),
    300,
    10_000,
    1_000,
    200,
    (0, 100_000, 1_000_000),
)

_tags: Iterator[int] = iter(range(10**9))


def new_tag() -> str:
    """For message ids that nobody else gives."""
    return f"b{time.time_ns() // 1_000_000:x}n{next(_tags)}"


@contextlib.asynccontextmanager
async def limit_server(mode: str, folder: Path) -> AsyncIterator[int]:
    """Port of ``tests.load.limit`` in that mode."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.load.limit", str(port), mode, str(folder)], cwd=Path(__file__).parents[2]
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                break
        yield port
    finally:
        server.kill()
        server.wait(10)


class Limits:
    """What the machine can do at best; measured before the platform starts, with the same generator and requests."""

    def __init__(self) -> None:
        self.single: dict[int, list[Result]] = {}
        self.batched: list[Result] = []

    async def measure(self, budget: Budget, folder: Path, *, single: bool, batched: bool) -> None:
        """Fill in what is wanted."""
        if single:
            async with limit_server("constant", folder) as port:
                for connections in budget.connections:
                    self.single[connections] = [
                        await measure(port, singles(new_tag(), ["k"]), connections=connections, seconds=budget.seconds)
                        for _ in range(budget.runs)
                    ]
        if batched:
            async with limit_server("batch", folder) as port:
                self.batched = [
                    await measure(port, batches(new_tag(), ["k"], BATCH), connections=8, seconds=budget.seconds)
                    for _ in range(budget.runs)
                ]


def _median(runs: Sequence[float]) -> float | None:
    return sorted(runs)[len(runs) // 2] if runs else None


def _generator(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "generatorCores": round(sum(each.cpu_seconds for each in results) / sum(each.seconds for each in results), 2),
        "refused": sum(each.refused for each in results),
        "failed": sum(each.failed for each in results),
    }


async def _awake(platform: Platform, name: str) -> str:
    """Write key of a source whose identity is awake and whose first requests are behind it."""
    key: str = (await _source(platform, name))["writeKey"]
    await burst(platform.port, singles(new_tag(), [key]), 500)
    await drained(platform)
    return key


async def _cost(platform: Platform, before: Counter[str], events: int) -> dict[str, float]:
    """CPU microseconds an event since then, by part: until the event is in the warehouse, not only until the answer."""
    spent = await asyncio.to_thread(cpu_seconds, platform)
    spent.subtract(before)
    return {part: round(seconds / events * 1e6, 1) for part, seconds in spent.most_common(6)}


async def single(platform: Platform, budget: Budget, limits: Limits) -> list[Figure]:
    """One event a request: requests a second, p50 and p99, by connections."""
    key = await _awake(platform, "bench single")
    figures = []
    for connections in budget.connections:
        results = []
        used = await asyncio.to_thread(cpu_seconds, platform)
        for _ in range(budget.runs):
            results.append(
                await measure(platform.port, singles(new_tag(), [key]), connections=connections, seconds=budget.seconds)
            )
            await drained(platform)
        cost = await _cost(platform, used, sum(each.requests for each in results))
        limit = limits.single.get(connections, [])
        name = f"single events, {connections} connection{'s' if connections > 1 else ''}"
        figures += [
            Figure(
                name,
                "requests/s",
                [each.per_second for each in results],
                _median([each.per_second for each in limit]),
                least_ratio=0.35 if connections == 32 else None,
                detail=_generator(results) | {"cpuMicrosecondsAnEvent": cost},
            ),
            Figure(
                f"{name}: p50",
                "ms",
                [each.p50 * 1e3 for each in results],
                _median([each.p50 * 1e3 for each in limit]),
                at_most=1.0 if connections == 1 else None,
            ),
            Figure(
                f"{name}: p99", "ms", [each.p99 * 1e3 for each in results], _median([each.p99 * 1e3 for each in limit])
            ),
        ]
    return figures


async def batched(platform: Platform, budget: Budget, limits: Limits) -> list[Figure]:
    """Batches of 100: events accepted a second."""
    key = await _awake(platform, "bench batches")
    results = []
    used = await asyncio.to_thread(cpu_seconds, platform)
    for _ in range(budget.runs):
        results.append(
            await measure(platform.port, batches(new_tag(), [key], BATCH), connections=8, seconds=budget.seconds)
        )
        await drained(platform, timeout_seconds=300.0)
    cost = await _cost(platform, used, sum(each.requests for each in results) * BATCH)
    return [
        Figure(
            "batches of 100, 8 connections",
            "events/s",
            [each.per_second * BATCH for each in results],
            _median([each.per_second * BATCH for each in limits.batched]),
            at_least=150_000,
            detail=_generator(results) | {"cpuMicrosecondsAnEvent": cost},
        ),
        Figure(
            "batches of 100, 8 connections: p99",
            "ms",
            [each.p99 * 1e3 for each in results],
            _median([each.p99 * 1e3 for each in limits.batched]),
        ),
    ]


async def pipeline(platform: Platform, budget: Budget, figures: list[Figure]) -> None:
    """Accepted until committed and queryable: events a second, and CPU an event by part. Adds to ``figures`` as it goes."""
    for size in budget.sizes:
        runs = [await _through(platform, 1, size) for _ in range(budget.runs if size <= 100_000 else 1)]
        figures += passage_figures(f"pipeline, 1 identity, {size:,} events", runs, target=size >= 100_000)
    for identities in budget.identities:
        events = budget.identity_events
        runs = [await _through(platform, identities, events) for _ in range(budget.runs)]
        figures += passage_figures(
            f"pipeline, {identities} identities, {events:,} events", runs, target=events >= 100_000
        )


@dataclass
class Passage:
    """How long so many events took, and what CPU, by part."""

    events: int
    accepted_seconds: float
    queryable_seconds: float
    committed_seconds: float
    cpu: Counter[str]


def passage_figures(name: str, runs: Sequence[Passage], *, target: bool, limit: float | None = None) -> list[Figure]:
    """Events a second, and CPU an event by part."""
    parts: Counter[str] = Counter()
    for run in runs:
        parts.update({part: seconds / run.events / len(runs) * 1e6 for part, seconds in run.cpu.items()})
    return [
        Figure(
            name,
            "events/s",
            [run.events / run.committed_seconds for run in runs],
            limit,
            at_least=20_000 if target else None,
            detail={
                "acceptedSeconds": [round(run.accepted_seconds, 3) for run in runs],
                "queryableSeconds": [round(run.queryable_seconds, 3) for run in runs],
                "committedSeconds": [round(run.committed_seconds, 3) for run in runs],
            },
        ),
        Figure(
            f"{name}: CPU",
            "µs/event",
            [sum(run.cpu.values()) / run.events * 1e6 for run in runs],
            detail={part: round(cost, 2) for part, cost in parts.most_common() if cost >= 0.05},
        ),
    ]


async def _through(platform: Platform, identities: int, events: int) -> Passage:
    sources = [await _source(platform, f"bench {number} of {identities}") for number in range(identities)]
    keys = [each["writeKey"] for each in sources]
    await burst(platform.port, batches(new_tag(), keys, 10, count=identities), identities)  # wakes the actors
    await drained(platform, timeout_seconds=300.0)
    return await passage(platform, batches(new_tag(), keys, BATCH), BATCH, events)


async def passage(platform: Platform, requests: Sequence[bytes], size: int, events: int) -> Passage:
    """``events`` in requests of ``size`` each, as fast as they are accepted, until SQL has them; nothing else may come meanwhile."""
    before = await _status(platform)
    base, had = before["queue"]["end"], await rows(platform)
    used = await asyncio.to_thread(cpu_seconds, platform)
    began = time.monotonic()
    accepted = await burst(platform.port, requests, events // size)
    queryable = await reached(platform, "received", base + events)
    committed = await reached(platform, "committed", base + events)
    async with asyncio.timeout(_PASSAGE_SECONDS):
        # What is told of ids that are new has places in the log, too: so many places may not be all of the events yet.
        while (found := await rows(platform) - had) < events:
            queryable = committed = await reached(platform, "committed", (await _status(platform))["queue"]["end"])
    cpu = await asyncio.to_thread(cpu_seconds, platform)
    cpu.subtract(used)
    assert found == events, f"{events} events were accepted, SQL has {found} of them"
    return Passage(events, accepted.seconds, queryable - began, committed - began, +cpu)


async def reached(platform: Platform, what: str, offset: int, *, timeout_seconds: float = _PASSAGE_SECONDS) -> float:
    """When the warehouse had this offset (polled; the look that finds it ends the measurement)."""
    async with asyncio.timeout(timeout_seconds):
        while True:
            warehouse = (await _status(platform))["warehouse"]
            if warehouse.get(what, -1) >= offset:
                return time.monotonic()
            await asyncio.sleep(0.05)


async def freshness(
    platform: Platform, budget: Budget, keys: Sequence[str] = (), name: str = "freshness"
) -> list[Figure]:
    """From sending an event to SQL answering with it, while 100 events a second come in; to any of ``keys``, if there are any."""
    keys = keys or [(await _source(platform, "bench freshness"))["writeKey"]]
    stopping = asyncio.Event()
    background = asyncio.create_task(_trickle(platform.port, keys, 100.0, stopping))
    took = []
    acked = []
    try:
        async with httpx.AsyncClient(base_url=platform.url, timeout=30.0) as client:
            headers = {"authorization": f"Bearer {platform.token}"}
            connection = Connection(platform.port)
            rng = random.Random(1)
            for number in range(budget.probes + 3):
                message_id = f"{new_tag()}-fresh"
                body = json.dumps({"messageId": message_id, "event": "Probe", "userId": "probe"}).encode()
                began = time.perf_counter()
                answer = await connection.ask(post("/v1/track", body, rng.choice(keys)))
                assert answer.status == 200, answer
                answered = time.perf_counter()
                query = {"sql": f"SELECT count(*) FROM events WHERE message_id = '{message_id}'"}
                async with asyncio.timeout(60):
                    while (await client.post("/api/sql", json=query, headers=headers)).json().get("rows") != [[1]]:
                        pass
                if number >= 3:  # the first wake actors and load what a query needs
                    took.append(time.perf_counter() - began)
                    acked.append(answered - began)
                await asyncio.sleep(rng.uniform(0.0, 0.2))  # not in step with the commits
            connection.close()
    finally:
        stopping.set()
        await background
    took.sort()
    acked.sort()
    return [
        Figure(f"{name}, request to SQL: p50", "ms", [percentile(took, 50) * 1e3], detail={"probes": len(took)}),
        Figure(f"{name}, request to SQL: p99", "ms", [percentile(took, 99) * 1e3], at_most=1000.0),
        Figure(f"{name}: the ack's part, p50", "ms", [percentile(acked, 50) * 1e3]),
    ]


async def _trickle(port: int, keys: Sequence[str], per_second: float, stopping: asyncio.Event) -> None:
    connection = Connection(port)
    requests = singles(new_tag(), keys, max(256, len(keys)))
    for number in range(10**9):
        if stopping.is_set():
            break
        with contextlib.suppress(NotConnected, Cut):
            await connection.ask(requests[number % len(requests)].replace(b"@" * 10, b"%010d" % number))
        await asyncio.sleep(1 / per_second)
    connection.close()


async def ack(platform: Platform, budget: Budget) -> list[Figure]:
    """Ack latency at 10,000 events a minute, while every three seconds another actor is killed.

    Open loop: an event is due whether or not the one before was answered, and its latency counts from then.
    """
    sources = [await _source(platform, f"bench ack {number}") for number in range(3)]
    keys = [each["writeKey"] for each in sources]
    requests = singles(new_tag(), keys)
    await burst(platform.port, requests, 30, connections=1)
    await drained(platform)
    loop = asyncio.get_running_loop()
    interval = 60.0 / 10_000
    began = loop.time()
    latencies: list[float] = []
    bad: Counter[str] = Counter()
    idle: list[Connection] = []

    async def send(number: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(platform.port)
        request = requests[number % len(requests)].replace(b"@" * 10, b"9%09d" % number)
        try:
            answer = await connection.ask(request)
        except (NotConnected, Cut) as error:
            bad[type(error).__name__] += 1
        else:
            bad.update([str(answer.status)] if answer.status != 200 else [])
        latencies.append(loop.time() - due)
        idle.append(connection)

    kills: Counter[str] = Counter()

    async def kill() -> None:
        rng = random.Random(3)
        parts = ["identity", "queue", "warehouse", "control"]
        for number in range(10**6):
            await asyncio.sleep(3.0)
            part = parts[number % len(parts)]
            kills[part] += await asyncio.to_thread(platform.kill, part, rng.choice)

    killing = asyncio.create_task(kill())
    sending: set[asyncio.Task[None]] = set()
    for number in range(int(budget.ack_seconds / interval)):
        due = began + number * interval
        await asyncio.sleep(max(0.0, due - loop.time()))
        task = asyncio.create_task(send(number, due))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    killing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await killing
    for connection in idle:
        connection.close()
    await drained(platform, timeout_seconds=120.0)
    latencies.sort()
    detail = {"kills": dict(kills), "notAccepted": dict(bad), "requests": len(latencies)}
    name = "ack at 10,000 events/min while actors are killed"
    return [
        Figure(f"{name}: p50", "ms", [percentile(latencies, 50) * 1e3]),
        Figure(f"{name}: p99", "ms", [percentile(latencies, 99) * 1e3], at_most=500.0, detail=detail),
        Figure(f"{name}: longest", "ms", [latencies[-1] * 1e3]),
    ]


async def footprint(platform: Platform, budget: Budget, *, start: bool, resident: bool) -> list[Figure]:
    """Start until ready, from an empty home and from a used one; then resident bytes when nothing happens."""
    took = []
    for number in range(budget.starts if start else 1):
        if number:
            await asyncio.to_thread(platform.stop)
        took.append(await asyncio.to_thread(platform.start))
    figures = [Figure("start until ready", "s", took, at_most=20.0)] if start else []
    if resident:
        key = (await _source(platform, "bench idle"))["writeKey"]
        await burst(platform.port, singles(new_tag(), [key]), 1)  # one identity awake
        await drained(platform)
        await asyncio.to_thread(platform.sql, "SELECT count(*) FROM events")
        await asyncio.sleep(5.0 if budget.runs > 1 else 2.0)
        used = await asyncio.to_thread(cpu_seconds, platform)
        began = time.monotonic()
        await asyncio.sleep(5.0 if budget.runs > 1 else 2.0)
        spent = await asyncio.to_thread(cpu_seconds, platform)
        spent.subtract(used)
        cores = sum(spent.values()) / (time.monotonic() - began)
        processes = await asyncio.to_thread(memory, platform)
        for kind, at_most in (("rssBytes", 1536.0), ("pssBytes", None)):
            by_part: Counter[str] = Counter()
            for each in processes:
                by_part[each["part"]] += each[kind]
            figures.append(
                Figure(
                    f"idle, all processes: {kind[:3].upper()}",
                    "MiB",
                    [sum(by_part.values()) / 2**20],
                    at_most=at_most,
                    detail={part: f"{size / 2**20:.0f} MiB" for part, size in by_part.most_common()},
                )
            )
        busiest = {part: round(seconds, 2) for part, seconds in spent.most_common(6)}
        figures.append(Figure("idle, CPU", "cores", [cores], detail=busiest))
    return figures


async def drained(platform: Platform, *, timeout_seconds: float = 120.0) -> None:
    """Nothing is on its way any more: three looks in a row say so.

    Raises:
        TimeoutError: something still was; the message has the last look.
    """
    agree, last, seen = 0, None, ""
    deadline = time.monotonic() + timeout_seconds
    while agree < 3:
        try:
            status = await _status(platform)
            seen = json.dumps({part: status[part] for part in ("ingress", "queue", "warehouse")})
            end = status["queue"]["end"]
            idle = not status["ingress"]["journal_unappliedBytes"] and status["warehouse"]["received"] == end
        except (httpx.HTTPError, KeyError) as error:
            end, idle, seen = None, False, f"{error!r}, before: {seen}"
        agree = agree + 1 if idle and end == last else 0
        last = end
        if time.monotonic() > deadline:
            raise TimeoutError(f"events are still on their way after {timeout_seconds:.0f} s: {seen[:3000]}")
        await asyncio.sleep(0.15)


async def _status(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(platform.api, "GET", "/api/status")
    return found


async def _source(platform: Platform, name: str) -> dict[str, Any]:
    return await asyncio.to_thread(platform.create_source, name)


async def rows(platform: Platform) -> int:
    """Events in SQL."""
    return int((await asyncio.to_thread(platform.sql, "SELECT count(*) FROM events"))[0][0])
