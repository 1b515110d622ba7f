"""Queue: one queue of a store, for those who embed it."""

from __future__ import annotations

from types import TracebackType
from weakref import WeakValueDictionary

from brokerrun.closing import Closing
from brokerrun.core.broker import Broker, check_queue
from brokerrun.core.meaning import bound, read_id, seconds, selected
from brokerrun.core.model import Draft, QueueStats, Selection
from brokerrun.core.moves import Moves
from brokerrun.core.settings import Settings, settings_for
from brokerrun.core.target import locate
from brokerrun.errors import UsageError, wrong_kind
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from brokerrun.core.leasing import Leases
    from brokerrun.core.meaning import Id
    from brokerrun.core.retry import RetryPolicy
    from brokerrun.core.sqlrunner import SQLRunner
    from brokerrun.core.target import BrokerTarget


class Queue(Moves, Closing):
    """One queue, by name or as `@alias`.

    The connection opens at the first use. Without *persistent* it closes after each call, with it
    when the queue is closed; persistent queues of one store and configuration share one. A queue
    may be used by several threads, and by a forked child, which opens a connection of its own.

    Args:
        name: Letters, digits, `_`, `-` and `.`, not first `-` or `.`; at most 512.
        db_path: A database file or a BrokerTarget; by default what `broker` uses in this directory.
        runner: Runs the statements in place of a connection of ours, on the database that it
            knows; see `brokerrun.ext`. It stays open when the queue is closed.
        config: BROKER_* keys that go before the environment, for this queue alone.

    Raises:
        QueueNameError, UsageError: The name, the path or a setting cannot be meant.
    """

    def __init__(
        self,
        name: str,
        db_path: str | PathLike[str] | BrokerTarget | None = None,
        *,
        persistent: bool = False,
        runner: SQLRunner | None = None,
        config: Mapping[str, object] | None = None,
    ):
        self.name, self.persistent = check_queue(name), persistent or runner is not None
        settings = settings_for(config)
        if runner is None:
            self._use(_broker(locate(db_path, settings), settings, shared=persistent))
        elif db_path is None:
            self._use(Broker(_checked(runner), settings=settings))
        else:
            raise UsageError("a runner knows its database: leave db_path out")

    @classmethod
    def of(cls, broker: Broker, name: str) -> Queue:
        """Give a queue of a broker that is there, on its connection."""
        queue = cls.__new__(cls)
        queue.name, queue.persistent = check_queue(name), True
        queue._use(broker)
        return queue

    def _use(self, broker: Broker) -> None:
        self.broker = broker
        self.db_path = broker.target if isinstance(broker.target, str) else None
        self._last_ts: int | None = None
        self._call = _Call(broker, keep=self.persistent)

    # --------------------------------------------------------------------------------- write

    def write(self, message: str, *, delay: float = 0.0, priority: int = 0) -> int:
        """Store a message and return its id. It survives a power cut when this returns.

        *delay* is in seconds; a smaller *priority* goes first.

        Raises:
            MessageError: It is no text, or larger than BROKER_MAX_MESSAGE_SIZE.
        """
        return self.write_many([message], delay=delay, priority=priority)[0]

    def write_many(
        self, messages: Iterable[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        """Store messages in one transaction, all or none, and return their ids in order."""
        if isinstance(messages, str):
            raise wrong_kind("messages", "several texts", messages)
        drafts = [Draft(message, delay, priority) for message in messages]
        with self.call() as broker:
            ids = broker.write_drafts(self.name, drafts)
        if ids:
            self._saw(ids[-1])
        return ids

    def enqueue(
        self, message: str, *, within: object, delay: float = 0.0, priority: int = 0
    ) -> int:
        """Store a message in the caller's own transaction, and return its id.

            with sqlite3.connect("my.db") as connection:
                connection.execute("insert into orders ...")
                Queue("orders", "my.db").enqueue("17", within=connection)

        It is there when the caller commits, and never if the caller rolls back. The write lock is
        the caller's until then: other writers wait for it, calls of this process without *within*
        too. How well it survives a power cut is for the connection to say (`pragma synchronous`).
        Before SQLite 3.51.3 the connection checkpoints no more; any other write sees to the log.

        Args:
            within: An `sqlite3.Connection` to the database of the queue. One that begins
                transactions by itself is brought into one; one that does not has to be in one.
                Close it before a fork: a child of a process that has it open cannot use the queue.

        Raises:
            UsageError: It is in no transaction, is open on another database, or has a temporary
                table by the name of one of ours.
            StoreRefused: The database is none of brokerrun's yet: `broker init` makes one.
            StoreBusy: Another writer kept the lock, or wrote since the transaction first read.
        """
        with self.call() as broker:
            return broker.within(within).write(self.name, message, delay=delay, priority=priority)

    # ---------------------------------------------------------------------------------- hold

    def claim(
        self,
        limit: int = 1,
        *,
        lease: float | None = None,
        hold: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> Leases:
        """Hold up to *limit* ready messages; each claim counts an attempt.

            with queue.claim(10) as leases:
                for lease in leases:
                    work(lease.body)
                    lease.ack()

        A message that was attempted before comes alone.

        Args:
            lease: Seconds until anybody may have them again; None: as long as this process lives.
            hold: The queue in which they are shown meanwhile; None: they stay where they are.
            retry: What a nack does; by default four attempts with growing backoff, then to the
                dead-letter queue `NAME.dlq`.
        """
        from brokerrun.core.leasing import lease_out

        selected(limit=limit)
        if lease is not None:
            seconds("lease", lease)
        return lease_out(self.call, self.name, limit, lease=lease, hold=hold, retry=retry)

    def delete(self, *, message_id: Id | None = None) -> bool:
        """Delete one message, or all of the queue, in whichever state; tell whether any was there.

        This is how a handler that peeked acknowledges.
        """
        ident = None if message_id is None else read_id(message_id)
        with self.call() as broker:
            return broker.delete(self.name, ident) > 0

    # --------------------------------------------------------------------------------- facts

    def exists(self) -> bool:
        """Tell whether the queue holds a message, one that was read and not yet vacuumed too."""
        with self.call() as broker:
            return broker.store.exists(broker.resolve(self.name))

    def stats(self) -> QueueStats:
        """Count the queue."""
        with self.call() as broker:
            return broker.stats(self.name)

    def has_pending(self, after_timestamp: Id | None = None) -> bool:
        """Tell whether there is a message that was not read yet."""
        selection = Selection(after=bound("after_timestamp", after_timestamp))
        with self.call() as broker:
            return bool(broker.peek(self.name, selection))

    def generate_timestamp(self) -> int:
        """Give an id without a message: all ids before are smaller, all later ones greater."""
        with self.call() as broker:
            return self._saw(broker.store.stamp())

    get_ts = generate_timestamp

    @property
    def last_ts(self) -> int:
        """The newest id of the store that this handle knows of; 0 before there was any.

        It is what `write`, `generate_timestamp` and `refresh_last_ts` saw last; the first look
        fetches it.
        """
        return self.refresh_last_ts() if self._last_ts is None else self._last_ts

    def refresh_last_ts(self) -> int:
        """Fetch the newest id of the store, without writing."""
        with self.call() as broker:
            return self._saw(broker.store.newest())

    def _saw(self, ident: int) -> int:
        self._last_ts = max(self._last_ts or 0, ident)
        return ident

    # ------------------------------------------------------------------------------ the handle

    def call(self) -> _Call:
        """Give the broker for one use: `with queue.call() as broker`."""
        return self._call

    def destination(self, target: object) -> str:
        if isinstance(target, Queue):
            if target.broker.target != self.broker.target:
                raise UsageError(f"{target!r} is in another store: a message cannot move there")
            return target.name
        if isinstance(target, str):
            return check_queue(target)
        raise wrong_kind("destination", "a queue or its name", target)

    def close(self) -> None:
        """Close the connection. A later call, or another queue that shares it, opens it again.

        Leases go on.
        """
        self.broker.close()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        if self.db_path is None:
            return f"Queue({self.name!r}, runner={self.broker.target!r})"
        return f"Queue({self.name!r}, db_path={self.db_path!r})"


class _Call:
    """One use of a queue's broker; closes the connection afterwards unless it is persistent."""

    def __init__(self, broker: Broker, keep: bool):
        self._broker, self._keep = broker, keep

    def __enter__(self) -> Broker:
        return self._broker

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._keep:
            self._broker.close()


def _checked(runner: SQLRunner) -> SQLRunner:
    for method in ("run", "begin_immediate", "commit", "rollback"):
        if not callable(getattr(runner, method, None)):
            raise wrong_kind("runner", f"an SQLRunner (it has no {method}())", runner)
    return runner


_shared: WeakValueDictionary[tuple[str, Settings], Broker] = WeakValueDictionary()


def _broker(target: str, settings: Settings, *, shared: bool) -> Broker:
    """Return the broker of a queue; the persistent ones of a store share theirs."""
    if not shared:
        return Broker(target, settings=settings)
    found = _shared.get((target, settings))
    if found is None:
        found = _shared[target, settings] = Broker(target, settings=settings)
    return found
