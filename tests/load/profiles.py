"""One identity's profiles through the whole platform: events a second as they become many, and reads of the Profile API.

They are made as any others are, over HTTP: identify calls, each with a user id, an anonymous id and an email.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.load.figures import Figure
from tests.load.generator import PLACEHOLDER, Result, burst, measure
from tests.load.http import post
from tests.load.measures import BATCH, Budget, drained, limit_server, new_tag, passage, passage_figures
from tests.load.platform import Platform

__all__ = ["READERS", "profiles", "read_limits"]

READERS: Final = (1, 32)
"""Connections that read."""
_IDENTITY: Final = "profiles"
_ACTIVE: Final = 2_000
"""Profiles that events come for again and again; there are at least so many."""
_EVENTS: Final = 100_000
_PATHS: Final = 1_000
_WAIT_SECONDS: Final = 1_800.0
_Fill = tuple[str, int]
"""A name, and how many batches were sent under it."""


async def profiles(platform: Platform, budget: Budget, limits: dict[int, list[Result]]) -> list[Figure]:
    """Events of any profile, of active ones, and reads, at each of the sizes."""
    source = await asyncio.to_thread(platform.create_source, _IDENTITY, _IDENTITY)
    key = source["writeKey"]
    made = await asyncio.to_thread(
        platform.api, "POST", f"/api/identities/{_IDENTITY}/profile-tokens", {"name": "bench"}
    )
    figures: list[Figure] = []
    fills: list[_Fill] = []
    least: dict[str, float] = {}
    chosen = random.Random(1)
    for size in budget.profiles:
        missing = max(size, _ACTIVE) - sum(count for _name, count in fills) * BATCH
        began = time.monotonic()
        fills.append((f"p{len(fills)}", missing // BATCH))
        await burst(platform.port, [_filling(fills[-1][0], key)], missing // BATCH)
        await drained(platform, timeout_seconds=_WAIT_SECONDS)
        filled = missing / (time.monotonic() - began)
        said = f"{max(size, _ACTIVE):,} profiles"
        if missing >= 10_000:
            figures.append(Figure(f"{said}: made, events that make three ids each", "events/s", [filled]))
        for sort, users in (
            ("active", [_user(chosen, fills[:1], _ACTIVE) for _ in range(_EVENTS)]),
            ("any", [_user(chosen, fills) for _ in range(_EVENTS)]),
        ):
            runs = []
            for _ in range(budget.runs):
                requests = [_tracks(new_tag(), users[at : at + BATCH], key) for at in range(0, _EVENTS, BATCH)]
                runs.append(await passage(platform, requests, BATCH, _EVENTS))
            found = passage_figures(f"{said}: events of {sort} ones", runs, target=True, limit=least.get(sort))
            least.setdefault(sort, found[0].value)
            figures += found
        reads = [_read(_user(chosen, fills)[0], made["token"]) for _ in range(_PATHS)]
        for connections in READERS:
            figures += await _reads(platform.port, reads, said, connections, budget, limits.get(connections, []))
    return figures


async def read_limits(budget: Budget, folder: Path) -> dict[int, list[Result]]:
    """The same requests to a server that answers a constant, by connections."""
    requests = [_read(f"user-{number}", "token" * 8) for number in range(_PATHS)]
    async with limit_server("constant", folder) as port:
        return {
            connections: [
                await measure(port, requests, connections=connections, seconds=budget.seconds)
                for _ in range(budget.runs)
            ]
            for connections in READERS
        }


async def _reads(
    port: int, requests: Sequence[bytes], said: str, connections: int, budget: Budget, limits: Sequence[Result]
) -> list[Figure]:
    runs = [await measure(port, requests, connections=connections, seconds=budget.seconds) for _ in range(budget.runs)]
    assert not any(run.refused or run.failed for run in runs), "a read was not answered with 200"
    rates, tails = sorted(run.per_second for run in limits), sorted(run.p99 * 1e3 for run in limits)
    name = f"{said}: Profile API reads, {connections} connection{'s' if connections > 1 else ''}"
    return [
        Figure(name, "reads/s", [run.per_second for run in runs], rates[len(rates) // 2] if rates else None),
        Figure(f"{name}: p99", "ms", [run.p99 * 1e3 for run in runs], tails[len(tails) // 2] if tails else None),
    ]


def _filling(name: str, key: str) -> bytes:
    """Whose every sending makes a hundred profiles; the placeholder tells one sending from another."""
    number = PLACEHOLDER.decode()
    body = ",".join(
        f'{{"type":"identify","messageId":"{name}-{slot}-{number}","userId":"{name}-{slot}-{number}",'
        f'"anonymousId":"a-{name}-{slot}-{number}",'
        f'"traits":{{"email":"{name}-{slot}-{number}@example.com","plan":"pro","logins":3}}}}'
        for slot in range(BATCH)
    )
    return post("/v1/batch", f'{{"batch":[{body}]}}'.encode(), key)


def _user(chosen: random.Random, fills: Sequence[_Fill], most: int | None = None) -> tuple[str, str]:
    """Ids of a profile that was made: user id, anonymous id."""
    at = chosen.randrange(most or sum(count for _name, count in fills) * BATCH)
    for name, count in fills:
        if at < count * BATCH:
            user = f"{name}-{at % BATCH}-{at // BATCH:010d}"
            return user, f"a-{user}"
        at -= count * BATCH
    raise AssertionError("more were asked for than there are")


def _tracks(tag: str, users: Sequence[tuple[str, str]], key: str) -> bytes:
    body = ",".join(
        f'{{"type":"track","messageId":"{tag}-{slot}-{PLACEHOLDER.decode()}","event":"Order Completed","userId":"{user}",'
        f'"anonymousId":"{anonymous}","properties":{{"orderId":"o-{slot}","revenue":{slot}.5,"currency":"EUR","products":'
        '[{"id":"p1","name":"Shoe","price":79.5,"quantity":1},{"id":"p2","name":"Sock","price":9.0,"quantity":2}]},'
        '"context":{"library":{"name":"analytics-python","version":"2.4.0"},"locale":"de-DE","timezone":"Europe/Berlin"}}'
        for slot, (user, anonymous) in enumerate(users)
    )
    return post("/v1/batch", f'{{"batch":[{body}]}}'.encode(), key)


def _read(user: str, token: str) -> bytes:
    basic = base64.b64encode(f"{token}:".encode()).decode()
    return (
        f"GET /v1/spaces/{_IDENTITY}/collections/users/profiles/user_id:{user}/traits HTTP/1.1\r\n"
        f"Host: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\r\n"
    ).encode()
