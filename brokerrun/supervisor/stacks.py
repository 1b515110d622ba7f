"""The stacks of running workers: asked for by a signal, read from the file they are written to.

faulthandler writes from within the signal, so a loop, a sleep, a regular expression and a C call
that keeps the GIL all answer. Who is stopped does not, and nobody waits for it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

ANSWER_SECONDS: Final = 0.4
MOST_BYTES: Final = 20_000
_SIGNAL: Final = signal.SIGUSR1


def ask_stack(pid: int, dump_fd: int) -> bool:
    """Ask a child for its stack anew; False where it would not hear that, or be ended by it."""
    os.ftruncate(dump_fd, 0)
    os.lseek(dump_fd, 0, os.SEEK_SET)  # the worker writes through the same opening
    if not _catches(pid):
        return False
    os.kill(pid, _SIGNAL)
    return True


def read_stack(dump_fd: int) -> str:
    """Return what was written so far; empty: nothing."""
    return os.pread(dump_fd, MOST_BYTES, 0).decode(errors="replace").replace("\0", "")


def answered(dump_fd: int) -> Callable[[], bool]:
    """Return the fact that a stack is written and grows no more, or that it takes too long."""
    deadline, before = time.monotonic() + ANSWER_SECONDS, 0

    def fact() -> bool:
        nonlocal before
        size, last = os.fstat(dump_fd).st_size, before
        before = size
        return size == last > 0 or time.monotonic() > deadline

    return fact


def _catches(pid: int) -> bool:
    """Tell whether a process has a handler for the signal: without one it would end."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (_SIGNAL - 1) & 1)
