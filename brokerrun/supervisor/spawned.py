"""A worker that is started by exec, where nothing may be forked: it imports its handler itself.

To the supervisor it is as one that was forked: it says who it is, says hello, and waits for the go.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import suppress

import msgspec

from brokerrun.supervisor import wire
from brokerrun.supervisor.accounts import become
from brokerrun.supervisor.logs import logger, set_up_logs
from brokerrun.supervisor.processes import die_with
from brokerrun.supervisor.template import be_worker, load

_CHANNEL, _DUMP = 3, 4


def main() -> int:
    """Be the worker that standard input describes; return the exit status."""
    told = msgspec.json.decode(sys.stdin.buffer.read(), type=wire.Spawned)
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    fds = list(range(_CHANNEL, _CHANNEL + told.fds))
    for fd in fds:
        os.set_inheritable(fd, False)
    if told.setup.account is not None:
        become(told.setup.account)
    if not die_with(told.setup.supervisor):
        return 1
    set_up_logs(told.setup.log, told.setup.log_level)
    faulthandler.register(signal.SIGUSR1, file=_DUMP, all_threads=True)  # where an import hangs
    os.write(_CHANNEL, msgspec.json.encode(wire.Forked(os.getpid())))
    handlers, faults, _ = load(told.setup)
    name = told.request.spec.name
    if faults:
        logger().error("worker_import_failed", worker=name, error=faults[0][1])
        return 78
    return be_worker(told.request, fds, handlers[name], told.setup)


if __name__ == "__main__":
    status = 70
    try:
        with suppress(ConnectionError):  # the supervisor is gone
            status = main()
    finally:
        os._exit(status)
