"""SQLiteQueue: the methods of the sqqueue document, each a few verbs of `Broker`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final, SupportsIndex

from brokerrun.closing import Closing
from brokerrun.core.batches import browse
from brokerrun.core.broker import Broker, check_name
from brokerrun.core.ids import now_ns
from brokerrun.core.leases import LEASE
from brokerrun.core.meaning import seconds
from brokerrun.core.model import Message, Selection
from brokerrun.core.retry import (
    Backoff,
    Ended,
    Outcome,
    RetryPolicy,
    acknowledge,
    dead_letter_of,
)
from brokerrun.core.settings import settings_for
from brokerrun.core.states import State
from brokerrun.core.target import locate
from brokerrun.errors import wrong_kind
from brokerrun.sqqueue.arguments import ident_of, listed, whole
from brokerrun.sqqueue.claims import Claims
from brokerrun.sqqueue.operations import Operations
from brokerrun.sqqueue.record import Record, was_lost
from brokerrun.sqqueue.result import (
    CompletionError,
    DequeueError,
    EmptyError,
    EnqueueError,
    QueueError,
    RequeueError,
    Result,
)
from brokerrun.values import Value

if TYPE_CHECKING:
    import sqlite3
    from os import PathLike

    from brokerrun.core.target import BrokerTarget

AT_ONCE: Final = Backoff(steps=(0.0,))


class Metrics(Value):
    """What one SQLiteQueue did, and what stands in its queue.

    operations, failures: By name of the method, of this object since it was made.
    pending, processing, dead: Messages, whoever put or holds them.
    """

    operations: dict[str, int]
    failures: dict[str, int]
    pending: int
    processing: int
    dead: int


class SQLiteQueue(Closing):
    """One queue of a file, with retries and a dead-letter queue.

    It may be used by several threads, and in a forked child, which opens a connection of its own.
    What this object dequeued it settles by the receipt that it got: once the time-out is over and
    another has the message, its late answer is an error and changes nothing. Of one message that a
    thread got twice, the last time counts. Any other message is settled by its id, for whoever
    holds it now (another process, a worker), whose own answer is then the late one; so is a message
    that this object settled before.

    A locked file is waited for with back-off and a bound (BROKER_BUSY_TIMEOUT), then the operation
    fails. A message that was enqueued survives a power cut.

    Args:
        db_path: The database; None: the one that `broker` would use right here.
        table_name: The name of the queue.
        vacuum_threshold: After so many operations `vacuum_database` runs by itself; 0: never.
        vacuum_on_start: Run it now as well.
        default_max_attempts: How often a message is dequeued before `fail_message` buries it.
        default_visibility_timeout: Seconds until a dequeued message that nobody settled is back.
        backoff: How long a failed message waits; by default it is pending again at once.
        config: BROKER_* keys that go before the environment.

    Raises:
        ArgumentError: An argument is of the wrong kind.
        UsageError: A name or number is refused.
        StoreError: The database cannot be used (vacuum_on_start; otherwise it opens at first use).
    """

    def __init__(
        self,
        db_path: str | PathLike[str] | BrokerTarget | None = None,
        table_name: str = "message_queue",
        vacuum_threshold: int = 100,
        vacuum_on_start: bool = False,
        default_max_attempts: int = 5,
        default_visibility_timeout: float = LEASE,
        *,
        backoff: Backoff = AT_ONCE,
        config: Mapping[str, object] | None = None,
    ):
        if not isinstance(backoff, Backoff):
            raise wrong_kind("backoff", "a Backoff", backoff)
        if not isinstance(vacuum_on_start, bool):
            raise wrong_kind("vacuum_on_start", "True or False", vacuum_on_start)
        self.table_name = check_name(table_name)
        self._dead = check_name(dead_letter_of(table_name))
        attempts = whole("default_max_attempts", default_max_attempts)
        self._policy = RetryPolicy(attempts, backoff=backoff, dead_letter=self._dead)
        self._timeout = seconds("default_visibility_timeout", default_visibility_timeout)
        threshold = whole("vacuum_threshold", vacuum_threshold, least=0)
        settings = settings_for(config)
        self._broker = Broker(locate(db_path, settings), settings=settings)
        self._record = Record()
        self._claims = Claims(self._broker, table_name, self._record)
        self._operations = Operations(table_name, self._record, threshold, self._maintain)
        if vacuum_on_start:
            self._maintain()

    # ------------------------------------------------------------------------------ in and out

    def enqueue(self, payload: str) -> Result[int, EnqueueError]:
        """Store a message and return its id."""
        return self._operations.do(
            "enqueue",
            EnqueueError,
            lambda: self._broker.write(self.table_name, payload),
            ids=lambda ident: ident,
        )

    def enqueue_batch(self, payloads: Iterable[str]) -> Result[list[int], EnqueueError]:
        """Store messages in one transaction, all or none, and return their ids in order."""
        return self._operations.do(
            "enqueue_batch",
            EnqueueError,
            lambda: self._broker.write_many(self.table_name, listed(payloads)),
            ids=lambda idents: idents,
        )

    def dequeue(
        self, visibility_timeout: float | None = None
    ) -> Result[tuple[int, str], DequeueError]:
        """Take the next message for *visibility_timeout* seconds: its id and its payload.

        An empty queue is an `EmptyError`.
        """

        def take() -> tuple[int, str]:
            if found := self._claims.make(1, self._lease(visibility_timeout)):
                return found[0]
            raise self._empty("dequeue")

        return self._operations.do("dequeue", DequeueError, take, ids=lambda found: found[0])

    def dequeue_batch(
        self, batch_size: int, visibility_timeout: float | None = None
    ) -> Result[list[tuple[int, str]], DequeueError]:
        """Take up to *batch_size* messages in one transaction; an empty list if nothing is pending.

        A message that was dequeued before comes alone, so a batch may be shorter than what is
        pending: call again.
        """
        return self._operations.do(
            "dequeue_batch",
            DequeueError,
            lambda: self._claims.make(
                whole("batch_size", batch_size), self._lease(visibility_timeout)
            ),
            ids=lambda found: [ident for ident, _ in found],
        )

    def peek(self) -> Result[tuple[int, str], QueueError]:
        """Show what `dequeue` would take, and leave it; an empty queue is an `EmptyError`."""

        def look() -> tuple[int, str]:
            now = now_ns()
            for message in self._messages():
                if _takable(message, now):
                    return message.id, message.body
            raise self._empty("peek")

        return self._operations.do("peek", QueueError, look, ids=lambda found: found[0])

    def is_empty(self) -> Result[bool, QueueError]:
        """Tell whether nothing is pending; a message that waits for its backoff is."""

        def look() -> bool:
            now = now_ns()
            return not any(m.state is State.READY or _takable(m, now) for m in self._messages())

        return self._operations.do("is_empty", QueueError, look)

    # ------------------------------------------------------------------------------ the outcome

    def complete(self, message_id: SupportsIndex) -> Result[None, CompletionError]:
        """End a message that is being processed: it is gone."""

        def end() -> None:
            ident = ident_of(message_id)
            self._claims.end(acknowledge(ident, self._claims.proof(ident)))

        return self._operations.do("complete", CompletionError, end, message_id)

    def fail_message(
        self, message_id: SupportsIndex, send_to_dlq: bool = False
    ) -> Result[None, RequeueError]:
        """End an attempt in failure: pending again, or dead after the last one.

        With *send_to_dlq* it is dead at once. A pending message may be failed too: that counts as
        an attempt.
        """

        def fail() -> None:
            ident = ident_of(message_id)
            held = self._claims.find(ident)
            if held is None:
                self._claims.make(1, self._timeout, only=ident)
                held = self._claims.get(ident)
            outcome = Outcome.DEAD if send_to_dlq else Outcome.FAILED
            self._claims.end(self._policy.settle(held, _ended(outcome)))

        return self._operations.do("fail_message", RequeueError, fail, message_id)

    def requeue(self, message_id: SupportsIndex) -> Result[None, RequeueError]:
        """Make a message that is being processed pending at once, whatever attempts are left.

        The attempt stays counted: the document calls for it where processing failed.
        """

        def give_back() -> None:
            ident = ident_of(message_id)
            held = self._claims.get(ident)
            patient = self._policy._replace(max_attempts=held.attempts + 1)
            self._claims.end(patient.settle(held, _ended(Outcome.RETRY, delay=0.0)))

        return self._operations.do("requeue", RequeueError, give_back, message_id)

    def extend(
        self, message_id: SupportsIndex, visibility_timeout: float
    ) -> Result[None, QueueError]:
        """Let the time-out of a message that is being processed end so many seconds from now."""

        def prolong() -> None:
            ident, lease = ident_of(message_id), seconds("visibility_timeout", visibility_timeout)
            if not self._broker.store.extend(ident, self._claims.proof(ident), lease):
                raise was_lost(ident)

        return self._operations.do("extend", QueueError, prolong, message_id)

    def recover_processing_messages(self) -> Result[int, QueueError]:
        """Make messages pending whose time-out is over, and return how many came back now.

        `dequeue` does it by itself. A message whose time-out runs is never touched.
        """

        def recover() -> int:
            running = self._broker.stats(self.table_name).running
            leased = (m for m in self._messages() if m.state is State.LEASED)
            now = now_ns()
            over = sum(_takable(message, now) for message in islice(leased, running))
            self._broker.read(self.table_name, Selection(limit=0))  # every taker brings them back
            return over

        return self._operations.do("recover_processing_messages", QueueError, recover)

    def get_dead_letters(self) -> Result[list[tuple[int, str]], QueueError]:
        """List the dead messages, oldest first: id and payload."""

        def look() -> list[tuple[int, str]]:
            found = self._broker.peek(self._dead, Selection(limit=None))
            return [(message.id, message.body) for message in found]

        return self._operations.do("get_dead_letters", QueueError, look)

    def reprocess_dead_letter(self, message_id: SupportsIndex) -> Result[None, RequeueError]:
        """Make a dead message pending again, under its id, with all attempts before it."""

        def revive() -> None:
            ident = ident_of(message_id)
            if not self._broker.move(self._dead, self.table_name, Selection(id=ident)):
                raise QueueError(f"message {ident} is not in {self._dead!r}, or is being processed")

        return self._operations.do("reprocess_dead_letter", RequeueError, revive, message_id)

    # ------------------------------------------------------------------------------ maintenance

    def vacuum_database(self, conn: sqlite3.Connection | None = None) -> Result[None, QueueError]:
        """Drop messages that were read, copy the log into the file, and give free space back.

        *conn* stands in the document and is not used: a checkpoint by another connection, beside
        one of ours, can damage the file.
        """
        return self._operations.do("vacuum_database", QueueError, self._maintain)

    def perform_checkpoint(
        self, conn: sqlite3.Connection | None = None
    ) -> Result[None, QueueError]:
        """Copy the log into the file. It is one piece of work with `vacuum_database`."""
        return self._operations.do("perform_checkpoint", QueueError, self._maintain)

    def get_operation_count(self) -> int:
        """Count the operations that this object has done; those that failed do not count."""
        return self._record.total()

    def get_metrics(self) -> Result[Metrics, QueueError]:
        """Count what was done, and what stands in the queue."""

        def count() -> Metrics:
            here, dead = self._broker.stats(self.table_name), self._broker.stats(self._dead)
            done, failed = self._record.counts()
            pending = here.pending - here.running
            return Metrics(done, failed, pending, here.running, dead.pending)

        return self._operations.do("get_metrics", QueueError, count)

    def close(self) -> None:
        """Give back what this object dequeued and nobody settled, unburned; close the connection.

        Threads that still work on a message lose it. What cannot be given back is pending after its
        time-out. In a forked child what its parent dequeued stays the parent's. A later call
        opens the file again.
        """
        held = self._record.in_hand()
        if held:
            idents = [ident for ident, _ in held]
            self._operations.do("close", QueueError, lambda: self._claims.give_back(held), idents)
        self._broker.close()

    # --------------------------------------------------------------------------------- the rest

    def _maintain(self) -> None:
        self._broker.store.vacuum(compact=True)

    def _lease(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else seconds("visibility_timeout", timeout)

    def _messages(self) -> Iterator[Message]:
        """Go through the queue. Its first message mostly suffices: no page is read before that."""
        for first in self._broker.peek(self.table_name):
            yield first
            others = Selection(limit=None, beyond=(first.priority, first.id))
            for page in browse(self._broker, self.table_name, others):
                yield from page

    def _empty(self, name: str) -> EmptyError:
        return EmptyError(f"{name} on {self.table_name!r}: the queue is empty")


def _takable(message: Message, now: int) -> bool:
    """Tell whether a taker gets the message: it is pending and due, or its time-out is over."""
    if message.ready_at is None:
        return message.state is State.READY
    return message.ready_at <= now


def _ended(outcome: Outcome, delay: float | None = None) -> Ended:
    host = os.uname().nodename
    return Ended(outcome, pid=os.getpid(), host=host, ended_at=now_ns(), delay=delay)
