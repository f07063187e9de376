"""Load for measurements: whole HTTP requests made beforehand, patched with message ids, as fast as they are answered.

``measure`` runs for a time (with ``wrk`` where it is installed, else with asyncio), ``burst`` sends an exact number. The requests
are made once; patching one costs a copy, so that the generator is not what is measured. Its CPU time is told all the same.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.load.http import Connection, Cut, NotConnected, post

__all__ = ["PLACEHOLDER", "Result", "batches", "burst", "measure", "singles", "tool"]

PLACEHOLDER: Final = b"@" * 10
_WHEN: Final = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


class Result(NamedTuple):
    """What a run of requests came to. Times in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    max: float
    refused: int
    failed: int
    cpu_seconds: float
    """Of the generator."""

    @property
    def per_second(self) -> float:
        """Requests answered with 200, a second."""
        return (self.requests - self.refused - self.failed) / self.seconds


def tool() -> str:
    """Which generator ``measure`` uses."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def singles(tag: str, keys: Sequence[str], count: int = 256) -> list[bytes]:
    """Requests of one event each, of ``count`` users spread over the sources with these write keys."""
    return [post("/v1/track", _event(f"{tag}-0", number).encode(), keys[number % len(keys)]) for number in range(count)]


def batches(tag: str, keys: Sequence[str], events: int = 100, count: int = 64) -> list[bytes]:
    """Requests of ``events`` events each; every event of a user of its own."""
    made = []
    for number in range(max(count, len(keys))):
        body = ",".join(_event(f"{tag}-{slot}", number * events + slot, '"type":"track",') for slot in range(events))
        made.append(post("/v1/batch", f'{{"batch":[{body}],"sentAt":"{_WHEN}"}}'.encode(), keys[number % len(keys)]))
    return made


def _event(message_id: str, user: int, kind: str = "") -> str:
    """About 490 bytes, as SDKs send it."""
    return (
        f'{{{kind}"messageId":"{message_id}-{PLACEHOLDER.decode()}","event":"Order Completed","userId":"user-{user:07d}",'
        f'"anonymousId":"0f6d2b5e-8d5e-4a43-9a4f-{user:012d}","timestamp":"{_WHEN}",'
        f'"properties":{{"orderId":"o-{user:07d}","revenue":{user % 90 + 10}.5,"currency":"EUR","products":'
        '[{"id":"p1","name":"Shoe","price":79.5,"quantity":1},{"id":"p2","name":"Sock","price":9.0,"quantity":2}]},'
        '"context":{"library":{"name":"analytics-python","version":"2.4.0"},"locale":"de-DE","timezone":"Europe/Berlin"},'
        '"integrations":{}}'
    )


async def measure(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Result:
    """Send for so long over so many connections. Message ids are unique within one call: give each its own tag."""
    if tool() == "wrk":
        return await _wrk(port, requests, connections, seconds)
    return await _asyncio(port, requests, connections, seconds)


async def _wrk(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Result:
    with tempfile.NamedTemporaryFile(prefix="segment_do-wrk-") as file:
        file.write(b"\0".join(requests) + b"\0")
        file.flush()
        before = _children_cpu()
        running = await asyncio.create_subprocess_exec(
            "wrk",
            "--threads=1",
            f"--connections={connections}",
            f"--duration={max(1, round(seconds))}s",
            "--timeout=10s",
            f"--script={Path(__file__).with_name('wrk.lua')}",
            f"http://127.0.0.1:{port}",
            "--",
            file.name,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _nothing = await asyncio.wait_for(running.communicate(), seconds + 30)
        cpu = _children_cpu() - before
    text = printed.decode(errors="replace")
    line = next((each for each in text.splitlines() if each.startswith("RESULT ")), None)
    if running.returncode or line is None:
        raise RuntimeError(f"wrk failed: {text[-2000:]}")
    return Result(**json.loads(line.removeprefix("RESULT ")), cpu_seconds=cpu)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _asyncio(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Result:
    began, cpu = time.perf_counter(), time.process_time()
    latencies: list[float] = []
    refused = failed = sent = 0

    async def send(number: int) -> None:
        nonlocal refused, failed, sent
        connection = Connection(port)
        while time.perf_counter() - began < seconds:
            sent += 1
            request = requests[sent % len(requests)].replace(PLACEHOLDER, b"%010d" % sent)
            at = time.perf_counter()
            try:
                answer = await connection.ask(request)
            except (NotConnected, Cut):
                failed += 1
                continue
            latencies.append(time.perf_counter() - at)
            refused += answer.status != 200
        connection.close()

    await asyncio.gather(*map(send, range(connections)))
    took = time.perf_counter() - began
    latencies.sort()
    return Result(
        sent,
        took,
        percentile(latencies, 50),
        percentile(latencies, 99),
        latencies[-1] if latencies else 0.0,
        refused,
        failed,
        time.process_time() - cpu,
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Nearest rank."""
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, int(len(ascending) * percent / 100))]


async def burst(port: int, requests: Sequence[bytes], count: int, *, connections: int = 8) -> Result:
    """Exactly ``count`` requests accepted; refused ones are sent again after a moment."""
    began, cpu = time.perf_counter(), time.process_time()
    numbers = iter(range(count))
    latencies: list[float] = []
    refused = 0

    async def send() -> None:
        nonlocal refused
        connection = Connection(port, timeout_seconds=60.0)
        for number in numbers:
            request = requests[number % len(requests)].replace(PLACEHOLDER, b"%010d" % number)
            while True:
                at = time.perf_counter()
                answer = await connection.ask(request)
                if answer.status == 200:
                    latencies.append(time.perf_counter() - at)
                    break
                refused += 1
                if refused > 10_000:
                    raise RuntimeError(f"refused again and again: {answer}")
                await asyncio.sleep(0.1)
        connection.close()

    await asyncio.gather(*(send() for _ in range(connections)))
    took = time.perf_counter() - began
    latencies.sort()
    return Result(
        count,
        took,
        percentile(latencies, 50),
        percentile(latencies, 99),
        latencies[-1],
        0,
        0,
        time.process_time() - cpu,
    )
