"""The descriptors that a new worker is given, and those that its supervisor keeps of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from brokerrun.supervisor.place import Place, Process
from brokerrun.supervisor.printing import Printing
from brokerrun.supervisor.slotfile import SlotFile

_SPARE: Final = 8  # that a worker more has to leave to its supervisor


@contextmanager
def equipped(
    place: Place, slots: SlotFile, printing: Printing
) -> Iterator[tuple[Process, list[int]]]:
    """Yield what is kept, and what is to be given; that is closed at the end.

    Raises:
        OSError: There are too few descriptors for it, and some of our own; it has none then.
    """
    with ExitStack() as kept, ExitStack() as given:

        def give(fd: int) -> int:
            given.callback(os.close, fd)
            return fd

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept.enter_context(ours)
        given.enter_context(theirs)
        process = Process(ours, os.memfd_create("dump"))
        kept.callback(process.close)
        fds = [theirs.fileno(), process.dump_fd, give(slots.open_for_worker())]
        fds += map(give, printing.open(place.index, place.spec, place.number))
        for _ in range(_SPARE):
            give(os.dup(process.dump_fd))
        yield process, fds
        kept.pop_all()
