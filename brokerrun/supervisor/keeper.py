"""The supervisor's store work, in a thread of its own: recovery, schedules, upkeep, counts.

It holds the connection that guards the file, from before the first worker starts until the last
is gone. The loop hands it jobs and takes their answers; it never waits for a disk.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from brokerrun.core.backends import open_store
from brokerrun.core.model import Effect, Held, Settlement
from brokerrun.core.owners import guardian_of
from brokerrun.core.retry import RetryPolicy
from brokerrun.core.store import Store
from brokerrun.errors import StoreBusy, StoreError, StoreFull
from brokerrun.supervisor.fate import Cause, Death, fates
from brokerrun.supervisor.processes import hear, wake_pipe
from brokerrun.supervisor.scheduler import Scheduler
from brokerrun.supervisor.schedules import ScheduleSpec
from brokerrun.supervisor.slotfile import InHand, read_beside

UPKEEP_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.2  # after the store stayed busy
Job = Callable[[Store], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job brought, and who waits for it."""

    then: Callable[[Any], object]
    value: Any


class Keeper(threading.Thread):
    """Does jobs in order. A job that finds the store busy is done again until it is done.

    policies: By queue; who has none there goes back with its attempt counted.
    """

    def __init__(
        self,
        database: str,
        guardian: int,
        policies: dict[str, RetryPolicy],
        history: float,
        log: Any,
    ):
        super().__init__(name="keeper", daemon=True)
        self.guardian = guardian
        self.failure: StoreError | None = None
        self._gives_up = False
        self.beats = 0  # grows with all that is done: while it does not, the thread stands still
        self._database, self._policies, self._history = database, policies, history
        self._log = log
        self.scheduler = Scheduler((), log)
        self._jobs: SimpleQueue[tuple[Job, Callable[[Any], object]] | None] = SimpleQueue()
        self._answers: deque[Answer] = deque()
        self.fd, self._wake_fd = wake_pipe()

    def ask(self, job: Job, then: Callable[[Any], object] = lambda value: None) -> None:
        """Have *job* done with the store, and its result given to *then*, in the loop."""
        self._jobs.put((job, then))

    def schedule(self, specs: Sequence[ScheduleSpec], *, once: bool = False) -> None:
        """Serve these schedules from now on instead; with *once* send only what is due now."""
        scheduler = Scheduler(specs, self._log)

        def job(store: Store) -> None:
            scheduler.begin(store)
            scheduler.run(store)
            if once:
                scheduler.stop()
            self.scheduler = scheduler

        self.ask(job)

    def answers(self) -> None:
        """In the loop: take what was brought."""
        hear(self.fd)
        while self._answers:
            answer = self._answers.popleft()
            answer.then(answer.value)

    def learn(self, policies: dict[str, RetryPolicy], history: float) -> None:
        """Go by these from now on."""

        def job(store: Store) -> None:
            self._policies, self._history = policies, history

        self.ask(job)

    def give_up(self) -> None:
        """Wait for the store no longer: fail where it is busy or full."""
        self._gives_up = True

    def finish(self, within: float) -> None:
        """Do what was asked so far, close the store and end."""
        self._jobs.put(None)
        self.join(within)

    def run(self) -> None:
        store = open_store(self._database)
        try:
            self._serve(store)
        except StoreError as error:
            self.failure = error
        except Exception as error:  # the outermost frame of the thread: the loop raises it
            self.failure = StoreError(f"{self._database}: {type(error).__name__}: {error}")
        finally:
            store.end_life(self.guardian)
            store.close()
            self._wake()

    def _serve(self, store: Store) -> None:
        store.begin_life(self.guardian)
        store.attend()
        store.queues()  # reads a table: only now does the connection guard the file
        due = time.monotonic() + UPKEEP_SECONDS
        while True:
            self.beats += 1
            if time.monotonic() >= due:
                self._upkeep(store)
                due = time.monotonic() + UPKEEP_SECONDS
            pause = min(self._send_due(store), due - time.monotonic())
            try:
                asked = self._jobs.get(timeout=max(pause, 0))
            except Empty:
                continue
            if asked is None:
                return
            job, then = asked
            self._answers.append(Answer(then, self._until_done(job, store)))
            self._wake()

    def _send_due(self, store: Store) -> float:
        """Send what is due of the schedules; return the seconds until something is."""
        try:
            self.scheduler.run(store)
        except (StoreBusy, StoreFull):
            return _AGAIN_SECONDS
        return self.scheduler.pause()

    def _until_done(self, job: Job, store: Store) -> Any:
        while True:
            try:
                return job(store)
            except (StoreBusy, StoreFull):
                if self._gives_up:
                    raise
                self.beats += 1
                time.sleep(_AGAIN_SECONDS)

    def _upkeep(self, store: Store) -> None:
        try:
            store.upkeep(time.time_ns() - int(self._history * 1e9))
            recover_strangers(store, self._database, self.guardian, self._policies)
            store.flush()
        except (StoreBusy, StoreFull):
            return  # in a second again

    def _wake(self) -> None:
        try:
            os.write(self._wake_fd, b"!")
        except BlockingIOError:
            return


def recover(
    store: Store,
    owner: int,
    seen: InHand | None,
    death: Death,
    policies: Mapping[str, RetryPolicy],
) -> list[Settlement]:
    """Settle what a dead worker of ours held; return what took effect."""
    held = [row for row in store.held() if row.owner == owner]
    return _carry_out(store, _last_will(held, seen, death, policies))


def recover_strangers(
    store: Store, database: str, guardian: int, policies: dict[str, RetryPolicy]
) -> int:
    """Settle what dead owners held whose guardian is dead too; return how many messages.

    Those were workers of our predecessor, or of another instance: their slots still lie beside
    the database.
    """
    by_owner: dict[int, list[Held]] = {}
    for row in store.held():
        by_owner.setdefault(row.owner, []).append(row)
    dead = [
        owner
        for owner in by_owner
        if guardian_of(owner) != guardian
        and not store.alive(owner)
        and not store.alive(guardian_of(owner))
    ]
    left = read_beside(database) if dead else {}
    return sum(
        len(_carry_out(store, _last_will(by_owner[owner], seen, _lost(seen), policies)))
        for owner, seen in ((owner, left.get(owner)) for owner in dead)
    )


def _lost(seen: InHand | None) -> Death:
    return Death(
        Cause.LOST,
        pid=seen.pid if seen else 0,
        host=socket.gethostname(),
        reason="its supervisor or the machine went down",
        ended_at=time.time_ns(),
    )


def _last_will(
    held: list[Held], seen: InHand | None, death: Death, policies: Mapping[str, RetryPolicy]
) -> list[Settlement]:
    return [
        settlement
        for queue in {row.queue for row in held}
        for settlement in fates(
            [row for row in held if row.queue == queue],
            seen,
            death,
            policies.get(queue, _PATIENT),
        )
    ]


_PATIENT: Final = RetryPolicy(max_attempts=1 << 30, crashes=1 << 30)


def _carry_out(store: Store, settlements: list[Settlement]) -> list[Settlement]:
    if not settlements:
        return []
    effects, _ = store.work(settlements, late=True)
    return [
        settlement
        for settlement, effect in zip(settlements, effects, strict=True)
        if effect is Effect.SETTLED
    ]
