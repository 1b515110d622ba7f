"""How fast tasks write and read, beside the same calls without asyncio in the same run.

    python bench/aio.py [MESSAGES]

The database lies in the current directory: the disk's flush is most of what one call costs. Each
figure is messages a second, and milliseconds a message.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable

from brokerrun import Queue
from brokerrun.aio import AsyncBroker, AsyncQueue

BODY = "x" * 100
TASKS = 100


def show(name: str, count: int, begun: float) -> None:
    seconds = time.monotonic() - begun
    print(f"{name:<36} {count / seconds:>8.0f}/s {seconds / count * 1000:>8.3f} ms")


async def shown(name: str, count: int, work: Awaitable[object]) -> None:
    begun = time.monotonic()
    await work
    show(name, count, begun)


async def write(queue: AsyncQueue, count: int) -> None:
    for _ in range(count):
        await queue.write(BODY)


async def read(queue: AsyncQueue) -> None:
    while await queue.read():
        pass


async def all_of(stream: AsyncIterator[str]) -> None:
    async for _ in stream:
        pass


async def tasks(path: str, many: int) -> None:
    few = many // 10
    async with AsyncBroker(path) as broker:
        queue = AsyncQueue("q", broker)
        await write(queue, 100)
        await read(queue)
        together = asyncio.gather(*(write(queue, many // TASKS) for _ in range(TASKS)))
        await shown(f"write, {TASKS} tasks", many, together)
        await shown("stream(commit_interval=50)", many, all_of(queue.stream(commit_interval=50)))
        await queue.write_many([BODY] * many)
        await shown("stream(commit_interval=500)", many, all_of(queue.stream(commit_interval=500)))
        await shown("write, one after the other", few, write(queue, few))
        await shown("read, one after the other", few, read(queue))
        await queue.write_many([BODY] * few)
        await shown(
            f"read, {TASKS} tasks", few, asyncio.gather(*(read(queue) for _ in range(TASKS)))
        )


def without(path: str, count: int) -> None:
    with Queue("q", path, persistent=True) as queue:
        queue.write(BODY)
        begun = time.monotonic()
        for _ in range(count):
            queue.write(BODY)
        show("without asyncio: write", count, begun)
        begun = time.monotonic()
        while queue.read():
            pass
        show("without asyncio: read", count, begun)


if __name__ == "__main__":
    number = int(sys.argv[1]) if sys.argv[1:] else 20_000
    with tempfile.TemporaryDirectory(dir=".") as folder:
        asyncio.run(tasks(f"{folder}/tasks.db", number))
        without(f"{folder}/sync.db", number // 10)
