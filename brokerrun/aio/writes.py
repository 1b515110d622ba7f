"""Writes that wait at the same time, stored in one transaction a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from brokerrun.aio.pool import Pool
from brokerrun.core.broker import Broker, check_draft, check_queue
from brokerrun.core.model import Draft

# One transaction keeps other writers waiting, and is in memory twice.
_MOST_MESSAGES: Final = 1000
_MOST_CHARACTERS: Final = 4 * 1024 * 1024


class _Write(NamedTuple):
    drafts: Sequence[Draft]
    stored: asyncio.Future[Sequence[int]]


class Writes:
    """Stores for tasks: one transaction at a time, with all that came during the one before."""

    def __init__(self, broker: Broker, pool: Pool):
        self._broker, self._pool = broker, pool
        self._waiting: dict[str, list[_Write]] = {}
        self._storing = False

    async def write(self, queue: str, drafts: Sequence[Draft]) -> Sequence[int]:
        """Store messages, all or none, and return their ids in order.

        They survive a power cut when this returns. Cancelled, they are all stored or none is.

        Raises:
            QueueNameError, MessageError: This write is refused, the others go on.
        """
        self._pool.check()
        check_queue(queue)
        for draft in drafts:
            check_draft(draft, self._broker.settings.max_message_size)
        loop = asyncio.get_running_loop()
        write = _Write(drafts, loop.create_future())
        self._waiting.setdefault(queue, []).append(write)
        if not self._storing:
            self._storing = True
            self._pool.begin_call()
            loop.call_soon(self._store)  # in its next turn: what comes in this one goes together
        return await write.stored

    # No task: a loop that ends cancels all of those, and what they write then is to be stored too.

    def _store(self) -> None:
        if not self._waiting:
            self._storing = False
            self._pool.end_call()
            return
        queue, writes = self._next()
        drafts = [draft for write in writes for draft in write.drafts]
        done = self._pool.begin(lambda: self._broker.write_drafts(queue, drafts))
        done.add_done_callback(lambda done: self._stored(writes, done))

    def _stored(self, writes: list[_Write], done: asyncio.Future[list[int]]) -> None:
        error, begin = done.exception(), 0
        for write in writes:
            end = begin + len(write.drafts)
            if write.stored.done():
                pass  # its task was cancelled meanwhile
            elif error is None:
                write.stored.set_result(done.result()[begin:end])
            else:
                write.stored.set_exception(error)
            begin = end
        self._store()

    def _next(self) -> tuple[str, list[_Write]]:
        """Take the writes of the queue that waits longest, as many as go together."""
        queue = next(iter(self._waiting))
        writes = self._waiting.pop(queue)
        messages = characters = count = 0
        while count < len(writes) and messages < _MOST_MESSAGES and characters < _MOST_CHARACTERS:
            messages += len(writes[count].drafts)
            characters += sum(len(draft.body) for draft in writes[count].drafts)
            count += 1
        if writes[count:]:
            self._waiting[queue] = writes[count:]  # behind the other queues
        return queue, [write for write in writes[:count] if not write.stored.done()]
