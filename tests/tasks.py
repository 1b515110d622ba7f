"""What the tests of asyncio use share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support import eventually

from brokerrun.aio import AsyncBroker


def use(database: str, work: Callable[[AsyncBroker], Awaitable[Any]], **more: Any) -> Any:
    """Run *work* with a broker, in an event loop of its own; return what it returns."""

    async def main() -> Any:
        async with AsyncBroker(database, **more) as broker:
            return await work(broker)

    return asyncio.run(main())


async def fact(told: Callable[[], Any], within: float = 10) -> Any:
    """Await a fact while the loop goes on; it is asked in another thread."""
    return await asyncio.to_thread(eventually, told, within)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, which must be that."""
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def ours() -> list[str]:
    """Name the threads of asyncio use that live."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("brokerrun-aio")]


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextmanager
def store_locked(broker: AsyncBroker) -> Iterator[None]:
    """Let every thread that comes to the store of *broker* wait there."""
    store: Any = broker.session.broker.store
    with store.connection.lock:
        yield
