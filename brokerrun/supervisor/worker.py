"""The child: claims, handles, settles.

Killed between any two lines it owes nothing: what it holds is in the store under its owner's
number, how far it had come is in its slot, and the supervisor settles from both. No transaction
is open while user code runs.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from brokerrun.core.blame import say, trace
from brokerrun.core.model import Claim, Effect, Settlement, Wanted
from brokerrun.core.retry import Ended, Outcome, acknowledge, release
from brokerrun.core.store import Store
from brokerrun.errors import StoreBusy, StoreFull
from brokerrun.supervisor.handlers import Dead, Drop, Handler, Job, Retry, Snooze
from brokerrun.supervisor.slotfile import MOST_IDS, Slot
from brokerrun.supervisor.spec import WorkerSpec
from brokerrun.supervisor.wear import Wear

_BATCH_SECONDS: Final = 0.05  # how long a batch may take, so that nobody hoards
_FLUSH_SECONDS: Final = 0.1  # how long an ack may stay unflushed
_IDLE_SECONDS: Final = 60.0
_BUSY_SECONDS: Final = 0.2
_SAID_SECONDS: Final = 60.0  # between two lines that say that the store is waited for
# Idle processes take turns when they are woken: the first one takes what came, and only what it
# leaves is there for the second.
_TURN_SECONDS: Final = 0.0005
_MOST_TURNS_SECONDS: Final = 0.01
LATE: Final = 75  # exit status of a worker whose message was declared late
SECOND: Final = 10**9
Result = TypeVar("Result")


class Worker:
    """One process's work on its queues, until it is told to stop."""

    def __init__(
        self,
        spec: WorkerSpec,
        handler: Handler,
        store: Store,
        slot: Slot,
        owner: int,
        log: Any,
        stopping: Callable[[], bool],
        wear: Wear,
        wake_fds: Sequence[int],
        number: int,
    ):
        self.spec, self.handler, self.store, self.slot, self.owner = (
            spec,
            handler,
            store,
            slot,
            owner,
        )
        self.log, self.stopping, self.wear, self.wake_fds = log, stopping, wear, wake_fds
        self.policies = spec.policies()
        self._holds = {queue: spec.hold(queue) for queue in spec.queues}
        self.pid, self.host = os.getpid(), socket.gethostname()
        self.batch = spec.prefetch or 1
        self._stand_back = min((number - 1) * _TURN_SECONDS, _MOST_TURNS_SECONDS)
        self._finished: list[Settlement] = []  # acks that wait for the next transaction
        self._flushed_at = time.monotonic()

    def run(self) -> None:
        """Work until told to stop; give back what was not begun, and leave nothing unsettled."""
        while not self.stopping():
            if self.wear.out():
                self._rest()
                continue
            claims = self._claim()
            if claims:
                self._handle(claims)
            elif not self.stopping():
                self._wait()
        self._settle([])
        self.store.flush()

    def _rest(self) -> None:
        """Begin nothing more: a successor comes."""
        self._settle([])
        self.store.flush()
        self.wear.wait(self.wake_fds)

    def _wait(self) -> None:
        with suppress(StoreBusy, StoreFull):  # then it is looked again, and said there
            seconds = self.wear.seconds(_IDLE_SECONDS)
            self.store.wait(self.spec.queues, seconds, self.wake_fds, stand_back=self._stand_back)

    def _claim(self) -> list[Claim]:
        """Acknowledge the last batch and claim the next, in one transaction."""
        limit = self.wear.room(self.batch)
        wanted = [Wanted(queue, self.owner, limit, hold) for queue, hold in self._holds.items()]
        finished, self._finished = self._finished, []
        effects, claims = self._patiently(lambda: self.store.work(finished, *wanted, late=True))
        self._tell_lost(finished, effects)
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.store.flush()
            self._flushed_at = time.monotonic()
        return claims

    def _handle(self, claims: list[Claim]) -> None:
        begun = time.monotonic()
        self.slot.begin_claim(claims[0].receipt, [c.id for c in claims], time.monotonic_ns())
        done = 0
        while done < len(claims):
            if self.stopping() or self.wear.out():
                self._settle([release(c.id, c.receipt) for c in claims[done:]])
                break
            self.wear.count()
            self._end(claims[done], self._run(claims[done]))
            done += 1
            if self.slot.advance(time.monotonic_ns()) and done < len(claims):
                claims, done = self._take_again(claims[done:]), 0
        self._adapt(time.monotonic() - begun, len(claims))

    def _take_again(self, claims: list[Claim]) -> list[Claim]:
        """The supervisor gives back what waits behind a long message: keep what is still ours."""
        # What is done stands in the slot under the old receipt only: settled before that goes.
        self._settle([])
        ids, old = [c.id for c in claims], claims[0].receipt
        receipt, ours = self._patiently(lambda: self.store.renew(ids, old))
        kept = [claim._replace(receipt=receipt) for claim in claims if claim.id in ours]
        if kept:
            self.slot.begin_claim(receipt, [c.id for c in kept], time.monotonic_ns())
        else:
            self.slot.skip(len(claims))
        return kept

    def _adapt(self, seconds: float, handled: int) -> None:
        """Take more at once while handlers are fast, and one while they are slow."""
        if self.spec.prefetch is None and handled:
            fits = int(_BATCH_SECONDS / max(seconds / handled, 1e-6))
            self.batch = max(1, min(fits, self.batch * 2, MOST_IDS))

    def _run(self, claim: Claim) -> Ended | None:
        """Call the handler; None is success. Whatever it raises is its failure, not ours."""
        started_at = time.time_ns()
        ended: Ended | None = None
        try:
            self.handler(self._job(claim))
        except BaseException as error:
            ended = self._ended(error, started_at)
        if os.getpid() != self.pid:  # it forked, and came back as the child
            os._exit(0)
        if self.slot.late():  # what the supervisor sent to end it may have cut a call short
            os._exit(LATE)
        return ended

    def _end(self, claim: Claim, ended: Ended | None) -> None:
        """An ack may wait for the next transaction; a failure is settled before anything begins."""
        if ended is None:
            self._finished.append(acknowledge(claim.id, claim.receipt))
            self.slot.count(failed=False)
            self.log.debug("message_acked", queue=claim.queue, id=claim.id)
            return
        settlement = self.policies[claim.queue].settle(claim, ended)
        if self._settle([settlement])[-1] is Effect.SETTLED:
            if ended.outcome is not Outcome.SNOOZE:
                self.slot.count(failed=True)
            self.log.warning(
                "message_settled",
                queue=claim.queue,
                id=claim.id,
                outcome=ended.outcome.value,
                then=settlement.event.value,
                attempt=claim.attempts,
                delay=round(settlement.delay, 3),
                error=ended.error,
            )

    def _settle(self, settlements: list[Settlement]) -> list[Effect]:
        """Settle these, and what was finished before."""
        together = self._finished + settlements
        self._finished = []
        if not together:
            return []
        effects, _ = self._patiently(lambda: self.store.work(together, late=True))
        self._tell_lost(together, effects)
        return effects

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """Do it again while the store is busy or full: to give up would cost a message an attempt.

        Ends at the latest when the supervisor ends us.
        """
        said_at = float("-inf")
        while True:
            try:
                return call()
            except (StoreBusy, StoreFull) as error:
                if time.monotonic() - said_at > _SAID_SECONDS:
                    said_at = time.monotonic()
                    self.log.warning("store_waited_for", error=str(error))
                time.sleep(_BUSY_SECONDS)

    def _tell_lost(self, settlements: Sequence[Settlement], effects: Sequence[Effect]) -> None:
        for settlement, effect in zip(settlements, effects, strict=True):
            if effect is Effect.LOST:
                self.log.warning("claim_lost", queue=self.spec.queue, id=settlement.id)

    def _job(self, claim: Claim) -> Job:
        return Job(
            id=claim.id,
            queue=claim.queue,
            body=claim.body,
            attempt=claim.attempts,
            max_attempts=self.spec.max_attempts,
            enqueued_at=claim.id / SECOND,
            last_error=claim.last_error,
            _log=self.log,
            _stopping=self.stopping,
            _extend=self._extend,
        )

    def _extend(self, seconds: float) -> None:
        self.slot.extend(time.monotonic_ns() + int(seconds * SECOND))

    def _ended(self, error: BaseException, started_at: int) -> Ended:
        outcome, delay = _verdict(error)
        shown = outcome is Outcome.FAILED
        return Ended(
            outcome=outcome,
            error=say(error),
            traceback=trace(error) if shown else None,
            pid=self.pid,
            host=self.host,
            started_at=started_at,
            ended_at=time.time_ns(),
            delay=delay,
        )


def _verdict(error: BaseException) -> tuple[Outcome, float | None]:
    match error:
        case Retry():
            return Outcome.RETRY, error.after
        case Snooze():
            return Outcome.SNOOZE, error.for_
        case Dead():
            return Outcome.DEAD, None
        case Drop():
            return Outcome.DROP, None
    return Outcome.FAILED, None
