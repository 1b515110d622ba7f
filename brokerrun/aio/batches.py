"""What a task holds, or was about to get, and how it goes back."""

from __future__ import annotations

import threading

from brokerrun.core.batches import holding
from brokerrun.core.broker import Broker
from brokerrun.core.model import Message, Selection


class Batch:
    """Messages held by this process, until the batch is ended: at least once.

    Made and ended in whichever thread; what ends it first counts.
    """

    def __init__(self, broker: Broker, queue: str, selection: Selection):
        self._holding = holding(broker, queue, selection)
        self._mine = threading.Lock()
        self.messages: list[Message] = self._holding.__enter__()

    @property
    def ended(self) -> bool:
        """Whether the batch was committed or given back, or is being."""
        return self._mine.locked()

    def commit(self) -> None:
        """Read the messages: they are gone."""
        if self._mine.acquire(blocking=False):
            self._holding.__exit__(None, None, None)

    def give_back(self) -> None:
        """Make all of them ready again, their attempts uncounted."""
        if self._mine.acquire(blocking=False):
            self._holding.__exit__(_GivenBack, _GivenBack(), None)


class _GivenBack(Exception):
    pass
