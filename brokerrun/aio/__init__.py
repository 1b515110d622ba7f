"""asyncio over the same queues: threads do the work of `brokerrun`, tasks wait for it.

    async with AsyncBroker("broker.db") as broker:
        await broker.push("mail", "hello")
        async for message in AsyncQueue("mail", broker):  # what is there, then what comes
            ...

Everything is as it is without asyncio, and shared with it: other processes, `broker` and workers
see the same queues. Of its own it has what tasks need:

- Writes that wait at the same time are stored in one transaction; each still answers for itself.
- A task that is cancelled loses no message: what it was about to get goes back first. That takes
  milliseconds, or as long as the store is busy.
- Closing waits for what is in hand, and leaves no thread behind.
"""

from __future__ import annotations

from brokerrun.aio.broker import AsyncBroker, async_broker
from brokerrun.aio.queue import AsyncQueue
from brokerrun.aio.watcher import AsyncWatcher

__all__ = ["AsyncBroker", "AsyncQueue", "AsyncWatcher", "async_broker"]
