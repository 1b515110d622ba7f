"""Whose turn it is: the queues of a watcher, in fair rounds or by rank."""

from __future__ import annotations

from collections.abc import Callable

from brokerrun.core.model import Message
from brokerrun.core.sources import Source
from brokerrun.errors import UsageError

Handler = Callable[[str, int], object]
ErrorHandler = Callable[[Exception, str, int], "bool | None"]


class Watched:
    """One queue of a watcher: where its messages come from, who handles them, and how it went."""

    def __init__(self, source: Source, handler: Handler, error_handler: ErrorHandler | None):
        self.source, self.handler, self.error_handler = source, handler, error_handler
        self.given = self.handled = self.failed = 0
        self.turn = 0  # the number of its last turn


class Rounds:
    """Gives the messages of several queues one at a time.

    The queue whose last turn is longest ago goes first: a message waits for at most one of every
    other queue. *ranked*: always the first queue that has something, as they were added.

    `next` and `ready` belong to the loop's thread; queues come and go from any.
    """

    def __init__(self, *, ranked: bool = False):
        self._ranked, self._turns = ranked, 0
        # Every use is one call of a dict, so no lock is needed, which a fork could leave locked.
        self._watched: dict[str, Watched] = {}

    def add(self, queue: str, watched: Watched) -> None:
        """Let a queue take part, behind the others.

        Raises:
            UsageError: It does already.
        """
        if self._watched.setdefault(queue, watched) is not watched:
            raise UsageError(f"queue {queue!r} is watched already: remove it first")

    def remove(self, queue: str) -> bool:
        """Let a queue take part no longer; tell whether it did. A message in hand is finished."""
        return self._watched.pop(queue, None) is not None

    def watched(self) -> dict[str, Watched]:
        """List the queues, as they were added."""
        return self._watched.copy()

    def next(self) -> tuple[str, Watched, Message] | None:
        """Give the next message, with its queue; None where no queue has one."""
        queues = list(self._watched.copy().items())
        if not self._ranked:
            queues.sort(key=lambda each: each[1].turn)
        for queue, watched in queues:
            message = watched.source.next()
            if message is not None:
                self._turns += 1
                watched.turn = self._turns
                watched.given += 1
                return queue, watched, message
        return None

    def ready(self) -> bool:
        """Tell whether `next` may find something."""
        return any(watched.source.ready() for watched in self._watched.copy().values())
