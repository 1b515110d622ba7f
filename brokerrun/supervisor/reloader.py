"""`up --watch`: a process of its own asks the supervisor to reload when code or file change.

The watcher's native thread stays out of everybody else. It opens no store and loads no user code.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from typing import Any, Final

import msgspec
from setproctitle import setproctitle

from brokerrun.supervisor.logs import logger, set_up_logs
from brokerrun.supervisor.processes import die_with
from brokerrun.supervisor.spec import Config

_AGAIN_SECONDS: Final = 2.0  # after it ended: a folder may have vanished for a moment
_DEBOUNCE_MS: Final = 400  # an editor and a checkout write in bursts
_MOST_NAMED: Final = 3


class Watched(msgspec.Struct, frozen=True):
    """What the process is told: whom to ask, and what to watch."""

    supervisor: int
    file: str
    folders: list[str]
    log: str
    log_level: str


class Reloader:
    """The supervisor's end: starts the process, and starts it again when it ends."""

    def __init__(self, config: Config, selector: selectors.BaseSelector, log: Any):
        spec = config.instance
        folders = _outermost([config.folder, *(worker.cwd for worker in config.workers)])
        self._watched = Watched(os.getpid(), config.path, folders, spec.log, spec.log_level)
        self._selector, self._log = selector, log
        self._start_at = 0.0
        self.pid = 0

    def tick(self, now: float) -> None:
        """Start it where its time has come."""
        if now >= self._start_at:
            self._start_at = float("inf")
            self.pid = start(self._watched)
            pidfd = os.pidfd_open(self.pid)
            self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._ended(pidfd))

    def _ended(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self.pid = 0
        self._start_at = time.monotonic() + _AGAIN_SECONDS
        self._log.warning("reloader_ended", again=_AGAIN_SECONDS)


def start(watched: Watched) -> int:
    """Start the process by exec; return its pid. It ends with its parent."""
    told = msgspec.json.encode(watched).decode()
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "brokerrun.supervisor.reloader", told],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setpgroup=0,
        setsigmask=(),
    )


def main(told: str) -> int:
    """Watch until the supervisor is gone; each change of code or file is one SIGHUP to it."""
    from watchfiles import PythonFilter, watch

    watched = msgspec.json.decode(told, type=Watched)
    if not die_with(watched.supervisor):
        return 1
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    setproctitle("brokerrun: reloader")
    set_up_logs(watched.log, watched.log_level)
    log, python = logger(), PythonFilter()
    changes = watch(
        *watched.folders,
        # Of the folder's other files the database changes with each message.
        watch_filter=lambda change, path: path == watched.file or python(change, path),
        debounce=_DEBOUNCE_MS,
    )
    for changed in changes:
        names = sorted({os.path.relpath(path, watched.folders[0]) for _, path in changed})
        log.info("files_changed", count=len(names), files=",".join(names[:_MOST_NAMED]))
        if os.getppid() != watched.supervisor:
            break
        os.kill(watched.supervisor, signal.SIGHUP)
    return 0


def _outermost(folders: list[str]) -> list[str]:
    """Leave out what lies in another of them, and what is twice there."""
    kept: list[str] = []
    for folder in sorted(set(folders), key=len):
        if not any(folder.startswith(os.path.join(outer, "")) for outer in kept):
            kept.append(folder)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
