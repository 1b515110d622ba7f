"""AsyncQueue: one queue of an AsyncBroker, for tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, overload

from brokerrun.aio.session import Session
from brokerrun.aio.watcher import AsyncWatcher
from brokerrun.core.broker import check_queue
from brokerrun.core.forms import shaped
from brokerrun.core.meaning import is_number, selected
from brokerrun.core.model import Draft, Message, QueueStats
from brokerrun.core.queue import Queue
from brokerrun.errors import UsageError, wrong_kind

if TYPE_CHECKING:
    from typing import Unpack

    from brokerrun.aio.broker import AsyncBroker
    from brokerrun.aio.watcher import ErrorHandler, Handler
    from brokerrun.core.meaning import Id, Meant, Moved, No, Pair, Span, Yes


class AsyncQueue:
    """One queue, by name or as `@alias`, with the guarantees and arguments of `brokerrun.Queue`.

        async with AsyncBroker("my.db") as broker:
            queue = AsyncQueue("tasks", broker)
            await queue.write("one")
            async for message in queue:  # for ever: until the broker is closed
                ...

    Iterating removes each message before it gives it, as `read` does.

    Raises:
        QueueNameError: The name is outside the grammar.
        ArgumentError: *broker* is no AsyncBroker.
    """

    def __init__(self, name: str, broker: AsyncBroker):
        session = getattr(broker, "session", None)
        if not isinstance(session, Session):
            raise wrong_kind("broker", "an AsyncBroker", broker)
        self.name, self.broker, self._session = check_queue(name), broker, session
        self._queue = Queue.of(session.broker, name)

    async def write(self, message: str, *, delay: float = 0.0, priority: int = 0) -> int:
        """Store a message and return its id. It survives a power cut when this returns.

        Writes that wait at the same time share a transaction. Cancelled, it is stored or it is not.

        *delay* is in seconds; a smaller *priority* goes first.

        Raises:
            MessageError: It is no text, or larger than BROKER_MAX_MESSAGE_SIZE. Other writes go on.
        """
        return (await self.write_many([message], delay=delay, priority=priority))[0]

    async def write_many(
        self, messages: Iterable[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages in one transaction, all or none, and return their ids in order."""
        if isinstance(messages, str):
            raise wrong_kind("messages", "several texts", messages)
        drafts = [Draft(message, delay, priority) for message in messages]
        return list(await self._session.writes.write(self.name, drafts))

    @overload
    async def read(self, *, with_timestamps: No = False, **which: Unpack[Meant]) -> str | None: ...
    @overload
    async def read(self, *, with_timestamps: Yes, **which: Unpack[Meant]) -> Pair | None: ...
    @overload
    async def read(self, *, with_timestamps: bool, **which: Unpack[Meant]) -> str | Pair | None: ...
    async def read(
        self,
        *,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        message_id: Id | None = None,
    ) -> Any:
        """Remove the oldest message and return it; None where nothing is ready. Never waits.

        Cancelled, it ends when the message is back in its place.
        """
        selection = selected(after_timestamp, before_timestamp, message_id)
        return next(shaped(await self._session.take(self.name, selection), with_timestamps), None)

    @overload
    async def peek(self, *, with_timestamps: No = False, **which: Unpack[Meant]) -> str | None: ...
    @overload
    async def peek(self, *, with_timestamps: Yes, **which: Unpack[Meant]) -> Pair | None: ...
    @overload
    async def peek(self, *, with_timestamps: bool, **which: Unpack[Meant]) -> str | Pair | None: ...
    async def peek(
        self,
        *,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
        message_id: Id | None = None,
    ) -> Any:
        """Return the oldest message and leave it; None where there is none."""
        selection = selected(after_timestamp, before_timestamp, message_id)
        look = self._session.broker.peek
        found = await self._session.pool.run(lambda: look(self.name, selection))
        return next(shaped(found, with_timestamps), None)

    @overload
    def stream(
        self, *, commit_interval: int = 1, with_timestamps: No = False, **which: Unpack[Span]
    ) -> AsyncGenerator[str, None]: ...
    @overload
    def stream(
        self, *, commit_interval: int = 1, with_timestamps: Yes, **which: Unpack[Span]
    ) -> AsyncGenerator[Pair, None]: ...
    @overload
    def stream(
        self, *, commit_interval: int = 1, with_timestamps: bool, **which: Unpack[Span]
    ) -> AsyncGenerator[str | Pair, None]: ...
    def stream(
        self,
        *,
        commit_interval: int = 1,
        with_timestamps: bool = False,
        after_timestamp: Id | None = None,
        before_timestamp: Id | None = None,
    ) -> Any:
        """Remove messages one after the other until nothing is ready.

        With 1 each is gone before it is given: at most once. With more, batches of that size are
        held by this process: a batch is gone when the message behind it is asked for, and all of it
        is ready again where the loop is left, cancelled or killed before: at least once. Messages
        that were attempted before come in batches of their own.

        Args:
            commit_interval: How many messages a transaction.

        Raises:
            UsageError: The broker was closed within the loop.
        """
        if not is_number(commit_interval):
            raise wrong_kind("commit_interval", "a number of messages", commit_interval)
        if commit_interval < 1:
            raise UsageError(f"commit_interval: expected at least 1, got {commit_interval}")
        selection = selected(after_timestamp, before_timestamp, limit=commit_interval)
        taken = self._session.singly if commit_interval == 1 else self._session.in_batches
        return _shaped(taken(self.name, selection), with_timestamps)

    def __aiter__(self) -> AsyncGenerator[str, None]:
        return _shaped(self._session.follow(self.name), False)

    async def move(self, destination: str | AsyncQueue, **which: Unpack[Meant]) -> Moved | None:
        """Move the oldest ready message, or the one meant; return its `message` and `timestamp`.

        None where nothing is ready. By id it brings back one that was read, too. Cancelled, the
        message is moved or it is not.
        """
        to = destination._queue if isinstance(destination, AsyncQueue) else destination
        return await self._session.pool.run(lambda: self._queue.move(to, **which))

    async def delete(self, *, message_id: Id | None = None) -> bool:
        """Delete one message, or all of the queue, in whichever state; tell whether any was there.

        This is how one that peeked acknowledges.
        """
        return await self._session.pool.run(lambda: self._queue.delete(message_id=message_id))

    async def exists(self) -> bool:
        """Tell whether the queue holds a message, one that was read and not yet vacuumed too."""
        return await self._session.pool.run(self._queue.exists)

    async def stats(self) -> QueueStats:
        """Count the queue."""
        return await self._session.pool.run(self._queue.stats)

    def watch(self, handler: Handler, *, error_handler: ErrorHandler | None = None) -> AsyncWatcher:
        """Give a watcher of the queue, to be started: see `AsyncWatcher`."""
        return AsyncWatcher(self._session, self.name, handler, error_handler)

    def __repr__(self) -> str:
        return f"AsyncQueue({self.name!r}, {self._session.broker.target!r})"


async def _shaped(
    messages: AsyncGenerator[Message, None], with_id: bool
) -> AsyncGenerator[Any, None]:
    """Give each message as the caller wants it; end with the caller what gives them."""
    async with aclosing(messages):
        async for message in messages:
            yield (message.body, message.id) if with_id else message.body
