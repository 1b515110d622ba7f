"""All places and their clocks: signals and ticks go in, acts come out. Pure; time is passed in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Final

from brokerrun.supervisor.crew import Crew, Steps
from brokerrun.supervisor.fate import Cause
from brokerrun.supervisor.place import NEVER, Place
from brokerrun.supervisor.slot import MOVES, Act, Phase, Signal
from brokerrun.supervisor.spec import WorkerSpec, processes_at_first

LATE_SECONDS: Final = 0.25  # between TERM and KILL for a message over its timeout
_KILL_SECONDS: Final = 5.0  # until a kill that did not end it is sent again


class Roster:
    """The places of one fleet, crew by crew.

    crash_limit: More deaths than the first in the second's seconds, and a worker backs off,
        between the bounds of *crash_backoff*, doubling, with jitter.
    """

    def __init__(
        self,
        specs: tuple[WorkerSpec, ...],
        crash_limit: tuple[int, float],
        crash_backoff: tuple[float, float],
    ):
        self.crews: dict[str, Crew] = {}
        self.limit, self.backoff = crash_limit, crash_backoff
        for spec in specs:
            self.enlist(spec)

    @property
    def places(self) -> list[Place]:
        return [place for crew in self.crews.values() for place in crew.places]

    def enlist(self, spec: WorkerSpec, code: str = "") -> Crew:
        """Take a worker in, with the places that it has at first."""
        crew = Crew(spec, processes_at_first(spec), code, paused=spec.paused)
        self.crews[spec.name] = crew
        for number in range(crew.wanted):
            self._allot(crew, number + 1)
        return crew

    def served(self) -> list[str]:
        """List the queues that somebody takes from: of those one can wait for the end."""
        crews = self.crews.values()
        return [queue for crew in crews if not crew.paused for queue in crew.spec.queues]

    def wanted(self) -> str:
        """Write how many processes there shall be of each worker: "a=2,b=1"."""
        return ",".join(f"{name}={crew.wanted}" for name, crew in self.crews.items())

    def steps(self) -> Steps:
        """Yield what brings each crew nearer to what it shall be."""
        for name, crew in list(self.crews.items()):
            crew.held = crew.held and not self._may_begin(crew)
            yield from crew.steps(self._allot)
            if crew.gone and not crew.places:
                del self.crews[name]

    def last_steps(self) -> Steps:
        """Yield who ends now: each crew once, when those that come after it have ended."""
        for name, crew in self.crews.items():
            heirs = [other for other in self.crews.values() if name in other.spec.after]
            if not crew.told and all(other.told and other.down for other in heirs):
                crew.told = True
                yield from ((place, Signal.STOP) for place in crew.places)

    @property
    def booted(self) -> bool:
        """Tell whether nobody is in a first start: each is ready, or has failed once."""
        starting = any(p.phase is Phase.BOOTING and p.starts == 1 for p in self.places)
        return not starting and not any(
            crew.held and self._may_begin(crew) for crew in self.crews.values()
        )

    def _may_begin(self, crew: Crew) -> bool:
        return all(self.crews[name].complete for name in crew.spec.after if name in self.crews)

    def signal(self, place: Place, signal: Signal, now: float) -> tuple[Act, ...]:
        """Move a place; return what is to be done, in order."""
        if signal in (Signal.STOP, Signal.RETIRE):
            place.stopping = True  # also where nothing is to be done now: it starts no more
        elif signal is Signal.START:
            place.stopping = False
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
        if signal is Signal.STOP or (signal is Signal.RETIRE and place.phase is Phase.KILLING):
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
        return min((place.deadline for place in self.places), default=NEVER)

    def all_in(self, *phases: Phase) -> bool:
        """Tell whether every place is in one of those phases."""
        return all(place.phase in phases for place in self.places)

    def _allot(self, crew: Crew, number: int) -> Place:
        """Give a crew a further place, in the first slot that is nobody's."""
        taken = {place.index for place in self.places}
        index = next(index for index in count() if index not in taken)
        place = Place(crew.spec, number, index)
        crew.places.append(place)
        return place

    def _allowance(self, place: Place) -> float:
        """How long a place may stay as it is, in seconds."""
        return {
            Phase.BOOTING: place.spec.boot_timeout,
            Phase.STOPPING: place.spec.grace,
            Phase.LATE: LATE_SECONDS,
            Phase.KILLING: _KILL_SECONDS,
        }.get(place.phase, NEVER)

    def _pause(self, place: Place, now: float) -> float:
        (limit, window), (least, most) = self.limit, self.backoff
        while place.deaths and place.deaths[0] < now - window - most:
            place.deaths.popleft()
        recent = sum(at > now - window for at in place.deaths)
        over = max(recent, len(place.deaths) if place.looping else 0) - limit
        place.looping = over > 0
        if over <= 0:
            return 0.0
        top = min(most, least * 2.0 ** min(over - 1, 60))
        return random.uniform(least, max(top, least))
