"""Where the messages of a watcher come from: taken out of a queue, or shown and left in it."""

from __future__ import annotations

import heapq
import time
from typing import Final, Protocol

from brokerrun.core.model import Message, Selection
from brokerrun.core.recovery import LOOK_SECONDS
from brokerrun.core.retry import Backoff
from brokerrun.core.store import Store

# Without jitter: after half a second, then doubling to a minute.
_AGAIN: Final = Backoff(least=0.25, most=60.0)


class Source(Protocol):
    """Gives the messages of one queue, one at a time, to one thread."""

    def ready(self) -> bool:
        """Tell whether `next` may find something."""
        ...

    def next(self) -> Message | None:
        """Give the next message; None where there is none now."""
        ...

    def failed(self, message: Message) -> None:
        """Hear that the message given last was not handled."""
        ...


class Taking:
    """Removes each message before it gives it, or moves it to *target*: at most once."""

    def __init__(
        self, store: Store, queue: str, *, after: int | None = None, target: str | None = None
    ):
        self._store, self._queue, self._target = store, queue, target
        self._selection = Selection(after=after)
        self._more = False  # where there may be nothing, a look goes before a write in vain

    def ready(self) -> bool:
        return self._store.ready(self._queue, self._selection)

    def next(self) -> Message | None:
        if not self._more and not self.ready():
            return None
        if self._target is None:
            taken = self._store.take(self._queue, self._selection)
        else:
            taken = self._store.move(self._queue, self._target, self._selection)
        self._more = bool(taken)
        return taken[0] if taken else None

    def failed(self, message: Message) -> None:
        """It is gone, or in the target."""


class Showing:
    """Gives each message once, by priority and id, and leaves it; one that failed comes again.

    Again after half a second and then in doubling steps up to a minute, as long as the message is
    in the queue, in turns with those that are new. Delayed and running messages are shown too. One
    that comes to the queue with a smaller id than others that were shown (moved there, or loaded)
    is not.
    """

    def __init__(self, store: Store, queue: str, *, after: int | None = None):
        self._store, self._queue = store, queue
        self._after = -1 if after is None else after  # up to there all was shown, or is in hand
        self._left: Selection | None = None  # what is in hand and not shown yet
        self._failed: list[tuple[float, int, int]] = []  # when again, id, how often it failed
        self._failures = 0  # of the message given last
        self._checked_at = time.monotonic()

    def ready(self) -> bool:
        since = Selection(after=self._after)
        return self._due() or bool(self._store.look(self._queue, since))

    def next(self) -> Message | None:
        self._check_file()
        turns = (self._new, self._again) if self._failures else (self._again, self._new)
        for turn in turns:
            message = turn()
            if message is not None:
                return message
        return None

    def failed(self, message: Message) -> None:
        failures = self._failures + 1
        at = time.monotonic() + _AGAIN.delay(failures, 1.0)
        heapq.heappush(self._failed, (at, message.id, failures))

    def _due(self) -> bool:
        """Tell whether one that failed is to come again."""
        return bool(self._failed) and self._failed[0][0] <= time.monotonic()

    def _again(self) -> Message | None:
        while self._due():
            _, ident, failures = heapq.heappop(self._failed)
            found = self._store.look(self._queue, Selection(id=ident))
            if found:
                self._failures = failures
                return found[0]
        return None

    def _new(self) -> Message | None:
        left = self._left or self._begin()
        while left is not None:
            found = self._store.look(self._queue, left)
            if found:
                self._left = left._replace(beyond=(found[0].priority, found[0].id))
                self._failures = 0
                return found[0]
            self._left = None
            left = self._begin()
        return None

    def _begin(self) -> Selection | None:
        """Take in hand what came since."""
        newest = self._store.look(self._queue, Selection(newest=True))
        if not newest or newest[0].id <= self._after:
            return None
        # Up to the newest one: what comes meanwhile may go before what was shown already.
        left = Selection(after=self._after, before=newest[0].id + 1)
        self._after = newest[0].id
        return left

    def _check_file(self) -> None:
        """Notice a deleted database while there is always more to show: a look does not."""
        if time.monotonic() - self._checked_at > LOOK_SECONDS:
            self._store.wait_until(lambda: False, 0.001)  # a wait does
            self._checked_at = time.monotonic()
