"""After a worker's death: what it held is settled, and one line says what became of it."""

from __future__ import annotations

import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from brokerrun.core.model import Settlement
from brokerrun.core.store import Store
from brokerrun.supervisor.fate import FOR_ITS_MESSAGE, Cause, Death
from brokerrun.supervisor.keeper import Keeper, recover
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.slotfile import InHand

_LOOP_LINE_SECONDS: Final = 60.0


class Aftermath:
    """Settles deaths, one after another, in the keeper.

    seen: Reads the slot of a place.
    looped: Is told of each death that goes on with a crash loop, or begins one.
    """

    def __init__(
        self,
        roster: Roster,
        keeper: Keeper,
        log: Any,
        *,
        seen: Callable[[Place], InHand | None],
        looped: Callable[[Place], None],
    ):
        self._roster, self._keeper, self._log = roster, keeper, log
        self._seen, self._looped = seen, looped
        self._host = socket.gethostname()
        self._deaths: dict[int, Death] = {}  # by the index of the place
        self._told: dict[int, Callable[[Settlement | None], None]] = {}  # likewise
        self._lines: dict[str, deque[float]] = {}  # when a death was said, by worker
        self._unsaid: dict[str, int] = {}

    def tell(self, place: Place, then: Callable[[Settlement | None], None]) -> None:
        """Have *then* told how the message is settled that its process ended with, if any."""
        self._told[place.index] = then

    def note(
        self,
        place: Place,
        status: int | None,
        signum: int | None,
        dump: str,
        *,
        stopped: bool,
    ) -> None:
        """Write down how its process ended; `settle` follows.

        stopped: It was stopped by a signal when its message was to be ended.
        """
        seen = self._seen(place)
        started = None
        if seen is not None and seen.busy:
            started = time.time_ns() - (time.monotonic_ns() - seen.started)
        for_its_message, reason = place.cause in FOR_ITS_MESSAGE, _reason(place, status, signum)
        if stopped and for_its_message:
            reason = f"{reason}, while its process was stopped"
        self._deaths[place.index] = Death(
            cause=place.cause,
            pid=place.pid,
            host=self._host,
            exit_status=status,
            signal=signum,
            reason=reason,
            traceback=dump if for_its_message and dump else None,
            started_at=started,
            ended_at=time.time_ns(),
        )

    def settle(self, place: Place) -> None:
        """Have what it held settled, and choose when the next one starts."""
        death, seen, owner = self._deaths.pop(place.index), self._seen(place), place.owner
        policies = place.spec.policies()

        def job(store: Store) -> list[Settlement]:
            return recover(store, owner, seen, death, policies) if owner else []

        self._keeper.ask(job, lambda settled: self._settled(place, death, seen, settled))

    def _settled(
        self, place: Place, death: Death, seen: InHand | None, settled: list[Settlement]
    ) -> None:
        told = place.stopping or death.exit_status == 0
        struck = next((s for s in settled if s.attempt is not None), None)
        died = struck is not None or not told
        if seen is not None:
            place.handled += seen.handled
            place.failed += seen.failed + (struck is not None)
        was_looping, pid = place.looping, place.pid
        place.pid, place.owner = 0, 0
        healthy = seen is not None and seen.handled + seen.failed > 0
        if died:
            place.reason = death.reason
        now = time.monotonic()
        wanted = death.cause in (Cause.CANCEL, Cause.CONDEMN)  # no sign of a crash loop
        self._roster.settled(place, now, healthy=healthy, died=died and not wanted)
        if place.index in self._told:
            self._told.pop(place.index)(struck)
        if died:
            self._say_death(place, pid, death, struck, now)
            self._say_loop(place, death, now, looped=was_looping)
        if died and not wanted and place.looping:
            self._looped(place)

    def _say_death(
        self, place: Place, pid: int, death: Death, struck: Settlement | None, now: float
    ) -> None:
        """Write one line, with its message's fate, unless that would flood the log; keep all."""
        worker = place.spec.name
        said = {"worker": place.name, "pid": pid, "reason": death.reason, **_fate(struck)}
        if not self._may_say(worker, now):
            self._unsaid[worker] = self._unsaid.get(worker, 0) + 1
            self._log.keep("worker_died", **said, stack=death.traceback)
            return
        if unsaid := self._unsaid.pop(worker, 0):
            said["unsaid"] = unsaid
        self._log.warning("worker_died", **said, stack=death.traceback)

    def _say_loop(self, place: Place, death: Death, now: float, *, looped: bool) -> None:
        if place.looping and not looped:
            again = round(max(place.deadline - now, 0), 1)
            self._log.error("crash_loop_began", worker=place.name, reason=death.reason, again=again)
        elif looped and not place.looping:
            self._log.info("crash_loop_ended", worker=place.name)

    def _may_say(self, worker: str, now: float) -> bool:
        """Let as many lines through as `crash_limit` allows deaths, and one a minute in a loop."""
        limit, window = self._roster.limit
        said = self._lines.setdefault(worker, deque(maxlen=limit + 1))
        looping = any(place.looping for place in self._roster.crews[worker].places)
        if looping and said and now - said[-1] < _LOOP_LINE_SECONDS:
            return False
        if len(said) > limit and now - said[0] < window:
            return False
        said.append(now)
        return True


def _fate(struck: Settlement | None) -> dict[str, Any]:
    if struck is None or struck.attempt is None:
        return {}
    return {
        "queue": struck.attempt.queue,
        "id": struck.id,
        "outcome": struck.attempt.outcome,
        "then": struck.event.value,
        "attempt": struck.attempt.attempt,
        "delay": round(struck.delay, 3),
    }


def _reason(place: Place, status: int | None, signum: int | None) -> str:
    if place.cause in (Cause.CANCEL, Cause.CONDEMN):
        return "cancelled"
    if place.cause is Cause.TIMEOUT:
        return f"over its timeout of {place.spec.timeout:g}s"
    if signum is not None:
        try:
            return f"worker killed by {signal.Signals(signum).name}"
        except ValueError:
            return f"worker killed by signal {signum}"
    if status is not None:
        return f"worker left with exit status {status}"
    return place.reason or "worker ended before it was ready"
