"""The threads that work for tasks, and what becomes of the work when a task is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from brokerrun.core.meaning import is_number
from brokerrun.errors import UsageError, wrong_kind

Result = TypeVar("Result")
GRACE_SECONDS: Final = 10.0  # twice the busy timeout: what waits for a lock may still get it
log: Final = logging.getLogger("brokerrun")


class Pool:
    """Up to *size* threads, for the tasks of one event loop: the first that uses it.

    A thread is started when the others are busy.

    Raises:
        ArgumentError, UsageError: *size* is no number above 0.
    """

    def __init__(self, size: int):
        if not is_number(size):
            raise wrong_kind("pool_size", "a number of threads", size)
        if size < 1:
            raise UsageError(f"pool_size: expected at least 1, got {size}")
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="brokerrun-aio")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls, self._idle = 0, asyncio.Event()
        self._idle.set()
        self.closed = self._over = False

    async def run(
        self, work: Callable[[], Result], undo: Callable[[Result], object] | None = None
    ) -> Result:
        """Do *work* in a thread and wait for it; `close` waits for this call.

        Cancelled before a thread has begun it, it is not done. Cancelled later, it is done, and
        its result given to *undo*, before CancelledError is raised: a thread cannot be interrupted.

        Raises:
            UsageError: The pool is closed, or belongs to another event loop.
        """
        self.check()
        with self.in_hand():
            done = self._submit(work)
            try:
                return await asyncio.wrap_future(done)
            except (asyncio.CancelledError, GeneratorExit) as stopped:
                if not done.cancel():
                    end = done if undo is None else self._threads.submit(_undo, done, undo)
                    if isinstance(stopped, asyncio.CancelledError):  # else nobody may wait any more
                        await _through(end)
                raise

    def check(self) -> None:
        """Raise where a call is refused.

        Raises:
            UsageError: The pool is closed, or belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self.closed:
            raise _closed()
        if self._loop is not loop:
            if self._loop is not None:
                raise UsageError("this AsyncBroker belongs to another event loop: make one there")
            self._loop = loop

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Let `close` wait for the block."""
        self.begin_call()
        try:
            yield
        finally:
            self.end_call()

    def begin_call(self) -> None:
        """Let `close` wait until `end_call`."""
        self._calls += 1
        self._idle.clear()

    def end_call(self) -> None:
        """Say that a call has ended."""
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    def begin(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Let a thread do *work* for a call that was let in before."""
        return asyncio.wrap_future(self._submit(work))

    async def finish(self, work: Callable[[], object]) -> None:
        """Do *work* to its end although the task is cancelled; what it raises is logged."""
        with self.in_hand():
            await _through(self._threads.submit(logged, work))

    async def close(self, last: Callable[[], object]) -> None:
        """Refuse further calls, wait for those in hand, do *last* in a thread, and end the threads.

        After GRACE_SECONDS calls that no thread has begun are refused too. What threads do then,
        and *last*, are waited for as long again: only code of the user's takes longer.
        """
        self.closed = True
        try:
            await self._until_idle()
            self._over = True
            await self._until_idle()
            end = self._threads.submit(last)
            await asyncio.wait([asyncio.wrap_future(end)], timeout=GRACE_SECONDS)
            if end.done() and not self._calls:
                self._threads.shutdown()  # all are idle: no wait to speak of
        finally:
            self._threads.shutdown(wait=False)

    async def _until_idle(self) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), GRACE_SECONDS)

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        if not self._over:
            return self._threads.submit(self._unless_over, work)
        refused: Future[Result] = Future()  # the threads may have ended
        refused.set_exception(_closed())
        return refused

    def _unless_over(self, work: Callable[[], Result]) -> Result:
        if self._over:
            raise _closed()
        return work()


def logged(work: Callable[[], object]) -> None:
    """Give something back; log where that fails."""
    try:
        work()
    except Exception:
        log.error("what a task held could not be given back", exc_info=True)


def _closed() -> UsageError:
    return UsageError("this AsyncBroker is closed: make a new one")


def _undo(done: Future[Result], undo: Callable[[Result], object]) -> None:
    if done.exception() is None:
        logged(lambda: undo(done.result()))


async def _through(future: Future[Any]) -> None:
    """Wait for a thread to the end, whatever is cancelled meanwhile: stores bound their waits."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([asyncio.wrap_future(future)])
