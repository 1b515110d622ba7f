"""Following a queue: what is there, and then what comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from brokerrun.core.batches import browse, moving, reading
from brokerrun.core.broker import Broker
from brokerrun.core.model import Message, Selection
from brokerrun.core.recovery import LOOK_SECONDS


class Follower:
    """Takes the messages of a queue one after the other, for ever.

    Without *peek* and *target* it removes them: at most once. With *target* each is moved there
    before it is given. With *peek* each is shown once, in the order of ids, and left.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        *,
        peek: bool = False,
        target: str | None = None,
        after: int | None = None,
    ):
        self._broker, self._queue = broker, broker.resolve(queue)
        self._target = None if target is None else broker.two(queue, target)[1]
        self._selection, self._peek = Selection(after=after), peek
        self._pages: Iterator[list[Message]] = iter(())
        self._more, self._taken_at = True, time.monotonic()

    def wait(self, timeout: float, fds: Sequence[int] = ()) -> bool:
        """Sleep until there may be something, one of *fds* wakes, or *timeout* seconds passed.

        Returns:
            Whether to take: there may be something, or it is time to look for what the dead held.
        """
        if self._more:
            return True
        store = self._broker.store
        probe = store.look if self._peek else store.ready
        if store.wait_until(lambda: bool(probe(self._queue, self._selection)), timeout, fds):
            return True
        return time.monotonic() - self._taken_at > LOOK_SECONDS

    @contextmanager
    def take(self) -> Iterator[list[Message]]:
        """Take what is next; the list may be empty.

        What was taken goes back if the block is left by an exception.
        """
        with self._taking() as taken:
            yield taken
        self._more, self._taken_at = bool(taken), time.monotonic()

    def _taking(self) -> AbstractContextManager[list[Message]]:
        if self._peek:
            return nullcontext(next(self._pages, []) or self._look_again())
        if self._target is None:
            return reading(self._broker, self._queue, self._selection)
        return moving(self._broker, self._queue, self._target, self._selection)

    def _look_again(self) -> list[Message]:
        newest = self._broker.store.look(self._queue, Selection(newest=True))
        if not newest or newest[0].id <= (self._selection.after or 0):
            return []
        # Up to the newest one: what comes meanwhile may go before what was shown already.
        bounds = self._selection._replace(limit=None, before=newest[0].id + 1)
        self._pages = browse(self._broker, self._queue, bounds)
        self._selection = self._selection._replace(after=newest[0].id)
        return next(self._pages, [])
