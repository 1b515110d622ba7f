"""A worker's standard streams: where what its handler prints goes, and when."""

from __future__ import annotations

import io
import os
import sys

from brokerrun.supervisor.logs import log_to


def print_into(fds: list[int]) -> None:
    """Print into these, output and errors, from now on; subprocesses too. They are used up.

    Our own log lines still go where they went. Without *fds* nothing is led elsewhere. In both
    cases a line is written when it is complete, and with *fds* all that is printed at once: who is
    killed has printed it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # an import may have put something else there
        sys.stdout.reconfigure(line_buffering=True)
    if not fds:
        return
    log_to(os.dup(2))
    for number, fd in enumerate(fds, 1):
        os.dup2(fd, number)
        os.close(fd)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _at_once(sys.stdout)


class _Unbuffered(io.BufferedWriter):
    """Passes on at once, and all of it: a raw file may take a part only when a signal comes."""

    def write(self, data: object) -> int:
        taken = super().write(data)  # type: ignore[arg-type]
        self.flush()
        return taken


def _at_once(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = io.FileIO(1, "w", closefd=False)
    return io.TextIOWrapper(
        _Unbuffered(raw), encoding=stream.encoding, errors=stream.errors, write_through=True
    )
