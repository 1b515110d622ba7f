"""The supervisor: waits, reaps, carries out. It runs no user code and never forks.

One loop; every wait in it ends at the next deadline. Its store work is the keeper's. What it owes
when it is killed between any two lines: nothing. Its workers go with it, and a new one settles
what they held from their slots.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from setproctitle import setproctitle

import brokerrun
from brokerrun.core.model import Instance
from brokerrun.core.owners import new_guardian
from brokerrun.core.store import Store
from brokerrun.errors import StoreError, UsageError, WaitTimedOut
from brokerrun.supervisor.control import ControlServer, Reply, Request, socket_path
from brokerrun.supervisor.fleet import Fleet
from brokerrun.supervisor.journal import Journal
from brokerrun.supervisor.keeper import Keeper, recover_strangers
from brokerrun.supervisor.logs import RecentLines, logger
from brokerrun.supervisor.looks import LOOKS
from brokerrun.supervisor.processes import (
    adopt_orphans,
    boot_number,
    end_leftovers,
    hear,
    wake_pipe,
)
from brokerrun.supervisor.slot import Phase
from brokerrun.supervisor.slotfile import lay_out, lock, read_left, slots_path
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.strays import MARK, end_marked

TICK_SECONDS: Final = 0.2
_DRAIN_SECONDS: Final = 0.1
_SOON_SECONDS: Final = 0.01
_LEFTOVER_SECONDS: Final = 5.0
_RECOVERY_SECONDS: Final = 60.0
_STRAY_SECONDS: Final = 2.0
_PARTING_SECONDS: Final = 30.0  # beyond the longest grace, until we leave without the rest
DIED: Final = 4


class Unimportable(Exception):
    """Handlers that cannot be imported at the first start: (worker, reason)."""

    def __init__(self, faults: list[tuple[str, str]]):
        super().__init__(str(faults))
        self.faults = faults


class Supervisor:
    """One run of `brokerrun up`.

    drain: End once everything ready is handled, and every retry that is still to come.
    """

    def __init__(self, config: Config, *, drain: bool = False):
        self.config, self.drain = config, drain
        self.log = Journal(logger(), config.instance.name)
        self.lines = RecentLines()
        self.selector = selectors.DefaultSelector()
        self.database, self.name = config.instance.database, config.instance.name
        self.guardian = new_guardian()
        self.soon: list[Callable[[], bool]] = []  # asked every few milliseconds until they say yes
        self.status_askers: list[Reply] = []
        self._signals: list[int] = []
        self._stopping_at: float | None = None
        self._drained = self._asked = False
        self._mark, self._ask_at = 0, 0.0

    def run(self) -> int:
        """Run until told to stop, or drained; return the exit status.

        Raises:
            AlreadyRunning: Another supervisor has this database and name.
            Unimportable: A handler cannot be imported; nothing was claimed.
            StoreError: The store cannot be used.
        """
        path = slots_path(self.database, self.name)
        slots_fd = lock(path)
        setproctitle(f"brokerrun: supervisor {self.name}")
        adopt_orphans()
        os.environ.pop(MARK, None)  # of the worker that started us: what we start is ours
        _open_many_files()
        self._hear_signals()
        policies = {spec.queue: spec.policy() for spec in self.config.workers}
        self.keeper = Keeper(self.database, self.guardian, policies, self.config.instance.history)
        self._watch(self.keeper.fd, self.keeper.answers)
        self.fleet = Fleet(self.config, self.selector, self.keeper, path, self.log)
        self.keeper.start()
        control = None
        try:
            control = self._listen()
            self.fleet.templates.start()
            self._recover(slots_fd, policies)
            if not self._until(self.fleet.templates.imported, self._boot_timeout()):
                raise Unimportable(self._slow_imports())
            if faults := self.fleet.templates.faults() if not self.stopping else []:
                raise Unimportable(faults)
            if not self.stopping:
                self.fleet.start(lay_out(slots_fd, len(self.fleet.roster.places), boot_number()))
                self._say_started()
            return self._loop()
        finally:
            self._leave(control)

    # -------------------------------------------------------------------------------- starting

    def _recover(self, slots_fd: int, policies: dict[str, Any]) -> None:
        """End what our predecessor left running, then settle what it held. In that order."""
        left = read_left(slots_fd)
        if left.boot == boot_number():
            known = [(seen.pid, seen.born) for seen in left.slots.values() if seen.pid]
            for pid in end_leftovers(known, _LEFTOVER_SECONDS):
                self.log.error("leftover_lives_on", pid=pid)
            end_marked(left.slots)
        done: list[int] = []

        def job(store: Store) -> int:
            self._mark = store.last_attempt()
            return recover_strangers(store, self.database, self.guardian, policies)

        self.keeper.ask(job, done.append)
        if not self._until(lambda: bool(done), _RECOVERY_SECONDS):
            raise WaitTimedOut(f"{self.database}: recovery took over {_RECOVERY_SECONDS:g} s")
        if done and done[0]:
            self.log.info("messages_recovered", count=done[0])

    def _until(self, fact: Callable[[], bool], within: float) -> bool:
        """Serve the loop until *fact*; True also where we are told to stop meanwhile."""
        deadline = time.monotonic() + within
        while not (fact() or self.stopping):
            if time.monotonic() > deadline:
                return False
            self._serve(0.05)
        return True

    def _boot_timeout(self) -> float:
        return max(spec.boot_timeout for spec in self.config.workers)

    def _slow_imports(self) -> list[tuple[str, str]]:
        why = f"the import took over {self._boot_timeout():g} s"
        return [(worker, why) for worker in self.fleet.templates.slow()]

    def _listen(self) -> ControlServer:
        spec = self.config.instance
        path = socket_path(spec.runtime_dir, self.database, self.name)
        control = ControlServer(path, spec.control_mode, self.selector, self._answer)
        self.instance = Instance(
            name=self.name,
            host=socket.gethostname(),
            owner=self.guardian,
            pid=os.getpid(),
            socket=path,
            version=brokerrun.__version__,
            started_at=time.time_ns(),
            workers=",".join(f"{s.name}={s.processes}" for s in self.config.workers),
        )
        row = self.instance
        self.keeper.ask(lambda store: store.put_instance(row))
        return control

    def _say_started(self) -> None:
        self.log.info(
            "supervisor_started",
            name=self.name,
            pid=os.getpid(),
            database=self.database,
            workers=self.instance.workers,
        )

    # -------------------------------------------------------------------------------- the loop

    def _loop(self) -> int:
        while not (self.stopping and self.fleet.roster.all_in(Phase.DOWN)):
            if self._overstayed():
                self.log.error("supervisor_left", why="processes could not be ended")
                return 1
            self._serve(self._pause())
            self.fleet.tick()
            self._keep_events()
            if self.drain and not self.stopping:
                self._look_whether_drained()
        return self._deaths() if self._drained else 0

    def _keep_events(self) -> None:
        if events := self.log.take():
            self.keeper.ask(lambda store: store.add_events(events))

    def _serve(self, seconds: float) -> None:
        seconds = min(seconds, _SOON_SECONDS) if self.soon else seconds
        for key, _ in self.selector.select(max(seconds, 0)):
            key.data()
        waiting, self.soon = self.soon, []
        self.soon += [look for look in waiting if not look()]
        while self._signals:
            self._heard(self._signals.pop(0))
        if self.keeper.failure is not None:
            self.log.error("store_failed", error=str(self.keeper.failure))
            self.fleet.stop()
            self.fleet.stop()  # at once: nothing can be settled any more
            raise self.keeper.failure

    def _pause(self) -> float:
        due = min(self.fleet.roster.next_deadline(), self.fleet.look_at) - time.monotonic()
        return min(due, _DRAIN_SECONDS if self.drain else TICK_SECONDS)

    @property
    def stopping(self) -> bool:
        return self._stopping_at is not None

    def _overstayed(self) -> bool:
        grace = max(spec.grace for spec in self.config.workers)
        return (
            self._stopping_at is not None
            and time.monotonic() > self._stopping_at + grace + _PARTING_SECONDS
        )

    def _stop(self, why: str) -> None:
        """Claim no more, finish within grace; said again: at once."""
        if self._stopping_at is None:
            self._stopping_at = time.monotonic()
            self.log.info("supervisor_stopping", why=why)
        self.fleet.stop()

    def _look_whether_drained(self) -> None:
        if self._asked or time.monotonic() < self._ask_at:
            return
        self._asked, self._ask_at = True, time.monotonic() + _DRAIN_SECONDS
        queues = [spec.queue for spec in self.config.workers]

        def then(unfinished: bool) -> None:
            self._asked = False
            if not unfinished and not self.stopping:
                self._drained = True
                self._stop("drained")

        self.keeper.ask(lambda store: store.unfinished(queues), then)

    def _deaths(self) -> int:
        """Return the exit status of a drain: whether messages died in it."""
        queues, mark = [spec.queue for spec in self.config.workers], self._mark
        found: list[int] = []
        self.keeper.ask(lambda store: store.died_since(mark, queues), found.append)
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while not found and self.keeper.is_alive() and time.monotonic() < deadline:
            self._serve(0.05)
        if not found:
            raise StoreError(f"{self.database}: did not say whether messages died")
        self.log.info("drained", dead=found[0])
        return DIED if found[0] else 0

    # --------------------------------------------------------------------------------- signals

    def _hear_signals(self) -> None:
        """The handlers note the signal and wake the loop, no more."""
        wake_fd, write_fd = wake_pipe()
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        self._watch(wake_fd, lambda: hear(wake_fd))
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(signum, lambda number, frame: self._signals.append(number))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _heard(self, signum: int) -> None:
        if signum == signal.SIGCHLD:
            self.fleet.reap()
        elif signum in (signal.SIGTERM, signal.SIGINT):
            self._stop(signal.Signals(signum).name)

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, callback)

    # --------------------------------------------------------------------------------- control

    def _answer(self, request: Request, reply: Reply) -> None:
        match request.get("do"):
            case "down":
                self._stop("down")
                if request.get("now"):
                    self._stop("down now")
                reply({"pid": os.getpid()})
            case str(look) if look in LOOKS:
                LOOKS[look](self, request, reply)
            case other:
                known = ", ".join(["down", *LOOKS])
                raise UsageError(f"unknown request {other!r}: expected one of {known}")

    # --------------------------------------------------------------------------------- leaving

    def _leave(self, control: ControlServer | None) -> None:
        self.fleet.templates.close()
        for pid in self.fleet.strays.end_all(_STRAY_SECONDS):
            self.log.error("stray_lives_on", pid=pid)
        if control is not None:
            ended = self.instance._replace(stopped_at=time.time_ns())
            self.keeper.ask(lambda store: store.put_instance(ended))
        self.log.keep("supervisor_stopped", name=self.name)
        self._keep_events()
        self.keeper.finish(_PARTING_SECONDS)
        if control is not None:
            control.close()
        self.log.info("supervisor_stopped", name=self.name)
        sys.stdout.flush()


def _open_many_files() -> None:
    """Each worker costs two descriptors here: take what the hard limit allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
