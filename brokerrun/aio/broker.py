"""AsyncBroker: all queues of one store, for the tasks of one event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from brokerrun.aio.queue import AsyncQueue
from brokerrun.aio.session import Session
from brokerrun.core.broker import Broker
from brokerrun.core.handle import Handle
from brokerrun.core.settings import settings_for
from brokerrun.core.target import locate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Unpack

    from brokerrun.aio.watcher import AsyncWatcher, ErrorHandler, Handler
    from brokerrun.core.meaning import Meant, Moved
    from brokerrun.core.target import BrokerTarget


class AsyncBroker:
    """All queues of one store: `push` and `pop` by name, the rest through `queue`.

    Best inside `async with`. Nothing is opened before the first use; the threads share one
    connection, which opens again by itself after a fork. A closed broker stays closed.

    Args:
        path: A database file or a BrokerTarget; by default what `broker` uses in this directory.
        pool_size: The most threads that work at once. One more listens while a task waits.
        config: BROKER_* keys that go before the environment, for this broker alone.

    Raises:
        ArgumentError, UsageError: The path, the size or a setting cannot be meant.
    """

    def __init__(
        self,
        path: str | PathLike[str] | BrokerTarget | None = None,
        pool_size: int = 10,
        config: Mapping[str, object] | None = None,
    ):
        settings = settings_for(config)
        broker = Broker(locate(path, settings), settings=settings)
        self.session = Session(broker, pool_size)
        self._handle = Handle(broker)

    def queue(self, name: str) -> AsyncQueue:
        """Give one queue, with all its verbs."""
        return AsyncQueue(name, self)

    async def write(self, queue: str, message: str) -> int:
        """Store a message and return its id, as `AsyncQueue.write` does."""
        return await self.queue(queue).write(message)

    async def read(self, queue: str) -> str | None:
        """Remove the oldest message and return it; None where nothing is ready. Never waits.

        Cancelled, it ends when the message is back in its place.
        """
        return await self.queue(queue).read()

    push, pop = write, read

    async def peek(self, queue: str) -> str | None:
        """Return the oldest message and leave it; None where there is none."""
        return await self.queue(queue).peek()

    def stream_read(self, queue: str, *, commit_interval: int = 1) -> AsyncGenerator[str, None]:
        """Remove messages until nothing is ready, as `AsyncQueue.stream` does."""
        return self.queue(queue).stream(commit_interval=commit_interval)

    async def move(self, queue: str, destination: str, **which: Unpack[Meant]) -> Moved | None:
        """Move a message to another queue, as `AsyncQueue.move` does."""
        return await self.queue(queue).move(destination, **which)

    def watch(
        self, queue: str, handler: Handler, *, error_handler: ErrorHandler | None = None
    ) -> AsyncWatcher:
        """Give a watcher of a queue, to be started: see `AsyncWatcher`."""
        return self.queue(queue).watch(handler, error_handler=error_handler)

    async def list_queues(self) -> list[tuple[str, int]]:
        """Name each queue with messages that were not read yet, and how many."""
        return await self.session.pool.run(self._handle.list_queues)

    async def broadcast(self, message: str, *, pattern: str | None = None) -> int:
        """Store a message in each queue there is, or that *pattern* matches; return how many."""
        store = self._handle.broadcast
        return await self.session.pool.run(lambda: store(message, pattern=pattern))

    async def vacuum(self, *, compact: bool = False) -> int:
        """Drop the messages that were read; return how many. *compact* shrinks the file too."""
        drop = self._handle.vacuum
        return await self.session.pool.run(lambda: drop(compact=compact))

    async def close(self) -> None:
        """End watchers and those who wait, finish what is in hand, and end the threads.

        Bounded: what no thread has begun after 10 seconds is refused. Later calls are refused; an
        iteration over a queue just ends. What a stream holds is ready again.
        """
        await self.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async_broker: Final = AsyncBroker  # the other name that the documents have for it
