"""Answers that come when a fact is true, and no later than was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from brokerrun.errors import WaitTimedOut
from brokerrun.supervisor.control import Reply, refusal
from brokerrun.supervisor.keeper import Keeper

_LOOK_SECONDS: Final = 0.1
Fact = Callable[[], bool]


class Waits:
    """Who waits for what."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fact, Callable[[], object], Reply, float, str]] = []

    def add(
        self, fact: Fact, then: Callable[[], object], reply: Reply, within: float, late: str
    ) -> None:
        """Call *then* once *fact* is true; after *within* seconds refuse, saying *late*."""
        self._waiting.append((fact, then, reply, time.monotonic() + within, late))

    def look(self) -> None:
        """Do what it is time for."""
        now, waiting, self._waiting = time.monotonic(), self._waiting, []
        for entry in waiting:
            fact, then, reply, deadline, late = entry
            if fact():
                then()
            elif now > deadline:
                reply(refusal(WaitTimedOut(late)))
            else:
                self._waiting.append(entry)


class Emptied:
    """The fact that nothing in some queues is ready, running or waits for a further attempt.

    Asked in the keeper, now and then; it stays true once it was.
    """

    def __init__(self, keeper: Keeper, queues: Callable[[], Sequence[str]]):
        self._keeper, self._queues = keeper, queues
        self._asked = self._true = False
        self._again_at = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._true and not self._asked and now >= self._again_at:
            self._asked, self._again_at = True, now + _LOOK_SECONDS
            queues = self._queues()
            self._keeper.ask(lambda store: store.unfinished(queues), self._heard)
        return self._true

    def _heard(self, unfinished: bool) -> None:
        self._asked, self._true = False, not unfinished
