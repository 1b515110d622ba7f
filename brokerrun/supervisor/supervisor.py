"""The supervisor: waits, reaps, carries out. It runs no user code and never forks.

One loop; every wait in it ends at the next deadline. Its store work is the keeper's. What it owes
when it is killed between any two lines: nothing. Its workers go with it, and a new one settles
what they held from their slots.
"""

from __future__ import annotations

import os
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
from brokerrun.errors import StoreError, WaitTimedOut
from brokerrun.supervisor.backlogs import Backlogs
from brokerrun.supervisor.beginning import Beginning
from brokerrun.supervisor.control import ControlServer, Reply, socket_path
from brokerrun.supervisor.fleet import Fleet
from brokerrun.supervisor.journal import Journal
from brokerrun.supervisor.keeper import Keeper, recover_strangers
from brokerrun.supervisor.logs import RecentLines, logger
from brokerrun.supervisor.parting import PARTING_SECONDS, Parting
from brokerrun.supervisor.pauses import Pauses
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.processes import (
    adopt_orphans,
    boot_number,
    end_leftovers,
    hear,
    wake_pipe,
)
from brokerrun.supervisor.reload import Reload
from brokerrun.supervisor.reloader import Reloader
from brokerrun.supervisor.slot import Phase
from brokerrun.supervisor.slotfile import lay_out, read_left
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.strays import end_marked
from brokerrun.supervisor.systemd import Facts, describe
from brokerrun.supervisor.templates import Templates, Unimportable
from brokerrun.supervisor.verbs import answer
from brokerrun.supervisor.waits import Emptied, Waits

TICK_SECONDS: Final = 0.2
_EVENTS_SECONDS: Final = 0.2  # longest that an event waits for others
_DRAIN_SECONDS: Final = 0.1
_SOON_SECONDS: Final = 0.01
_LEFTOVER_SECONDS: Final = 5.0
_RECOVERY_SECONDS: Final = 60.0
_STRAY_SECONDS: Final = 2.0
_LAST_WORDS_SECONDS: Final = 3.0  # to write what handlers printed
_RELOAD_SECONDS: Final = 120.0
DIED: Final = 4
FAILED: Final = 70


class Supervisor:
    """One run of `brokerrun up`.

    drain: End once everything ready is handled, and every retry that is still to come.
    watch: Reload when the code or the file changes.
    """

    def __init__(
        self, config: Config, beginning: Beginning, *, drain: bool = False, watch: bool = False
    ):
        self.config, self.drain = config, drain
        self.manager, self._beginning = beginning.manager, beginning
        self.log = Journal(logger(), config.instance.name)
        self.lines = RecentLines()
        self.selector = selectors.DefaultSelector()
        self.database, self.name = config.instance.database, config.instance.name
        self.guardian = new_guardian()
        self.soon: list[Callable[[], bool]] = []  # asked every few milliseconds until they say yes
        self.status_askers: list[Reply] = []
        self.reloader = Reloader(config, self.selector, self.log) if watch else None
        self._signals: list[int] = []
        self._parting = Parting()
        self._drained = self._failed = self._hung_up = False
        self._mark = 0
        self.waits = Waits()
        self.reloading: Reload | None = None

    def run(self) -> int:
        """Run until told to stop, or drained; return the exit status.

        Raises:
            Unimportable: A handler cannot be imported; nothing was claimed.
            StoreError: The store cannot be used.
        """
        setproctitle(f"brokerrun: supervisor {self.name}")
        adopt_orphans()
        self._hear_signals()
        policies = self.config.policies()
        self._set_up(policies)
        control, slots_fd = None, self._beginning.slots_fd
        try:
            control = self._listen()
            self.fleet.templates.start(self._beginning.blanks)
            self.pauses.recall()
            self._recover(slots_fd, policies)
            self._await_imports()
            if not self.stopping:
                self.keeper.schedule(self.config.schedules, once=self.drain)
                slots = max(len(self.fleet.roster.places), 1)
                self.fleet.start(lay_out(slots_fd, slots, boot_number()))
                self._say_started()
            return self._loop()
        finally:
            self._leave(control)

    # -------------------------------------------------------------------------------- starting

    def _set_up(self, policies: dict[str, Any]) -> None:
        history = self.config.instance.history
        self.keeper = Keeper(self.database, self.guardian, policies, history, self.log)
        self._watch(self.keeper.fd, self.keeper.answers)
        self.fleet = Fleet(
            self.config,
            self.selector,
            self.keeper,
            self.log,
            looped=self._looped,
            helpers=self.helpers,
        )
        roster, host = self.fleet.roster, socket.gethostname()
        self._backlogs = Backlogs(roster, self.keeper, self.log, self.fleet.busy)
        self.pauses = Pauses(roster, self.keeper, self.log, self.name, host)
        self._emptied = Emptied(self.keeper, roster.served)
        self.keeper.start()

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

    def _await_imports(self) -> None:
        templates, patience = self.fleet.templates, max(s.boot_timeout for s in self.config.workers)
        if not self._until(templates.imported, patience):
            why = f"the import took over {patience:g} s"
            raise Unimportable([(worker, why) for worker in templates.slow()], templates.traces())
        if faults := [] if self.stopping else templates.faults():
            raise Unimportable(faults, templates.traces())

    def _listen(self) -> ControlServer:
        spec = self.config.instance
        path = socket_path(spec.runtime_dir, self.database, self.name)
        control = ControlServer(
            path, spec.control_mode, self.selector, lambda asked, reply: answer(self, asked, reply)
        )
        self.instance = Instance(
            name=self.name,
            host=socket.gethostname(),
            owner=self.guardian,
            pid=os.getpid(),
            socket=path,
            version=brokerrun.__version__,
            started_at=time.time_ns(),
            workers=self.fleet.roster.wanted(),
        )
        self._put_instance()
        return control

    def _put_instance(self, **changes: Any) -> None:
        row = self.instance = self.instance._replace(**changes)
        self.keeper.ask(lambda store: store.put_instance(row))

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
            if self._parting.overstayed(time.monotonic(), self.config.grace):
                self.log.error("supervisor_left", why="processes could not be ended")
                return 1
            self._serve(self._pause())
            self._look_whether_settled()
            self._backlogs.look()
            self.fleet.tick()
            self.waits.look()
            if (workers := self.fleet.roster.wanted()) != self.instance.workers:
                self._put_instance(workers=workers)
            self._keep_events(_EVENTS_SECONDS)
            self.lines.tell()
            if self.reloader is not None:
                self.reloader.tick(time.monotonic())
            if self.drain and not self.stopping:
                self._look_whether_drained()
        if self._failed:
            return FAILED
        return self._deaths() if self._drained else 0

    def helpers(self) -> set[int]:
        """List the pids of our children that neither work nor fork nor write."""
        return {self.reloader.pid} if self.reloader is not None else set()

    def _keep_events(self, after: float = 0.0) -> None:
        """Store what happened: together, for each write wakes every idle worker."""
        if events := self.log.take(after):
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
        if self.manager.listens:
            self.manager.tell(self._facts())

    def _facts(self) -> Facts:
        places = self.fleet.roster.places
        return Facts(
            now=time.monotonic(),
            ready=self.fleet.slots is not None and self.fleet.roster.booted,
            stopping=self.stopping,
            status=describe(places, stopping=self.stopping),
            beats=self.keeper.beats,
        )

    def _pause(self) -> float:
        due = min(self.fleet.roster.next_deadline(), self.fleet.look_at) - time.monotonic()
        return min(due, _DRAIN_SECONDS if self.drain else TICK_SECONDS)

    @property
    def stopping(self) -> bool:
        return self._parting.begun

    def _look_whether_settled(self) -> None:
        """Leave what the dead held, where the store does not take it, to the next start: their
        slots say what that was, as if we had been killed."""
        all_dead = self.fleet.roster.all_in(Phase.DOWN, Phase.SETTLING)
        if self._parting.unsettled(time.monotonic(), all_dead=all_dead):
            self.keeper.give_up()

    def stop(self, why: str) -> None:
        """Claim no more, finish within grace; said again: at once."""
        if self._parting.tell(time.monotonic()):
            self.log.info("supervisor_stopping", why=why)
        self.fleet.stop()

    def _look_whether_drained(self) -> None:
        if (fault := self.fleet.templates.broken()) is not None:
            self._fail(f"cannot be drained: {fault}")
        elif self._emptied():
            self._drained = True
            self.stop("drained")

    def _deaths(self) -> int:
        """Return the exit status of a drain: whether messages died in it."""
        queues, mark = self.fleet.roster.served(), self._mark
        found: list[int] = []
        self.keeper.ask(lambda store: store.died_since(mark, queues), found.append)
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while not found and self.keeper.is_alive() and time.monotonic() < deadline:
            self._serve(0.05)
        if not found:
            raise StoreError(f"{self.database}: did not say whether messages died")
        if found[0]:  # the one line that a cron job with nothing else to say prints
            self.log.error("drained", dead=found[0], advice="see `brokerrun status`")
            return DIED
        self.log.info("drained", dead=0)
        return 0

    # ------------------------------------------------------------------------------- new configs

    def reload(
        self,
        reply: Reply,
        *,
        dry: bool = False,
        roll: bool = False,
        within: float = _RELOAD_SECONDS,
    ) -> None:
        """Be what the file says by now, after any reload that is under way."""
        reload = Reload(self, reply, dry=dry, roll=roll, within=within)

        def begin() -> None:
            self._hung_up = False
            reload.begin()

        self.waits.add(
            lambda: self.reloading is None and self.fleet.slots is not None,
            begin,
            reply,
            within,
            f"another reload is under way after {within:g} s",
        )

    def adopt(self, config: Config, templates: Templates) -> None:
        """Go by this file from now on."""
        self.config = config
        self.keeper.learn(config.policies(), config.instance.history)
        self.keeper.schedule(config.schedules, once=self.drain)
        self.fleet.adopt(config, templates)

    # ----------------------------------------------------------------------------- crash loops

    def _looped(self, place: Place) -> None:
        """Do what `on_crash_loop` says; a drain would wait for ever."""
        policy, why = self.config.instance.on_crash_loop, f"{place.name}: {place.reason}"
        crew = self.fleet.roster.crews[place.spec.name]
        if self.stopping or crew.paused:
            return
        if self.drain or policy == "exit":
            self._fail(f"crash loop of {why}")
        elif policy == "pause":
            self.pauses.set([crew], why=f"crash loop of {why}")

    def _fail(self, why: str) -> None:
        """End the run with the status of failure."""
        self._failed = True
        self.log.error("supervisor_failed", why=why)
        self.stop(why)

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
            self.stop(signal.Signals(signum).name)
        elif signum == signal.SIGHUP and not self._hung_up:
            self._hung_up = True  # until it begins: the file is read only then
            self.reload(lambda answer: True)

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, callback)

    # --------------------------------------------------------------------------------- leaving

    def _leave(self, control: ControlServer | None) -> None:
        self.manager.leave(PARTING_SECONDS)
        self.fleet.templates.close()
        for pid in self.fleet.strays.end_all(_STRAY_SECONDS):
            self.log.error("stray_lives_on", pid=pid)
        self.fleet.printing.finish(_LAST_WORDS_SECONDS)
        if control is not None:
            self._put_instance(stopped_at=time.time_ns())
        self.log.keep("supervisor_stopped", name=self.name)
        self._keep_events()
        self.keeper.finish(PARTING_SECONDS)
        if control is not None:
            control.close()
        self.log.info("supervisor_stopped", name=self.name)
        sys.stdout.flush()
