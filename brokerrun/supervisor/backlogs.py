"""Looks at the backlog of each elastic worker, and sets how many processes it shall have."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from brokerrun.core.store import Store
from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.keeper import Keeper
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.scaling import Elastic, Scaler


class Backlogs:
    """One look at a time for each worker; a store that is slow makes them rarer, no more.

    busy: Counts the processes of a worker that have a message in hand.
    """

    def __init__(self, roster: Roster, keeper: Keeper, log: Any, busy: Callable[[Crew], int]):
        self._roster, self._keeper, self._log, self._busy = roster, keeper, log, busy
        self._scalers: dict[str, Scaler] = {}
        self._due: dict[str, float] = {}  # while a look is under way: never

    def look(self) -> None:
        """Ask for the backlogs that it is time for."""
        now = time.monotonic()
        for name, crew in self._roster.crews.items():
            rule = crew.spec.processes
            if isinstance(rule, int) or crew.paused or crew.gone or now < self._due.get(name, 0):
                continue
            if name not in self._scalers or self._scalers[name].elastic != rule:
                self._scalers[name] = Scaler(rule)
            self._due[name] = float("inf")
            self._keeper.ask(partial(_ready, crew.spec.queues), partial(self._heard, crew, rule))

    def _heard(self, crew: Crew, rule: Elastic, ready: int) -> None:
        now, name = time.monotonic(), crew.spec.name
        self._due[name] = now + rule.pause(crew.wanted)
        if crew.paused or crew.gone or crew.spec.processes != rule:
            return
        wanted = self._scalers[name].decide(now, crew.wanted, ready, self._busy(crew))
        if wanted != crew.wanted:
            self._log.info("worker_scaled", worker=name, processes=wanted, ready=ready)
            crew.wanted = wanted


def _ready(queues: Sequence[str], store: Store) -> int:
    return sum(store.stats(queue).ready for queue in queues)
