"""Carries out what `schedules` decides, in the keeper's thread. It needs no leader.

What it owes when it is killed between any two lines: nothing. A tick is over in the transaction
that sends its message; until then every supervisor of the database finds it due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from brokerrun.core.broker import Broker
from brokerrun.core.store import Store
from brokerrun.supervisor.schedules import (
    AHEAD,
    SECOND,
    Overlap,
    Plan,
    ScheduleRow,
    ScheduleSpec,
    next_tick,
    plan,
    row,
)

_NEVER: Final = 2**63


class Scheduler:
    """Sends what is due of some schedules.

    clock: Nanoseconds since 1970.
    rows: As of the last look; replaced whole, so that another thread may read them.
    """

    def __init__(
        self,
        specs: Sequence[ScheduleSpec],
        log: Any,
        clock: Callable[[], int] = time.time_ns,
    ):
        self.rows: tuple[ScheduleRow, ...] = ()
        self._specs, self._log, self._clock = specs, log, clock
        self._queues: dict[str, str] = {}
        self._overlapping: set[str] = set()
        self._next_at, self._latest = 0 if specs else _NEVER, 0

    def begin(self, store: Store) -> None:
        """Let schedules that are new, or changed, have their ticks from now on.

        Raises:
            AliasError: A queue is written by an alias that is not defined.
        """
        broker = Broker("", store=store)
        self._queues = {spec.name: broker.resolve(spec.queue) for spec in self._specs}
        for spec in self._specs:
            store.begin_schedule(spec.name, spec.timing, self._clock())

    def stop(self) -> None:
        """Send no more: what comes due is left to the next start."""
        self._next_at, self._latest = _NEVER, 0

    def pause(self) -> float:
        """Return the seconds until `run` has something to do."""
        now = self._clock()
        return 0.0 if now < self._latest - AHEAD else max(self._next_at - now, 0) / SECOND

    def run(self, store: Store) -> None:
        """Send what is due; costs a look at the clock where nothing is."""
        if self.pause() > 0:
            return
        remembered = {schedule.name: schedule.last_at for schedule in store.schedules()}
        # Read after the rows: by an earlier time the tick that another one just sent would look
        # like that of a clock that ran ahead.
        now = self._clock()
        last = [self._serve(store, spec, remembered[spec.name], now) for spec in self._specs]
        upcoming = [
            next_tick(spec, last_at, now) for spec, last_at in zip(self._specs, last, strict=True)
        ]
        self.rows = tuple(map(row, self._specs, last, upcoming))
        self._latest = max(last)
        self._next_at = min((tick for tick in upcoming if tick is not None), default=_NEVER)

    def _serve(self, store: Store, spec: ScheduleSpec, last_at: int, now: int) -> int:
        """Do what is due of one schedule; return until when its ticks are over."""
        due = plan(spec, last_at, now)
        if due is None:
            return last_at
        if due.send:
            self._send(store, spec, due)
        elif store.set_schedule(spec.name, due.upto, seen=last_at):
            self._say_passed(spec.name, due, last_at)
        return due.upto

    def _send(self, store: Store, spec: ScheduleSpec, due: Plan) -> None:
        name, overlap = spec.name, spec.overlap is Overlap.ALLOW
        sent = store.send_ticks(name, due.send, self._queues[name], spec.body, overlap=overlap)
        if sent.waiting is not None and name not in self._overlapping:
            self._overlapping.add(name)  # said once, not at each tick
            self._log.info("schedule_overlaps", schedule=name, id=sent.waiting)
        if sent.ids:
            self._overlapping.discard(name)
            say = self._log.info if due.missed else self._log.debug
            say("schedule_sent", schedule=name, count=len(sent.ids), missed=due.missed)

    def _say_passed(self, name: str, due: Plan, last_at: int) -> None:
        if due.upto < last_at:
            seconds = (last_at - due.upto) / SECOND
            self._log.warning("schedule_set_back", schedule=name, seconds=seconds)
        else:
            self._log.info("schedule_missed", schedule=name, missed=due.missed)
