"""The places of one worker: what they shall be, and the next steps there. Pure.

A place whose process was made of something else than the worker is by now gets a successor of the
same number. The old one works until that is ready, then finishes what it has in hand, and goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from brokerrun.supervisor.keys import make_of
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.slot import Phase, Signal
from brokerrun.supervisor.spec import WorkerSpec

_DEAD: Final = (Phase.DOWN, Phase.WAITING)
Steps = Iterator[tuple[Place, Signal]]


@dataclass(slots=True, eq=False)
class Crew:
    """The places of one worker.

    wanted: How many processes there shall be, while it is not paused.
    code: Names the state of the modules that its handler came from.
    gone: The worker is no longer in the file.
    held: It has not begun yet: workers that it comes after are not ready.
    told: It was told to end.
    reason: Why it was paused, where nobody asked for it.
    make: What a process of it is made of: one that is made of something else is replaced.
    """

    spec: WorkerSpec
    wanted: int
    code: str = ""
    paused: bool = False
    gone: bool = False
    held: bool = True
    told: bool = False
    reason: str | None = None
    places: list[Place] = field(default_factory=list)
    make: object = field(init=False)

    def __post_init__(self) -> None:
        self.become(self.spec, self.code)

    def become(self, spec: WorkerSpec, code: str) -> None:
        """Be this worker from now on; what that makes stale is replaced step by step."""
        self.spec, self.code, self.gone = spec, code, False
        self.make = (make_of(spec), code)

    def restart(self, number: int | None = None) -> None:
        """Have the process of that number replaced; None: all."""
        for place in self.places:
            if number in (None, place.number):
                place.make = None

    @property
    def complete(self) -> bool:
        """Tell whether everything is as it shall be; the old ones may still finish."""
        if self.paused or self.gone:
            return self.down
        holders = [place for place in self.places if not place.leaving]
        return len(holders) == self.wanted and all(map(self._works, holders))

    @property
    def down(self) -> bool:
        """Tell whether nobody is left."""
        return all(place.phase is Phase.DOWN for place in self.places)

    def steps(self, allot: Callable[[Crew, int], Place]) -> Steps:
        """Yield what brings the places nearer to what they shall be; *allot* makes a new one."""
        self._forget_those_who_went()
        for place in self.places:
            if not place.leaving and (self.gone or place.number > self.wanted):
                place.leaving = True
                yield place, Signal.RETIRE
            elif self.paused and not place.stopping:
                yield place, Signal.RETIRE
        if not (self.paused or self.gone or self.held):
            holders: dict[int, list[Place]] = {}
            for place in self.places:
                if not place.leaving:
                    holders.setdefault(place.number, []).append(place)
            for number in range(1, self.wanted + 1):
                yield from self._hold(number, holders.get(number, []), allot)

    def _hold(
        self, number: int, holders: list[Place], allot: Callable[[Crew, int], Place]
    ) -> Steps:
        """Keep one process of that number."""
        if len(holders) == 2:
            yield from self._hand_over(*holders)
        elif not holders:
            yield self._begin(allot(self, number))
        elif self._fresh(holders[0]):
            holders[0].spec = self.spec
        elif holders[0].phase is Phase.RUNNING and self._may_roll():
            yield self._begin(allot(self, number))
        elif holders[0].phase is Phase.RETIRING:  # resumed, while it still finishes
            holders[0].leaving = True
            yield self._begin(allot(self, number))
        elif holders[0].phase in _DEAD:
            yield self._begin(holders[0])

    def _hand_over(self, old: Place, heir: Place) -> Steps:
        """Let the old one go where its successor works, or where it works no longer itself.

        A successor that is stale before it works comes up all the same: where changes follow each
        other faster than a process starts, nobody would be replaced otherwise.
        """
        if heir.phase is Phase.RUNNING or old.phase is not Phase.RUNNING:
            old.leaving = True
            yield old, Signal.RETIRE
        if not self._fresh(heir) and heir.phase in _DEAD:
            yield self._begin(heir)

    def _begin(self, place: Place) -> tuple[Place, Signal]:
        place.spec, place.make = self.spec, self.make
        place.deaths.clear()
        place.looping = False
        return place, Signal.START

    def _fresh(self, place: Place) -> bool:
        return place.make == self.make and not place.stopping

    def _works(self, place: Place) -> bool:
        return self._fresh(place) and place.phase is Phase.RUNNING

    def _may_roll(self) -> bool:
        """Bound the successors on their way, and the old ones that take long to finish."""
        present = [place for place in self.places if not place.leaving]
        heirs = len(present) - len({place.number for place in present})
        finishing = len(self.places) - len(present)
        most = max(1, int(self.wanted * self.spec.recycle_share))
        return heirs < most and finishing <= self.wanted

    def _forget_those_who_went(self) -> None:
        for old in [p for p in self.places if p.leaving and p.phase is Phase.DOWN]:
            self.places.remove(old)
            heir = next((p for p in self.places if p.number == old.number), None)
            if heir is not None:
                heir.follow(old)
