"""What an AsyncBroker and its queues share, and the order in which it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from brokerrun.aio.batches import Batch
from brokerrun.aio.pool import Pool, logged
from brokerrun.aio.waiting import Waits
from brokerrun.aio.writes import Writes
from brokerrun.core.batches import put_back
from brokerrun.core.broker import Broker
from brokerrun.core.model import Message, Selection

_JOIN_SECONDS = 10.0


class Ending(Protocol):
    """What is asked to end before the session refuses calls."""

    async def stop(self) -> None:
        """End within a bounded time."""
        ...


class Session:
    """One store, its threads, and what tasks hold of it."""

    def __init__(self, broker: Broker, pool_size: int):
        self.broker, self.pool = broker, Pool(pool_size)
        self.writes = Writes(broker, self.pool)
        self.watchers: set[Ending] = set()
        self._waits = Waits(Broker(broker.target, settings=broker.settings))
        self._held: set[Batch] = set()
        self._closing: asyncio.Task[None] | None = None

    async def take(self, queue: str, selection: Selection) -> list[Message]:
        """Read messages; a task that is cancelled has them put back."""
        return await self.pool.run(
            lambda: self.broker.read(queue, selection), lambda taken: put_back(self.broker, taken)
        )

    async def give_back(self, message: Message) -> None:
        """Put back what was read, also while the task is cancelled."""
        await self.pool.finish(lambda: put_back(self.broker, [message]))

    async def singly(self, queue: str, selection: Selection) -> AsyncGenerator[Message, None]:
        """Read what is ready one message a transaction: at most once."""
        while taken := await self.take(queue, selection._replace(limit=1)):
            yield taken[0]

    async def in_batches(self, queue: str, selection: Selection) -> AsyncGenerator[Message, None]:
        """Read what is ready in batches of `selection.limit`: at least once.

        A batch is committed when the message behind it is asked for, and goes back whole where the
        caller stops within it, is killed, or the session is closed.
        """
        while True:
            batch = await self.pool.run(
                lambda: Batch(self.broker, queue, selection), lambda batch: batch.give_back()
            )
            self._held.add(batch)
            try:
                for message in batch.messages:
                    yield message
                await self.pool.run(batch.commit)
            finally:
                self._held.discard(batch)
                if not batch.ended:
                    await self.pool.finish(batch.give_back)
            if not batch.messages:
                return

    async def follow(self, queue: str) -> AsyncGenerator[Message, None]:
        """Read what is there, then what comes, until the session is closed: at most once."""
        name = await self.pool.run(lambda: self.broker.resolve(queue))
        while not self.pool.closed:
            taken = await self.take(name, Selection())
            if taken:
                yield taken[0]
            else:
                await self._waits.wait(name)

    async def close(self) -> None:
        """End everything: watchers, those who wait, what is in hand, batches, threads; once."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.gather(*(watcher.stop() for watcher in self.watchers))
        self.pool.closed = True
        self._waits.end()
        await self.pool.close(last=self._let_go)

    def _let_go(self) -> None:
        for batch in self._held.copy():
            logged(batch.give_back)
        self._waits.join(_JOIN_SECONDS)
        self.broker.close()
