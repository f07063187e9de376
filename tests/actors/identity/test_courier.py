"""A shard's letters on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.identity.courier import Courier
from segment_do.errors import StorageFailed
from segment_do.identity.shards import Layout
from segment_do.identity.shards.letters import Envelope
from segment_do.units import unit_name
from tests.segment_do.identity.events import apply, open_graph, record


async def test_a_file_that_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    """Whatever fails while letters are looked for, they go on without a new one."""
    layout = Layout(2)
    account = next(name for name in (f"g{n}" for n in range(30)) if layout.owner(("group_id", name)) == "1")
    user = next(name for name in (f"u{n}" for n in range(30)) if layout.owner(("user_id", name)) == "0")
    graph = open_graph(tmp_path, identity=unit_name("tom", "0"), layout=layout)
    apply(graph, record("m1", "group", user=user, body={"groupId": account}))
    assert graph.shard is not None
    came: list[str] = []
    arrived = asyncio.Event()
    failures = [StorageFailed("The disk did not answer."), ValueError("Something else.")]

    async def deliver(unit: str, _letters: list[Envelope]) -> None:
        came.append(unit)
        arrived.set()

    async def on_thread(work: Callable[[], Any]) -> Any:
        if failures:
            raise failures.pop()
        return work()

    courier = Courier(unit_name("tom", "0"), graph.shard.post, deliver, on_thread, lambda: None)
    courier.go_soon()
    async with asyncio.timeout(20.0):
        await arrived.wait()
    await courier.close()
    assert came == [unit_name("tom", "1")]
    graph.close()
