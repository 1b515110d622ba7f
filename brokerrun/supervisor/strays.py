"""What handlers started and what outlived its parent: ours by adoption, until its worker ends.

A process group does not hold who calls setsid, and a daemon has no parent any more; but this
process adopts them all. Whose they are is told by the mark in their environment, or, where they
were forked and ran nothing else, by the title that they have from their worker. As PID 1 of a
container we adopt strangers too: who carries neither is left alone then, and only reaped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Final

from brokerrun.supervisor.processes import born_at

MARK: Final = "BROKERRUN_OWNER"  # in the environment of a worker, and of what it starts
_TITLE: Final = "brokerrun: "
_NESTED: Final = "brokerrun: supervisor "  # one that a handler started
_ROUNDS: Final = 20  # of looking for what was started while we killed


class Strays:
    """Finds and ends them. *known* lists the pids that are no strays: workers and templates."""

    def __init__(self, known: Callable[[], set[int]]):
        self._known = known
        self._lived_on: set[int] = set()  # adopted while all workers lived: a daemon of one of them
        self._first = os.getpid() == 1

    def look(self) -> None:
        """Note who was adopted; who is next to be found when a worker ends was that worker's."""
        found = set(self._adopted())
        with suppress(ChildProcessError):
            # A worker that is dead and not yet reaped has left us its children already.
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                self._lived_on = found

    def sweep(self, living: Collection[int], ended: str | None = None) -> None:
        """End what is left of owners that no longer live.

        Args:
            living: The owners whose workers live.
            ended: The name of a worker that ended just now and is not yet reaped.
        """
        for pid in self._adopted():
            if self._is_left(pid, living, ended):
                _kill_tree(pid)

    def end_all(self, within: float) -> list[int]:
        """End and reap all that was adopted; return who is still there after *within* seconds."""
        deadline = time.monotonic() + within
        # A second look: the kernel may leave one out while its brothers end.
        while left := self._ours() or self._ours():
            for pid in left:
                _kill_tree(pid)
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
            if time.monotonic() > deadline:
                return left
            time.sleep(0.002)
        return []

    def _ours(self) -> list[int]:
        return [pid for pid in self._adopted() if not self._first or _is_ours(pid)]

    def _adopted(self) -> list[int]:
        known = self._known()
        return [pid for pid in children_of(os.getpid()) if pid not in known]

    def _is_left(self, pid: int, living: Collection[int], ended: str | None) -> bool:
        owner = owner_mark(pid)
        if owner is not None:
            return owner not in living
        title = _title(pid)
        if title.startswith(_TITLE) and not title.startswith(_NESTED):
            return ended is not None and title == _TITLE + ended
        return ended is not None and not self._first and pid not in self._lived_on


def end_marked(owners: Collection[int]) -> None:
    """End what workers of a supervisor that was killed had started, wherever it went."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        if owner_mark(int(name)) in owners:
            _kill_tree(int(name))


def children_of(pid: int) -> list[int]:
    """List the children of a process, adopted ones too."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                found += map(int, file.read().split())
    return found


def owner_mark(pid: int) -> int | None:
    """Return the owner that a process was started under; None where it says none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
        mark = next(entry for entry in entries if entry.startswith(MARK.encode() + b"="))
        return int(mark.partition(b"=")[2])
    except (OSError, StopIteration, ValueError):
        return None


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\0")
    except OSError:
        return ""


def _is_ours(pid: int) -> bool:
    return owner_mark(pid) is not None or _title(pid).startswith(_TITLE)


def _kill_tree(pid: int) -> None:
    """Kill a process and all below it, those too that it started meanwhile."""
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = [each for each in _tree(pid) if each not in killed]
        if not found:
            return
        for each in found:
            _kill(each)
        killed.update(found)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in children_of(pid):
        yield from _tree(child)


def _kill(pid: int) -> None:
    """Kill it, and nobody who got its number meanwhile."""
    born = born_at(pid)
    if not born:
        return
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if born_at(pid) == born:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
