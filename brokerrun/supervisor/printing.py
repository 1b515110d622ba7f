"""The supervisor's end of the scribe: gives it the pipes that workers print into."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from brokerrun.supervisor import wire
from brokerrun.supervisor.processes import await_end
from brokerrun.supervisor.spec import INHERIT, WorkerSpec

_AGAIN_SECONDS: Final = 1.0  # between two starts of a scribe


@dataclass(slots=True)
class Pipes:
    """The read ends of one living worker: held here too, so that no handler meets a broken pipe."""

    prints: wire.Prints
    fds: list[int]
    sent: bool = False


@dataclass(slots=True)
class Printing:
    """What workers print, where it is not simply inherited. Nothing is started without need."""

    selector: selectors.BaseSelector
    log: Any
    _pipes: dict[int, Pipes] = field(default_factory=dict)  # by the index of the place
    _link: socket.socket | None = None
    pid: int = 0  # of the scribe; 0: none was started
    _started_at: float = float("-inf")

    def open(self, index: int, spec: WorkerSpec, number: int) -> list[int]:
        """Return where that worker's process prints, its output and its errors: two write ends,
        or none, where it prints where we do. The caller closes them.

        Raises:
            OSError: There are too few descriptors for them.
        """
        if spec.output == INHERIT:
            return []
        self.close(index)
        fds: list[int] = []
        try:
            for _ in ("output", "errors"):
                fds += os.pipe2(os.O_CLOEXEC)
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        out, out_end, err, err_end = fds
        self._pipes[index] = Pipes(_prints(spec, number), [out, err])
        self.tick()
        return [out_end, err_end]

    def close(self, index: int) -> None:
        """Its process is gone: the scribe copies the rest."""
        pipes = self._pipes.pop(index, None)
        for fd in pipes.fds if pipes else []:
            os.close(fd)

    def tick(self) -> None:
        """Start a scribe where one is needed, and give it what it has not got."""
        if self._pipes and self._link is None:
            with suppress(OSError):  # there are too few descriptors: again at a later tick
                self._start()
        for pipes in self._pipes.values():
            if self._link is None or pipes.sent:
                continue
            with suppress(OSError):  # it is slow, or gone: again at the next tick
                socket.send_fds(self._link, [msgspec.json.encode(pipes.prints)], pipes.fds)
                pipes.sent = True

    def finish(self, within: float) -> None:
        """Let the scribe copy what is left, and end."""
        for index in list(self._pipes):
            self.close(index)
        self._drop()
        try:
            await_end(self.pid, within)
        except TimeoutError:
            self.log.error("scribe_lives_on", pid=self.pid)

    def _start(self) -> None:
        if time.monotonic() < self._started_at + _AGAIN_SECONDS:
            return
        self._started_at = time.monotonic()
        link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as undo:
            undo.callback(link.close)
            self.pid = _start(theirs)
            undo.pop_all()
        self._link = link
        self._link.setblocking(False)
        self.selector.register(self._link, selectors.EVENT_READ, self._lost)

    def _lost(self) -> None:
        """It says nothing: readable is gone."""
        self.log.error("scribe_died", pid=self.pid)
        self._drop()
        for pipes in self._pipes.values():
            pipes.sent = False
        self.tick()

    def _drop(self) -> None:
        if self._link is not None:
            self.selector.unregister(self._link)
            self._link.close()
            self._link = None


def _prints(spec: WorkerSpec, number: int) -> wire.Prints:
    form, _, path = spec.output.partition(":")
    file = path.replace("{worker}", spec.name).replace("{slot}", str(number))
    return wire.Prints(worker=spec.name, slot=number, form=form, file=file)


def _start(link: socket.socket) -> int:
    """Start it by exec, with our standard output and error, and the link as descriptor 3."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "brokerrun.supervisor.scribe"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, link.fileno(), 3),
        ],
        setpgroup=0,
        setsigmask=(),
    )
