"""Use the queue from asyncio: many writes at once, work in batches, a service of several workers.

    python examples/python/async_service.py write BODY...    all at once, into the queue `jobs`
    python examples/python/async_service.py batch            work until nothing is ready
    python examples/python/async_service.py serve WORKERS    work until SIGTERM or Ctrl-C

The work on a body is said in two lines, and its result goes to the queue `done`. Under `serve` a
body that begins with `bad` fails, and goes to `jobs.failed`. All is shared with whoever uses the
database of this folder without asyncio.

Under kill: `write` ends when its bodies are stored, and survive a power cut. `batch` loses nothing;
a batch that was not finished comes again, so at most BATCH messages are worked on twice. `serve`
takes a message out before it works on it: what its workers have in hand is lost (at most once). On
SIGTERM it finishes that; what takes longer than GRACE seconds is put back, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from brokerrun.aio import AsyncBroker, AsyncQueue, async_broker

BATCH = 20
GRACE = 10.0
CONFIG = {"BROKER_SYNC_MODE": "EXTRA"}  # accepted here as everywhere; the default is as durable


class Service:
    """Works on the messages of `jobs`."""

    def __init__(self, broker: AsyncBroker):
        self._broker, self._jobs = broker, AsyncQueue("jobs", broker)

    async def batch(self) -> None:
        """Work on what is ready; a batch is gone when all of it was worked on."""
        async for body in self._jobs.stream(commit_interval=BATCH):
            await self._work(body)

    async def serve(self, workers: int) -> None:
        """Let workers wait for messages until somebody asks to stop, or a worker cannot go on."""
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        watchers = [
            self._jobs.watch(self._handle, error_handler=self._keep) for _ in range(workers)
        ]
        running = [watcher.start() for watcher in watchers]
        asking = asyncio.create_task(asked.wait())
        await asyncio.wait([asking, *running], return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        await asyncio.gather(*(watcher.stop(GRACE) for watcher in watchers))
        for watcher in watchers:
            if watcher.error is not None:
                raise watcher.error

    async def _handle(self, body: str, ident: int) -> None:
        if body.startswith("bad"):
            raise ValueError("not with me")
        await self._work(body)

    async def _keep(self, error: Exception, body: str, ident: int) -> None:
        print("failed", body, error, flush=True)
        await self._broker.push("jobs.failed", body)

    async def _work(self, body: str) -> None:
        print("begun", body, flush=True)
        await asyncio.sleep(0.01)  # a call to somewhere else
        await self._broker.push("done", body.upper())
        print("ended", body, flush=True)


async def write(bodies: Sequence[str]) -> None:
    """Store the bodies: those that wait at the same time share a transaction."""
    async with async_broker(pool_size=2, config=CONFIG) as broker:
        await asyncio.gather(*(broker.push("jobs", body) for body in bodies))


async def main() -> None:
    match sys.argv[1:]:
        case ["write", *bodies] if bodies:
            await write(bodies)
        case ["batch"]:
            async with AsyncBroker(config=CONFIG) as broker:
                await Service(broker).batch()
        case ["serve", workers] if workers.isdecimal():
            async with AsyncBroker(config=CONFIG) as broker:
                await Service(broker).serve(int(workers))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    asyncio.run(main())
