"""Waking a loop of one's own when something happens to one of its queues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event

from brokerrun.closing import Closing
from brokerrun.core.broker import Broker
from brokerrun.core.model import Selection
from brokerrun.core.queue import Queue
from brokerrun.core.recovery import FILE_SECONDS
from brokerrun.core.stopping import GLANCE_SECONDS
from brokerrun.errors import UsageError, wrong_kind


class ActivityWaiter(Closing):
    """Tells that one of several queues may have something new; for one thread.

    Made by `create_activity_waiter_for_queues`; it has a connection of its own.
    """

    def __init__(self, broker: Broker, queues: Sequence[str], stop_event: Event | None):
        self._broker, self._queues, self._stop_event = broker, queues, stop_event
        self._newest = broker.store.newest()
        self._ready = self._which_are_ready()

    def wait(self, timeout: float) -> bool:
        """Sleep until something happens to a queue, at most *timeout* seconds.

        A hint, not a promise: somebody else may have the message by now.

        Returns:
            True if a message came to a queue, or became ready there, since this answered True
            last, or since the waiter was made; False when the time is over, or the event set.

        Raises:
            StoreGone: The database was deleted or replaced.
        """
        deadline = time.monotonic() + timeout
        while not self._stopped():
            longest = FILE_SECONDS if self._stop_event is None else GLANCE_SECONDS
            left = deadline - time.monotonic()
            if self._broker.store.wait_until(self._has_news, min(max(left, 0.0), longest)):
                return not self._stopped()
            if left <= longest:
                return False
        return False

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()

    def _stopped(self) -> bool:
        return self._stop_event is not None and self._stop_event.is_set()

    def _has_news(self) -> bool:
        before, store = self._ready, self._broker.store
        self._ready = self._which_are_ready()
        since = Selection(after=self._newest)
        # Before the look: what comes between is seen twice, not never.
        self._newest = store.newest()
        return bool(self._ready - before) or any(store.look(each, since) for each in self._queues)

    def _which_are_ready(self) -> set[str]:
        return {queue for queue in self._queues if self._broker.store.ready(queue)}


def create_activity_waiter_for_queues(
    queues: Sequence[Queue], *, stop_event: Event | None = None
) -> ActivityWaiter | None:
    """Make one waiter for several queues of a store.

    None where their store cannot tell of changes: keep looking then. No store of ours is such. A
    set *stop_event* ends a wait within 0.1 s.

    Raises:
        ArgumentError: Something else than a Queue was given.
        UsageError: There is no queue, or they are in more than one store.
    """
    if not (stop_event is None or hasattr(stop_event, "is_set")):
        raise wrong_kind("stop_event", "a threading.Event", stop_event)
    for queue in queues:
        if not isinstance(queue, Queue):
            raise wrong_kind("queues", "Queue objects", queue)
    targets = [queue.broker.target for queue in queues]
    if not targets or targets != targets[:1] * len(targets):
        found = ", ".join(map(str, targets)) or "none"
        raise UsageError(f"expected queues of one database, got {found}")
    shared = queues[0].broker
    broker = Broker(shared.target, settings=shared.settings)
    try:
        names = [broker.resolve(queue.name) for queue in queues]
        return ActivityWaiter(broker, names, stop_event)
    except BaseException:
        broker.close()
        raise
