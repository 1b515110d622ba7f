"""What `up` does before the supervisor is imported: its templates import beside it meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass

from brokerrun.supervisor.processes import open_many_files
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.strays import MARK
from brokerrun.supervisor.systemd import ServiceManager
from brokerrun.supervisor.templates import Blank, blanks


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a supervisor begins with.

    slots_fd: The slots file of its database and name, locked.
    manager: Who started it, and is told how it goes.
    blanks: The processes that become its templates.
    """

    slots_fd: int
    manager: ServiceManager
    blanks: list[Blank]


def begin(config: Config, slots_fd: int) -> Beginning:
    """Rid the environment and the limits of what no child may have of them; start the first."""
    os.environ.pop(MARK, None)  # of the worker that started us: what we start is ours
    manager = ServiceManager(os.environ, os.getpid())
    open_many_files()
    return Beginning(slots_fd, manager, blanks(config))
