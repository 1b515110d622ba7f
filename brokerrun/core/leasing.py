"""Leases for those who embed a queue: claimed in a batch, each settled by itself.

A lease without a time lasts as long as this process: nobody has its messages meanwhile, and when
the process dies they are ready again at once. One with a time ends by itself, whatever we do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

from brokerrun.core.blame import say, trace
from brokerrun.core.broker import Broker
from brokerrun.core.ids import now_ns
from brokerrun.core.leases import receipt_text
from brokerrun.core.meaning import seconds as check_seconds
from brokerrun.core.model import Claim, Effect, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.retry import (
    Ended,
    Outcome,
    RetryPolicy,
    acknowledge,
    dead_letter_of,
    release,
)
from brokerrun.core.states import Event
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    Call = Callable[[], AbstractContextManager[Broker]]


class Lease:
    """One message that is ours for a while.

    id, body, queue: Of the message; the queue is its home, also while it is shown elsewhere.
    attempts: How often it was claimed, this time included.
    last_error: Why the attempt before failed.
    receipt: The proof as text, which `broker ack`, `nack` and `extend` take.
    settled: Whether it was acked, nacked, released or buried here.

    Each way to settle tells whether the lease was still ours: False where its time was over or the
    message was deleted, and then nothing changed.
    """

    def __init__(self, leases: Leases, claim: Claim):
        self._leases, self._claim = leases, claim
        self.id, self.body, self.queue = claim.id, claim.body, claim.queue
        self.attempts, self.last_error = claim.attempts, claim.last_error
        self.receipt = receipt_text(claim)
        self.settled = False
        self._begun_at: int | None = None  # when it was handed out
        self._acked_within: object = None  # the caller's connection in whose transaction it was

    def ack(self, *, within: object = None) -> bool:
        """End it in success: the message is gone.

        *within* is an `sqlite3.Connection`, as `Queue.enqueue` takes it: the message is gone when
        the caller commits. If the caller rolls back, the lease is as it was before, and the end of
        the `with` block of the batch gives it back. Outside such a block it is ready again at once.
        """
        settlement = acknowledge(self.id, self._claim.receipt)
        if within is None:
            return self._settle(settlement)
        with self._leases.call() as broker:
            effects = broker.within(within).store.work([settlement])[0]
        self._acked_within = within
        self._leases._settled()
        return effects == [Effect.SETTLED]

    def nack(self, error: BaseException | str | None = None, *, delay: float | None = None) -> bool:
        """End it in failure: retried after the backoff of the policy, dead after the last attempt.

        *error* goes to the history of the message. *delay*, in seconds, stands in for the backoff.
        """
        outcome = Outcome.FAILED if delay is None else Outcome.RETRY
        return self._settle(self._failure(outcome, error, delay))

    def dead(self, error: BaseException | str | None = None) -> bool:
        """Give up at once: to the dead-letter queue, however many attempts are left."""
        return self._settle(self._failure(Outcome.DEAD, error))

    def release(self, delay: float = 0.0) -> bool:
        """Give it back as if it had not been claimed: no attempt is counted."""
        settlement = release(self.id, self._claim.receipt)
        return self._settle(settlement._replace(delay=delay))

    def extend(self, seconds: float) -> bool:
        """Let the lease end *seconds* from now; without a time it only tells whether it is ours."""
        check_seconds("seconds", seconds)
        with self._leases.call() as broker:
            if self._leases.timed:
                return broker.store.extend(self.id, self._claim.receipt, seconds)
            return broker.store.holding(self.id, self._claim.receipt) is not None

    def _gone(self, broker: Broker) -> bool:
        """Tell whether the caller committed the ack."""
        receipt = self._claim.receipt
        return self._acked_within is not None and broker.store.holding(self.id, receipt) is None

    def _settle(self, settlement: Settlement) -> bool:
        with self._leases.call() as broker:
            effects = broker.store.work([settlement])[0]
        self.settled = True
        self._leases._settled()
        return effects == [Effect.SETTLED]

    def _failure(
        self, outcome: Outcome, error: BaseException | str | None, delay: float | None = None
    ) -> Settlement:
        traceback = None
        if isinstance(error, BaseException):
            traceback = trace(error) if error.__traceback__ else None
            error = say(error)
        ended = Ended(
            outcome,
            error=error,
            traceback=traceback,
            pid=os.getpid(),
            host=os.uname().nodename,
            started_at=self._begun_at,
            ended_at=now_ns(),
            delay=delay,
        )
        return self._leases.policy.settle(self._claim, ended)

    def __repr__(self) -> str:
        return f"Lease({self.receipt!r}, queue={self.queue!r}, attempts={self.attempts})"


class Leases:
    """A batch of leases: iterate over it, inside `with` where it should give back by itself.

    When the block ends, what was handed out and not settled is ready again, its attempt counted;
    what was not handed out goes back unburned. Where an exception leaves the block, the message
    in hand is nacked with it; KeyboardInterrupt and SystemExit give all of it back unburned. In a
    forked child nothing is given back: the batch is its parent's.
    """

    def __init__(self, call: Call, claims: list[Claim], owner: int, policy: RetryPolicy):
        self.call, self.policy = call, policy
        self.timed = owner == 0
        self._owner, self._process = owner, os.getpid()
        self._leases = [Lease(self, claim) for claim in claims]
        self._next = 0
        self._ends = False  # whether the end of a `with` block is to come
        self._settled()

    def __iter__(self) -> Leases:
        return self

    def __next__(self) -> Lease:
        """Hand the next one out."""
        if self._next >= len(self._leases):
            raise StopIteration
        lease = self._leases[self._next]
        lease._begun_at = now_ns()
        self._next += 1
        return lease

    def __len__(self) -> int:
        return len(self._leases)

    def __enter__(self) -> Leases:
        self._ends = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._process:
            return
        left = [lease for lease in self._leases if not lease.settled]
        if left:
            with self.call() as broker:
                back = [each for each in left if not each._gone(broker)]
                if back:
                    inside = self._writable(broker, back)
                    inside.store.work([self._given_back(lease, error) for lease in back])
        for lease in left:
            lease.settled, lease._acked_within = True, None
        self._settled()

    @staticmethod
    def _writable(broker: Broker, left: list[Lease]) -> Broker:
        """Return *broker*, in the caller's transaction where that still has the write lock.

        A rollback leaves the messages to an owner that lives no more: ready again at once.
        """
        for lease in left:
            within, receipt = lease._acked_within, lease._claim.receipt
            if within is not None and broker.store.awaited(within, lease.id, receipt):
                return broker.within(lease._acked_within)
        return broker

    def _given_back(self, lease: Lease, error: BaseException | None) -> Settlement:
        if lease._begun_at is None or not isinstance(error, Exception | None):
            return release(lease.id, lease._claim.receipt)
        if error is not None and lease is self._leases[self._next - 1]:
            return lease._failure(Outcome.FAILED, error)
        return Settlement(lease.id, lease._claim.receipt, Event.RETRY)

    def _settled(self) -> None:
        """End our life as an owner when there is nothing left to own."""
        over = all(each.settled or (each._acked_within and not self._ends) for each in self._leases)
        if self._owner and over:
            with self.call() as broker:
                broker.store.end_life(self._owner)
            self._owner = 0


def lease_out(
    call: Call,
    queue: str,
    limit: int,
    *,
    lease: float | None,
    hold: str | None,
    retry: RetryPolicy | None,
) -> Leases:
    """Claim up to *limit* ready messages, as `Queue.claim` promises."""
    with call() as broker:
        name = broker.resolve(queue)
        policy = retry or RetryPolicy(dead_letter=dead_letter_of(name))
        if policy.dead_letter is not None:
            policy = policy._replace(dead_letter=broker.resolve(policy.dead_letter))
        owner = new_guardian()
        if lease is None:
            broker.store.begin_life(owner)
        try:
            # Late: a power cut undoes the claim, and no more.
            claims = broker.claim(Wanted(name, owner, limit, hold, lease), late=True)
        except BaseException:
            broker.store.end_life(owner)
            raise
    return Leases(call, claims, 0 if lease is not None else owner, policy)
