"""The state machine of one worker's place: pure, one table.

What is not in MOVES changes nothing: a signal may always come too late.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Phase(Enum):
    """What a place is at."""

    DOWN = "down"
    BOOTING = "booting"
    RUNNING = "running"
    RETIRING = "retiring"  # told to end once its message is done, however long that takes
    STOPPING = "stopping"  # told to end, within its grace
    LATE = "late"  # its message is over the timeout: told to end, at once
    KILLING = "killing"
    SETTLING = "settling"  # dead; what it held is being settled
    WAITING = "waiting"  # for its next start


class Signal(Enum):
    """What happens to a place."""

    START = "start"
    READY = "ready"
    RETIRE = "retire"
    STOP = "stop"
    TIMEOUT = "timeout"
    OVERDUE = "overdue"
    EXITED = "exited"
    SETTLED = "settled"


class Act(Enum):
    """What the supervisor does about it."""

    SPAWN = "spawn"
    GO = "go"
    TERM = "term"
    KILL = "kill"
    DUMP = "dump"
    SETTLE = "settle"


class Move(NamedTuple):
    """Where a signal leads, and what is done, in order."""

    to: Phase
    acts: tuple[Act, ...] = ()


MOVES: Final[dict[tuple[Phase, Signal], Move]] = {
    (Phase.DOWN, Signal.START): Move(Phase.BOOTING, (Act.SPAWN,)),
    (Phase.WAITING, Signal.START): Move(Phase.BOOTING, (Act.SPAWN,)),
    (Phase.WAITING, Signal.OVERDUE): Move(Phase.BOOTING, (Act.SPAWN,)),
    (Phase.WAITING, Signal.STOP): Move(Phase.DOWN),
    (Phase.WAITING, Signal.RETIRE): Move(Phase.DOWN),
    (Phase.BOOTING, Signal.READY): Move(Phase.RUNNING, (Act.GO,)),
    (Phase.BOOTING, Signal.OVERDUE): Move(Phase.KILLING, (Act.DUMP, Act.KILL)),
    (Phase.BOOTING, Signal.STOP): Move(Phase.KILLING, (Act.KILL,)),  # it holds nothing yet
    (Phase.BOOTING, Signal.RETIRE): Move(Phase.KILLING, (Act.KILL,)),
    (Phase.BOOTING, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.RUNNING, Signal.RETIRE): Move(Phase.RETIRING, (Act.TERM,)),
    (Phase.RUNNING, Signal.STOP): Move(Phase.STOPPING, (Act.TERM,)),
    (Phase.RUNNING, Signal.TIMEOUT): Move(Phase.LATE, (Act.DUMP, Act.TERM)),
    (Phase.RUNNING, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.RETIRING, Signal.STOP): Move(Phase.STOPPING),  # it was told; its grace begins
    (Phase.RETIRING, Signal.TIMEOUT): Move(Phase.LATE, (Act.DUMP, Act.TERM)),
    (Phase.RETIRING, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.STOPPING, Signal.OVERDUE): Move(Phase.KILLING, (Act.KILL,)),
    (Phase.STOPPING, Signal.STOP): Move(Phase.KILLING, (Act.KILL,)),  # asked twice: at once
    (Phase.STOPPING, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.LATE, Signal.OVERDUE): Move(Phase.KILLING, (Act.KILL,)),
    (Phase.LATE, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.KILLING, Signal.OVERDUE): Move(Phase.KILLING, (Act.KILL,)),
    (Phase.KILLING, Signal.EXITED): Move(Phase.SETTLING, (Act.SETTLE,)),
    (Phase.SETTLING, Signal.SETTLED): Move(Phase.WAITING),
}
