"""Where one process of a worker runs, and what is known of it."""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from brokerrun.supervisor.fate import Cause
from brokerrun.supervisor.slot import Phase
from brokerrun.supervisor.slotfile import InHand
from brokerrun.supervisor.spec import WorkerSpec

NEVER: Final = float("inf")


@dataclass(slots=True, eq=False)
class Place:
    """One of a worker's places.

    number: From 1, within the worker; a place and its successor have the same.
    index: Of its slot: no other place has it at the same time.
    make: What the worker was when its process was started; None: nothing that it is.
    stopping: It starts no more, once its process is gone.
    leaving: And then it goes, too.
    """

    spec: WorkerSpec
    number: int
    index: int
    phase: Phase = Phase.DOWN
    deadline: float = NEVER
    owner: int = 0
    pid: int = 0
    make: object = None
    stopping: bool = False
    leaving: bool = False
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

    def late_at(self, seen: InHand) -> float:
        """Return the monotonic nanoseconds at which the message in hand is over its timeout."""
        timeout = self.spec.timeout
        return NEVER if timeout is None else max(seen.started + timeout * 1e9, seen.extended)

    def follow(self, old: Place) -> None:
        """Take over what *old* counted."""
        self.handled += old.handled
        self.failed += old.failed
        self.starts += old.starts


@dataclass(slots=True)
class Process:
    """What the supervisor holds of one living worker."""

    channel: socket.socket
    dump_fd: int
    asked_back: int = 0  # the claim whose rest it was asked for
    freed: int = 0  # the claim whose rest was given back
    late: tuple[int, int] | None = None  # claim and index of the message over its timeout
    stopped: bool = False  # by SIGSTOP, when it was
    spawned: int = 0  # its pid, where it was not forked: it may end before it says anything

    def close(self) -> None:
        self.channel.close()
        os.close(self.dump_fd)
