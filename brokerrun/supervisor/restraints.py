"""What the supervisor does to a worker that it has the right to, and the worker itself has not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from brokerrun.supervisor.cpu import CpuGroups, home
from brokerrun.supervisor.spec import WorkerSpec


@dataclass(slots=True)
class Restraints:
    """Niceness, and shares of a processor. What the kernel refuses is said, and stops nobody."""

    log: Any
    _groups: CpuGroups | None = field(default=None, init=False)

    def hold(self, name: str, pid: int, spec: WorkerSpec) -> None:
        """Restrain a worker that has begun nothing yet."""
        try:
            if spec.nice is not None:
                os.setpriority(os.PRIO_PROCESS, pid, spec.nice)
            if spec.limits.cpu is not None and (groups := self._find()):
                groups.enter(name, pid, spec.limits.cpu)
        except OSError as error:
            self.log.error("limit_not_held", worker=name, pid=pid, error=str(error))

    def let_go(self, name: str, spec: WorkerSpec) -> None:
        """Clear up after one that is gone."""
        if spec.limits.cpu is not None and self._groups is not None:
            self._groups.leave(name)

    def _find(self) -> CpuGroups | None:
        if self._groups is None and (place := home()):
            self._groups = CpuGroups(place)
        return self._groups
