"""Which workers take nothing, as somebody said last: kept in the store, over restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.keeper import Keeper
from brokerrun.supervisor.roster import Roster


class Pauses:
    """The pauses of the instance *name* on *host*."""

    def __init__(self, roster: Roster, keeper: Keeper, log: Any, name: str, host: str):
        self._roster, self._keeper, self._log = roster, keeper, log
        self._name, self._host = name, host
        self._said: set[str] = set()  # the workers that were paused or resumed in this run

    def recall(self) -> None:
        """Pause and resume as it was said before the last end: that goes before the file.

        What is said while we read it goes before both.
        """

        def heard(stored: dict[str, bool]) -> None:
            for name, crew in self._roster.crews.items():
                if name not in self._said:
                    crew.paused = stored.get(name, crew.paused)

        self._keeper.ask(lambda store: store.pauses(self._name, self._host), heard)

    def set(
        self,
        crews: Sequence[Crew],
        *,
        paused: bool = True,
        why: str | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Let these workers take nothing, or take again; *then* comes when that is stored."""
        words = {crew.spec.name: paused for crew in crews}
        self._said |= words.keys()
        for crew in crews:
            crew.paused, crew.reason = paused, why
            event = "worker_paused" if paused else "worker_resumed"
            self._log.info(event, worker=crew.spec.name, **({"why": why} if why else {}))
        self._keeper.ask(
            lambda store: store.put_pauses(self._name, self._host, words), lambda _: then()
        )
