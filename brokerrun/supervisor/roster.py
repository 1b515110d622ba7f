"""All places and their clocks: signals and ticks go in, acts come out. Pure; time is passed in."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from brokerrun.supervisor.fate import Cause
from brokerrun.supervisor.slot import MOVES, Act, Phase, Signal
from brokerrun.supervisor.spec import WorkerSpec

LATE_SECONDS: Final = 0.25  # between TERM and KILL for a message over its timeout
_KILL_SECONDS: Final = 5.0  # until a kill that did not end it is sent again
_NEVER: Final = float("inf")


@dataclass(slots=True)
class Place:
    """Where one process of a worker runs, and what is known of it."""

    spec: WorkerSpec
    number: int  # from 1, within the worker
    index: int  # of its slot
    phase: Phase = Phase.DOWN
    deadline: float = _NEVER
    owner: int = 0
    pid: int = 0
    stopping: bool = False
    cause: Cause = Cause.ITSELF  # why it is dead, should it die now
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    starts: int = 0
    handled: int = 0  # by the processes before this one
    failed: int = 0
    looping: bool = False
    reason: str | None = None  # of the last death

    @property
    def name(self) -> str:
        return f"{self.spec.name}.{self.number}"

    @property
    def alive(self) -> bool:
        return self.phase not in (Phase.DOWN, Phase.WAITING, Phase.SETTLING)

    @property
    def restarts(self) -> int:
        return max(self.starts - 1, 0)


class Roster:
    """The places of one fleet.

    crash_limit: More deaths than the first in the second's seconds, and a worker backs off,
        between the bounds of *crash_backoff*, doubling, with jitter.
    """

    def __init__(
        self,
        specs: tuple[WorkerSpec, ...],
        crash_limit: tuple[int, float],
        crash_backoff: tuple[float, float],
    ):
        numbered = [(spec, number + 1) for spec in specs for number in range(spec.processes)]
        self.places = [Place(spec, number, index) for index, (spec, number) in enumerate(numbered)]
        self._limit, self._window = crash_limit
        self._backoff = crash_backoff

    def signal(self, place: Place, signal: Signal, now: float) -> tuple[Act, ...]:
        """Move a place; return what is to be done, in order."""
        if signal is Signal.STOP:
            place.stopping = True  # also where nothing is to be done now: it starts no more
        move = MOVES.get((place.phase, signal))
        if move is None:
            return ()
        place.phase = move.to
        place.deadline = now + self._allowance(place)
        if signal is Signal.TIMEOUT:
            place.cause = Cause.TIMEOUT
        if place.phase is Phase.BOOTING:
            place.starts += 1
            place.cause = Cause.ITSELF
        if signal is Signal.STOP:
            place.cause = Cause.STOP
        return move.acts

    def settled(self, place: Place, now: float, *, healthy: bool, died: bool) -> None:
        """What a dead worker held is settled: choose when the next one starts.

        healthy: It settled a message since its start, and starts no back-off.
        died: It ended by itself, not because it was told to.
        """
        self.signal(place, Signal.SETTLED, now)
        if place.stopping:
            self.signal(place, Signal.STOP, now)
            return
        if died and not healthy:
            place.deaths.append(now)
        elif healthy:
            place.deaths.clear()
        place.deadline = now + self._pause(place, now)

    def tick(self, now: float) -> Iterator[tuple[Place, Act]]:
        """Yield what is overdue."""
        for place in self.places:
            if now >= place.deadline:
                for act in self.signal(place, Signal.OVERDUE, now):
                    yield place, act

    def next_deadline(self) -> float:
        """Return when `tick` has something to do at the earliest."""
        return min((place.deadline for place in self.places), default=_NEVER)

    def all_in(self, *phases: Phase) -> bool:
        """Tell whether every place is in one of those phases."""
        return all(place.phase in phases for place in self.places)

    def _allowance(self, place: Place) -> float:
        """How long a place may stay as it is, in seconds."""
        return {
            Phase.BOOTING: place.spec.boot_timeout,
            Phase.STOPPING: place.spec.grace,
            Phase.LATE: LATE_SECONDS,
            Phase.KILLING: _KILL_SECONDS,
        }.get(place.phase, _NEVER)

    def _pause(self, place: Place, now: float) -> float:
        while place.deaths and place.deaths[0] < now - self._window - self._backoff[1]:
            place.deaths.popleft()
        recent = sum(at > now - self._window for at in place.deaths)
        over = max(recent, len(place.deaths) if place.looping else 0) - self._limit
        place.looping = over > 0
        if over <= 0:
            return 0.0
        least, most = self._backoff
        top = min(most, least * 2.0 ** min(over - 1, 60))
        return random.uniform(least, max(top, least))
