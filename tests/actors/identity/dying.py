"""An identity's process that is killed, as far as that can be done within one process."""

from __future__ import annotations

import asyncio

from actors.identity.activation import Activation


async def die(activation: Activation) -> None:
    """As after kill -9: nothing of it goes on, its files stay as they are, and the kernel drops its lock."""
    activation.closed = True
    tasks = [task for task in (activation._applying, activation._pumping, activation._filling) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # or a thread would go on with a connection that is closed
    activation._graph._database.connection.close()
    activation._graph._lock.release()
