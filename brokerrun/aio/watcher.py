"""AsyncWatcher: a task in the background that gives the messages of a queue to a handler."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from brokerrun.aio.session import Session
from brokerrun.core.model import Message
from brokerrun.errors import StoreBusy, StoreFull, UsageError

Handler = Callable[[str, int], object]
ErrorHandler = Callable[[Exception, str, int], object]
log: Final = logging.getLogger("brokerrun")
_PATIENCE: Final = 1.0  # seconds between tries while the store is busy or full


class AsyncWatcher:
    """Removes the messages of a queue and handles them, one at a time; made by `watch`.

        async with broker.watch("mail", handler):
            ...

    The handler gets the message and its id. What it gives to await is awaited; a coroutine function
    runs in the event loop, any other in a thread of the pool, and may block that.

    What it raises goes to the error handler, with the message and the id. That answers False to
    end the watcher, anything else to go on. Where there is none, or where it raises itself, the
    error is logged with its traceback (`brokerrun`, ERROR), and the watcher goes on.

    A store that is busy or full is tried again each second. Any other error of the store ends the
    watcher: it is logged, and stands in `error`.
    """

    def __init__(
        self, session: Session, queue: str, handler: Handler, error_handler: ErrorHandler | None
    ):
        self._session, self._queue = session, queue
        self._handler, self._error_handler = handler, error_handler
        self._task: asyncio.Task[None] | None = None
        self._stopping = self._handling = False
        self.error: Exception | None = None

    def start(self) -> asyncio.Task[None]:
        """Watch in a task of the running loop, and return it.

        Raises:
            UsageError: The watcher runs or has run, or the broker is closed.
        """
        if self._task is not None:
            raise UsageError("this watcher runs or has run already: make a new one")
        self._session.pool.check()
        self._task = asyncio.create_task(self._run(), name=f"watch {self._queue}")
        self._session.watchers.add(self)
        self._task.add_done_callback(lambda _: self._session.watchers.discard(self))
        return self._task

    async def stop(self, timeout: float = 2.0) -> None:
        """End the watcher: it finishes the message in hand and takes no other.

        A coroutine that takes longer than *timeout* seconds is cancelled, and its message put back;
        a thread cannot be, and is left to end by itself. From within the handler this only asks.
        """
        self._stopping, task = True, self._task
        if task is None or task is asyncio.current_task():
            return
        if not self._handling:
            task.cancel()
        await asyncio.wait([task], timeout=timeout)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=timeout)

    def is_running(self) -> bool:
        """Tell whether the watcher was started and has not ended."""
        return self._task is not None and not self._task.done()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # -------------------------------------------------------------------------------- its task

    async def _run(self) -> None:
        try:
            while not self._stopping and not self._session.pool.closed:
                try:
                    await self._follow()
                except (StoreBusy, StoreFull) as error:
                    log.warning("a watcher of %s waits: %s", self._queue, error)
                    await asyncio.sleep(_PATIENCE)
        except Exception as error:
            self.error = error
            log.error("a watcher of %s ended", self._queue, exc_info=True)

    async def _follow(self) -> None:
        async for message in self._session.follow(self._queue):
            self._handling = True
            try:
                await self._handle(message)
            finally:
                self._handling = False
            if self._stopping:
                return

    async def _handle(self, message: Message) -> None:
        try:
            await self._call(message)
        except Exception as error:
            await self._failed(message, error)

    async def _call(self, message: Message) -> None:
        begun = False
        result: object

        def handle() -> object:
            nonlocal begun
            begun = True
            return self._handler(message.body, message.id)

        try:
            if inspect.iscoroutinefunction(self._handler):
                result = self._handler(message.body, message.id)
            else:
                result = await self._session.pool.run(handle)
            if inspect.isawaitable(result):
                begun = False
                await result
        except asyncio.CancelledError:
            if not begun:
                await self._session.give_back(message)
            raise

    async def _failed(self, message: Message, error: Exception) -> None:
        """Ask the error handler. While *error* is handled: its traceback is that of both."""
        if self._error_handler is None:
            text = "message %d of %s: the handler failed"
            log.error(text, message.id, self._queue, exc_info=error)
            return
        try:
            answer = self._error_handler(error, message.body, message.id)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception:
            text = "message %d of %s: the handler failed, and its error handler"
            log.error(text, message.id, self._queue, exc_info=True)
        else:
            self._stopping = self._stopping or answer is False
