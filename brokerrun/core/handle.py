"""A handle on a whole store for those who embed it: what goes across queues."""

from __future__ import annotations

from brokerrun.closing import Closing
from brokerrun.core.broker import Broker
from brokerrun.core.meaning import read_id
from brokerrun.core.model import QueueStats
from brokerrun.core.queue import Queue
from brokerrun.core.settings import settings_for
from brokerrun.core.target import locate
from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from brokerrun.core.meaning import Id
    from brokerrun.core.target import BrokerTarget


class Handle(Closing):
    """All queues of one store, on one connection; made by `open_broker`.

    Usable from several threads and in a forked child, as `Queue` is.
    """

    def __init__(self, broker: Broker):
        self._broker = broker

    def queue(self, name: str) -> Queue:
        """Give one queue of the store, on the connection of this handle."""
        return Queue.of(self._broker, name)

    def write(self, queue: str, message: str) -> int:
        """Store a message and return its id."""
        return self._broker.write(queue, message)

    def delete(self, queue: str | None = None, *, message_id: Id | None = None) -> int:
        """Delete one message, those of a queue, or (neither given) all; return how many."""
        return self._broker.delete(queue, None if message_id is None else read_id(message_id))

    def broadcast(self, message: str, *, pattern: str | None = None) -> int:
        """Store a message in each queue there is, or that *pattern* matches; return how many.

        The pattern is one of file names, as a shell has it.
        """
        return len(self._broker.broadcast(message, pattern))

    def get_queue_stat(self, queue: str) -> QueueStats:
        """Count one queue; zeros where it holds nothing."""
        return self._broker.stats(queue)

    def list_queue_stats(
        self, *, prefix: str | None = None, pattern: str | None = None
    ) -> list[QueueStats]:
        """Count each queue that holds a message, by name; those that begin or match so.

        Raises:
            UsageError: Both were given.
        """
        if prefix is not None and pattern is not None:
            raise UsageError("give prefix or pattern, not both")
        found = self._broker.queues()
        if prefix is not None:
            return [stats for stats in found if stats.queue.startswith(prefix)]
        if pattern is not None:
            from fnmatch import fnmatchcase

            return [stats for stats in found if fnmatchcase(stats.queue, pattern)]
        return found

    def get_queue_stats(self) -> list[tuple[str, int, int]]:
        """Count each queue: its name, what was not read yet, and all that it holds."""
        return [(stats.queue, stats.pending, stats.total) for stats in self._broker.queues()]

    def list_queues(self) -> list[tuple[str, int]]:
        """Name each queue with messages that were not read yet, and how many."""
        return [(s.queue, s.pending) for s in self._broker.queues() if s.pending]

    def generate_timestamp(self) -> int:
        """Give an id without a message: all ids before are smaller, all later ones greater."""
        return self._broker.store.stamp()

    get_ts = generate_timestamp

    def vacuum(self, *, compact: bool = False) -> int:
        """Drop the messages that were read; return how many. *compact* shrinks the file too."""
        return self._broker.store.vacuum(compact=compact)

    def list_aliases(self) -> list[tuple[str, str]]:
        """List each alias and its queue, by name."""
        return self._broker.store.aliases()

    def resolve_alias(self, name: str) -> str | None:
        """Return the queue that an alias stands for; None where it is not defined."""
        return self._broker.store.alias(name.removeprefix("@"))

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self._broker.close()


def open_broker(
    db_target: str | PathLike[str] | BrokerTarget | None = None,
    *,
    config: Mapping[str, object] | None = None,
) -> Handle:
    """Open a store for what goes across queues, best inside `with`.

    *db_target* is a database file or a BrokerTarget, by default what `broker` uses in this
    directory; *config* holds BROKER_* keys that go before the environment.

    Raises:
        ArgumentError: It is something else.
        UsageError: A setting cannot be meant.
    """
    settings = settings_for(config)
    return Handle(Broker(locate(db_target, settings), settings=settings))
