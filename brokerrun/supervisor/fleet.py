"""The fleet: carries out what the roster decides, and tells it what happens."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from brokerrun.core.model import Settlement
from brokerrun.core.owners import worker_owner
from brokerrun.core.retry import acknowledge, release
from brokerrun.errors import StoreError
from brokerrun.supervisor import wire
from brokerrun.supervisor.aftermath import Aftermath
from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.equipment import equipped
from brokerrun.supervisor.fate import FOR_ITS_MESSAGE, Cause
from brokerrun.supervisor.keeper import Keeper
from brokerrun.supervisor.place import NEVER, Place, Process
from brokerrun.supervisor.printing import Printing
from brokerrun.supervisor.processes import born_at, is_stopped, strike_group
from brokerrun.supervisor.restraints import Restraints
from brokerrun.supervisor.roster import Roster
from brokerrun.supervisor.slot import Act, Phase, Signal
from brokerrun.supervisor.slotfile import InHand, SlotFile
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.stacks import ask_stack, read_stack
from brokerrun.supervisor.strays import Strays
from brokerrun.supervisor.templates import Template, Templates

LONG_SECONDS: Final = 1.0  # in hand that long, a message frees those behind it


class Fleet:
    """Templates, workers and their places.

    looped: Is told of each death in a crash loop.
    helpers: Lists the pids of further children of the supervisor: they are no strays.
    look_at: Monotonic seconds when a message in hand is over its timeout, at the soonest.
    """

    def __init__(
        self,
        config: Config,
        selector: selectors.BaseSelector,
        keeper: Keeper,
        log: Any,
        *,
        looped: Callable[[Place], None],
        helpers: Callable[[], set[int]] = set,
    ):
        self.config, self.selector, self.keeper, self.log = config, selector, keeper, log
        self.roster = Roster(
            config.workers, config.instance.crash_limit, config.instance.crash_backoff
        )
        self.templates = Templates(config, selector, log, lost=self._template_lost)
        self.printing = Printing(selector, log)
        self.restraints = Restraints(log)
        self.aftermath = Aftermath(self.roster, keeper, log, seen=self._seen, looped=looped)
        self.strays = Strays(self._own_pids)
        self.slots: SlotFile | None = None
        self.look_at = NEVER
        self._helpers = helpers
        self._stopping = False
        self._processes: dict[int, Process] = {}  # by the index of the place
        self._owners = 0
        self._actions: dict[Act, Callable[[Place], None]] = {
            Act.SPAWN: self._spawn,
            Act.GO: self._go,
            Act.TERM: lambda place: self._send(place, signal.SIGTERM),
            Act.KILL: self._kill,
            Act.DUMP: self._dump,
            Act.SETTLE: self.aftermath.settle,
        }

    # ------------------------------------------------------------------------------ from above

    def start(self, slots: SlotFile) -> None:
        """Start every place; the templates are ready."""
        self.slots = slots
        self.templates.serving = True
        codes = self.templates.codes()
        for name, crew in self.roster.crews.items():
            crew.become(crew.spec, codes.get(name, ""))
        self._step()

    def adopt(self, config: Config, templates: Templates) -> None:
        """Fork from these templates from now on; they are ready."""
        self.config = config
        self.templates.close()
        self.templates, templates.serving = templates, True
        self.roster.limit = config.instance.crash_limit
        self.roster.backoff = config.instance.crash_backoff

    def stop(self) -> None:
        """Tell all to end, each after those that come after it; said again: at once."""
        if self._stopping:
            self.end_now(self.roster.places)
        self._stopping = True
        self._step()

    def tick(self) -> None:
        """Do what is due, and look at what is in hand."""
        now = time.monotonic()
        self.look_at = NEVER
        if self.slots is not None:
            self.slots.beat(time.monotonic_ns())
        for place, act in self.roster.tick(now):
            if act is Act.KILL:
                self._say_overdue(place)
            self._actions[act](place)
        for place in self.roster.places:
            if place.phase is Phase.BOOTING and place.index not in self._processes:
                self._spawn(place)
            if place.phase in (Phase.RUNNING, Phase.RETIRING):
                self._look_at(place, self._seen(place))
        self.templates.tick(now)
        self.printing.tick()
        self.strays.look()
        self._step()

    def end_now(self, places: list[Place]) -> None:
        """Kill these; others take their places. What they held is released unburned."""
        for place in places:
            if place.phase is not Phase.DOWN:
                self._tell(place, Signal.STOP)
            if place.phase is Phase.STOPPING:
                self._tell(place, Signal.STOP)

    def reap(self) -> None:
        """Collect who ended: workers, templates, and the orphans of handlers."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            place = self._place_of(ended.si_pid)
            if place is not None or self.templates.had(ended.si_pid):
                strike_group(ended.si_pid)  # while the pid cannot be anybody else's
            self._sweep(place)  # its children are ours already
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED)
            by_exit = ended.si_code == os.CLD_EXITED
            if place is not None:
                self._exited(
                    place,
                    ended.si_status if by_exit else None,
                    None if by_exit else ended.si_status,
                )

    def _sweep(self, ended: Place | None) -> None:
        living = {p.owner for p in self.roster.places if p.owner and p is not ended}
        self.strays.sweep(living, ended.name if ended is not None else None)

    def _own_pids(self) -> set[int]:
        workers = {place.pid for place in self.roster.places}
        workers |= {process.spawned for process in self._processes.values()}
        return workers | self.templates.unreaped | {self.printing.pid} | self._helpers()

    def seen(self, place: Place) -> InHand | None:
        """Read the slot of a place that is alive."""
        return self._seen(place) if place.alive else None

    def busy(self, crew: Crew) -> int:
        """Count the processes of a worker that have a message in hand."""
        slots = [self.seen(place) for place in crew.places]
        return sum(seen is not None and seen.busy for seen in slots)

    def cancel(
        self, place: Place, seen: InHand, cause: Cause, then: Callable[[Settlement | None], None]
    ) -> None:
        """End the message in hand as if it were over its timeout.

        *then* is given its settlement; None where it ended by itself meanwhile.
        """
        self.aftermath.tell(place, then)
        self._end_message(place, seen)
        place.cause = cause

    def dump_of(self, place: Place) -> int | None:
        """Return the file that a living worker writes its stack to."""
        process = self._processes.get(place.index)
        return process.dump_fd if process is not None and place.alive else None

    def _place_of(self, pid: int) -> Place | None:
        """Find the place of a worker, one too that has not said yet who it is."""
        for place in self.roster.places:
            process = self._processes.get(place.index)
            if pid == place.pid or (process is not None and pid == process.spawned):
                return place
        return None

    # -------------------------------------------------------------------------------- templates

    def _template_lost(self, template: Template, fault: str) -> None:
        """Whoever it just forked, and who has not said so, goes too."""
        for place in self.roster.places:
            asked = place.phase is Phase.BOOTING and place.index in self._processes
            if asked and not place.pid and place.spec.name in template.workers:
                place.reason = fault
                self._exited(place, None, None)

    # ------------------------------------------------------------------------------------ acts

    def _step(self) -> None:
        """Bring the places nearer to what they shall be, or to the end."""
        if self._stopping:
            steps = self.roster.last_steps()
        elif self.slots is not None:
            steps = self.roster.steps()
        else:
            return
        for place, what in steps:
            self._tell(place, what)

    def _tell(self, place: Place, what: Signal) -> None:
        for act in self.roster.signal(place, what, time.monotonic()):
            self._actions[act](place)

    def _spawn(self, place: Place) -> None:
        template = self.templates.of(place.spec.name)
        if template is None or self.slots is None:
            return  # at a tick when it is ready; or the boot timeout comes first
        try:
            self.slots.make_room(place.index + 1)
            self._owners += 1
            place.owner = worker_owner(self.keeper.guardian, self._owners)
            self.slots[place.index].reset(place.owner)
            self._request(place, template, self.slots)
        except (StoreError, OSError) as error:  # at a tick again, until the boot timeout
            place.reason = getattr(error, "strerror", None) or str(error)

    def _request(self, place: Place, template: Template, slots: SlotFile) -> None:
        """Have a worker made; where the template's link is full, at the next tick again.

        Raises:
            OSError: There are too few descriptors for it.
        """
        request = wire.Spawn(
            spec=place.spec,
            number=place.number,
            owner=place.owner,
            place=place.index,
            database=self.config.instance.database,
        )
        with equipped(place, slots, self.printing) as (process, fds):
            asked = template.spawn(request, fds)
        if asked is None:
            process.close()
            return
        process.channel.setblocking(False)
        process.spawned = asked
        self._processes[place.index] = process
        self.selector.register(
            process.channel, selectors.EVENT_READ, lambda: self._worker_spoke(place, process)
        )

    def _worker_spoke(self, place: Place, process: Process) -> None:
        """It was forked, says hello, or is gone; how it ended is for `reap` to say."""
        if self._processes.get(place.index) is not process:
            return  # its template ended in the same round of the loop
        try:
            data = process.channel.recv(1024)
        except OSError:
            data = b""
        said: wire.FromWorker | None = (
            msgspec.json.decode(data, type=wire.FromWorker) if data else None
        )
        if place.phase is not Phase.BOOTING:
            self._heard(place, process, said)
            return
        born = born_at(said.pid) if isinstance(said, wire.Forked | wire.Hello) else 0
        if not isinstance(said, wire.Forked | wire.Hello) or not born or self.slots is None:
            if place.pid or process.spawned:
                self.selector.unregister(process.channel)  # it is dead or dies: reap says how
            else:
                self._exited(place, None, None)
            return
        place.pid = said.pid
        self.slots[place.index].announce(said.pid, born)
        if isinstance(said, wire.Hello):
            self.restraints.hold(place.name, place.pid, place.spec)
            self._tell(place, Signal.READY)

    def _heard(self, place: Place, process: Process, said: wire.FromWorker | None) -> None:
        """Hear one that was ready: it wants a successor, or is gone."""
        if isinstance(said, wire.Worn):
            self.log.info("worker_worn", worker=place.name, pid=place.pid, why=said.why)
            place.make = None
        elif said is None:
            self.selector.unregister(process.channel)

    def _go(self, place: Place) -> None:
        try:
            self._processes[place.index].channel.send(wire.GO)
        except OSError:
            return  # it is gone; reap says how
        self.log.note("worker_ready", worker=place.name, pid=place.pid)

    def _send(self, place: Place, signum: int) -> None:
        """Signal a child: nobody else can have its pid before we reap it."""
        if place.pid:
            os.kill(place.pid, signum)

    def _dump(self, place: Place) -> None:
        process = self._processes.get(place.index)
        if place.pid and process is not None:
            process.stopped = is_stopped(place.pid)
            ask_stack(place.pid, process.dump_fd)

    def _kill(self, place: Place) -> None:
        """Kill it with its group; who has not said who it is sees its channel closed."""
        if place.pid:
            strike_group(place.pid)
            os.kill(place.pid, signal.SIGKILL)
        else:
            self._exited(place, None, None)

    def _say_overdue(self, place: Place) -> None:
        if place.phase is Phase.KILLING and place.cause is Cause.ITSELF:
            place.reason = f"not ready within boot_timeout = {place.spec.boot_timeout:g}s"
            self.log.error("worker_boot_timeout", worker=place.name, pid=place.pid or None)
            if not place.pid:
                self.templates.strike(place.spec.name)  # it hangs in a fork
        elif place.cause is Cause.STOP:
            self.log.warning("worker_killed", worker=place.name, pid=place.pid, why="grace is over")

    # --------------------------------------------------------------------------- death and after

    def _exited(self, place: Place, status: int | None, signum: int | None) -> None:
        """A worker is gone: have what it held settled."""
        process = self._processes.pop(place.index, None)
        self.printing.close(place.index)
        self.restraints.let_go(place.name, place.spec)
        dump, stopped = "", False
        if process is not None:
            if process.channel in self.selector.get_map():
                self.selector.unregister(process.channel)
            self._forgive(place, process)
            dump, stopped = read_stack(process.dump_fd), process.stopped
            process.close()
        self.aftermath.note(place, status, signum, dump, stopped=stopped)
        self._tell(place, Signal.EXITED)

    def _forgive(self, place: Place, process: Process) -> None:
        """What came in hand after the message that was late has done nothing."""
        seen = self._seen(place)
        in_hand = (seen.claim, seen.index) if seen is not None else None
        if place.cause in FOR_ITS_MESSAGE and in_hand != process.late:
            place.cause = Cause.STOP

    # ------------------------------------------------------------------------------ what is in hand

    def _seen(self, place: Place) -> InHand | None:
        """Read its slot; a place that was not asked for since its last death may have none."""
        if self.slots is None or not place.owner:
            return None
        seen = self.slots[place.index].read()
        return seen if seen is not None and seen.owner == place.owner else None

    def _look_at(self, place: Place, seen: InHand | None) -> None:
        """End a message that is over its timeout; free those behind one that takes long."""
        if seen is None or not seen.busy or self.slots is None:
            return
        now, process = time.monotonic_ns(), self._processes[place.index]
        seconds = (now - seen.started) / 1e9
        late_at = place.late_at(seen)
        if now > late_at:
            self._end_message(place, seen)
            return
        self.look_at = min(self.look_at, late_at / 1e9)
        if len(seen.ids) > 1 and seconds > LONG_SECONDS:
            if process.asked_back != seen.claim:
                self.slots[place.index].ask_back(seen.claim)
                process.asked_back = seen.claim  # and read again a tick later
            elif process.freed != seen.claim:
                process.freed = seen.claim
                self._free(seen)

    def _end_message(self, place: Place, seen: InHand) -> None:
        if self.slots is not None:
            self.slots[place.index].declare_late(seen)
            self._processes[place.index].late = (seen.claim, seen.index)
            self._tell(place, Signal.TIMEOUT)

    def _free(self, seen: InHand) -> None:
        """Acknowledge those before the message in hand, and release those behind it."""
        settlements = [acknowledge(ident, seen.receipt) for ident in seen.ids[: seen.index]]
        settlements += [release(ident, seen.receipt) for ident in seen.ids[seen.index + 1 :]]
        self.keeper.ask(lambda store: store.work(settlements, late=True))
