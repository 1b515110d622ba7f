"""What the tests share: facts awaited with a deadline, and real children."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection as Talk
from typing import Any, TypeVar

Answer = TypeVar("Answer")
_children: list[Child] = []


def eventually(fact: Callable[[], Answer], within: float = 5) -> Answer:
    """Return the fact as soon as it is true.

    Raises:
        AssertionError: It was not, for *within* seconds.
    """
    deadline = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {within} s: {fact}"
        time.sleep(0.002)
    return found


class Child:
    """A forked process that does one piece of work and leaves by `os._exit`."""

    def __init__(self, work: Callable[[Talk], object]):
        self._talk, theirs = Pipe()
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._talk.close()
            _live(work, theirs)
        theirs.close()
        _children.append(self)

    def say(self, word: object) -> None:
        """Send something that the work receives by `recv`."""
        self._talk.send(word)

    def hear(self, within: float = 20) -> Any:
        """Return the next thing that the work sent."""
        assert self._talk.poll(within), f"child {self.pid} said nothing for {within} s"
        return self._talk.recv()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL the child is gone when this returns."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def wait(self, within: float = 20) -> int:
        """Return the exit status, or minus the signal."""
        eventually(lambda: self._reap() is not None, within)
        assert self.status is not None
        return self.status

    def ends_well(self, within: float = 20) -> None:
        """Wait until the work is done."""
        status = self.wait(within)
        assert status == 0, f"child ended with {status}"

    def close(self) -> None:
        """Kill it if it lives."""
        if self._reap() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self._talk.close()

    def _reap(self) -> int | None:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status


def end_children() -> None:
    """Kill and reap all that a test left."""
    while _children:
        _children.pop().close()


def _live(work: Callable[[Talk], object], talk: Talk) -> None:
    status = 1
    try:
        work(talk)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def sleeps(pid: int) -> bool:
    """Tell whether the process waits in the kernel."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(") ")[2][0] == "S"
