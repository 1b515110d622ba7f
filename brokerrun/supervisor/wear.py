"""When a process has served: after so many messages, so long, or at such a size.

It notices by itself, between messages, and asks for a successor; the supervisor lets it go when
that is ready, a bounded share of a worker's processes at once.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from brokerrun.supervisor.spec import WorkerSpec

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_FOR_EVER: Final = float("inf")


class Due(NamedTuple):
    """Why a process is to be replaced.

    patience: Seconds in which it begins nothing more, and waits for its successor. Where none
        comes up meanwhile, it works on rather than let a queue stand still.
    """

    why: str
    patience: float


def due(spec: WorkerSpec, done: int, age: float, rss_bytes: int) -> Due | None:
    """Say why a process is to be replaced, the firmest reason first. Pure."""
    if spec.max_rss is not None and rss_bytes > spec.max_rss:
        return Due(f"max_rss: {rss_bytes} bytes", _FOR_EVER)
    if spec.max_messages is not None and done >= spec.max_messages:
        return Due(f"max_messages: {done}", spec.boot_timeout)
    if spec.max_age is not None and age >= spec.max_age:
        return Due(f"max_age: {age:.1f} s", 0.0)  # nothing is the worse for one message more
    return None


class Wear:
    """One process's wear.

    ask: Tells the supervisor, once, why a successor is wanted.
    """

    def __init__(self, spec: WorkerSpec, ask: Callable[[str], None]):
        self._spec, self._ask = spec, ask
        self._born = time.monotonic()
        self._asked_at: float | None = None
        self._done = 0
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if spec.max_rss else 0

    def count(self) -> None:
        """Count one message begun."""
        self._done += 1

    def room(self, wanted: int) -> int:
        """Return how many of *wanted* messages may still be begun, at least one."""
        most = self._spec.max_messages
        return wanted if most is None else max(1, min(wanted, most - self._done))

    def seconds(self, wanted: float) -> float:
        """Return for how long of *wanted* seconds it may wait until it looks again."""
        most = self._spec.max_age
        if self._asked_at is not None or most is None:
            return wanted
        return max(0.0, min(wanted, self._born + most - time.monotonic()))

    def out(self) -> bool:
        """Look, and ask where it is due; tell whether nothing may be begun."""
        now = time.monotonic()
        found = due(self._spec, self._done, now - self._born, self._rss_bytes())
        if found is None:
            return False
        if self._asked_at is None:
            self._asked_at = now
            self._ask(found.why)
        return now < self._asked_at + found.patience

    def wait(self, fds: Sequence[int]) -> None:
        """Wait until something is said on one of *fds*, or patience may be over."""
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        poll.poll(self._spec.boot_timeout * 1000)

    def _rss_bytes(self) -> int:
        if not self._statm:
            return 0
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
