"""How many processes a backlog asks for: samples go in, a number comes out. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Final

_SAMPLE_SECONDS: Final = (0.05, 1.0)
_FIRST_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """A worker with *min* to *max* processes, one for each *backlog* messages that are ready.

    up: Seconds between two steps up, each at most a doubling.
    down: Seconds for which fewer have to do before there are fewer.
    """

    min: int
    max: int
    backlog: int
    up: float
    down: float

    def pause(self, wanted: int) -> float:
        """Return the seconds until the next sample: where nobody works, soon."""
        least, most = _SAMPLE_SECONDS
        return max(least, min(most if wanted else _FIRST_SECONDS, self.up / 4, self.down / 4))

    def bound(self, processes: int) -> int:
        """Return the nearest number that is allowed."""
        return max(self.min, min(self.max, processes))


class Scaler:
    """The memory of one elastic worker: what was asked for within *down*."""

    def __init__(self, elastic: Elastic):
        self.elastic = elastic
        self._peaks: deque[tuple[float, int]] = deque()  # each lower than the one before it
        self._since = 0.0  # when we began to look, or somebody else set the number
        self._decided: int | None = None
        self._raised_at = float("-inf")

    def decide(self, now: float, wanted: int, ready: int, busy: int) -> int:
        """Return how many processes there shall be instead of *wanted*.

        ready: Messages that could be claimed. busy: Processes that have one in hand.
        """
        if wanted != self._decided:
            self._since = now
        self._decided = self._choose(now, wanted, ready, busy)
        return self._decided

    def _choose(self, now: float, wanted: int, ready: int, busy: int) -> int:
        rule = self.elastic
        demand = rule.bound(max(ceil(ready / rule.backlog), busy))
        peak = self._peak(now, demand)
        if demand > wanted and (wanted == 0 or now - self._raised_at >= rule.up):
            self._raised_at = now
            return min(demand, max(wanted * 2, 1))
        if peak < wanted and now - self._since >= rule.down:
            return peak
        return wanted

    def _peak(self, now: float, demand: int) -> int:
        """Note what is asked for, and return the most that was within `down`."""
        while self._peaks and self._peaks[-1][1] <= demand:
            self._peaks.pop()
        self._peaks.append((now, demand))
        while self._peaks[0][0] < now - self.elastic.down:
            self._peaks.popleft()
        return self._peaks[0][1]
