"""A reload: the file is checked, new templates import it, and only then anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerrun.errors import BrokerrunError, ConfigError, ReloadRefused
from brokerrun.supervisor.check import placed
from brokerrun.supervisor.config import Reading, read
from brokerrun.supervisor.control import Reply, refusal
from brokerrun.supervisor.plan import Action, Change, changes, fixed_keys
from brokerrun.supervisor.rights import unheld
from brokerrun.supervisor.scaling import Elastic
from brokerrun.supervisor.spec import Config

if TYPE_CHECKING:
    from brokerrun.supervisor.supervisor import Supervisor


class Reload:
    """One reload of a supervisor; the answer comes when the fleet is as the file says.

    dry: Answer with the plan, and change nothing.
    roll: Replace the processes of all workers, changed or not.
    """

    def __init__(
        self, supervisor: Supervisor, reply: Reply, *, dry: bool, roll: bool, within: float
    ):
        self.supervisor, self._then = supervisor, reply
        self.dry, self.roll, self.within = dry, roll, within

    def begin(self) -> None:
        """Check the file, and let new templates import what it names."""
        self.supervisor.manager.reloading()
        self.reading = read(self.supervisor.config.path)
        try:
            self.config = self._checked(self.reading)
        except ConfigError as error:
            self._refuse(error)
            return
        self.templates = self.supervisor.fleet.templates.anew(self.config)
        self.supervisor.reloading = self
        self.templates.start()
        self.supervisor.waits.add(
            self.templates.imported,
            self._imported,
            self._late,
            max(spec.boot_timeout for spec in self.config.workers),
            "",
        )

    def reply(self, answer: object) -> bool:
        """Say what came of it, to the service manager too."""
        self.supervisor.manager.reloaded()
        return self._then(answer)

    def _checked(self, reading: Reading) -> Config:
        path = self.supervisor.config.path
        faults = [*reading.faults, *unheld(reading)]
        if reading.config is None or faults:
            raise ConfigError([fault.text(path) for fault in faults])
        if fixed := fixed_keys(self.supervisor.config, reading.config):
            raise ConfigError(
                [
                    f"{path}:{reading.lines.of(('brokerrun', key))}: brokerrun.{key}: "
                    "cannot change while the supervisor runs: stop and start it"
                    for key in fixed
                ]
            )
        return reading.config

    def _imported(self) -> None:
        if self.supervisor.stopping:
            self._discard()
        elif faults := self.templates.faults():
            self._unimportable(faults)
        elif self.dry:
            plan = self._plan()
            self._discard()
            self.reply({"plan": list(map(_shown, plan))})
        else:
            self._carry_out(self._plan())

    def _late(self, answer: object) -> bool:
        self._unimportable(self.templates.overdue())
        return True

    def _unimportable(self, faults: list[tuple[str, str]]) -> None:
        """The old fleet stays as it is."""
        lines = [fault.text(self.config.path) for fault in placed(self.reading, faults)]
        traces = [trace.rstrip() for trace in self.templates.traces()]
        self._discard()
        self._refuse(ReloadRefused("\n".join([*lines, *dict.fromkeys(traces)])))

    def _plan(self) -> list[Change]:
        crews = self.supervisor.fleet.roster.crews
        self.codes = self.templates.codes()
        codes = ({name: crew.code for name, crew in crews.items()}, self.codes)
        return changes(self.supervisor.config, self.config, codes, roll=self.roll)

    def _carry_out(self, plan: list[Change]) -> None:
        self.supervisor.reloading = None
        self.supervisor.adopt(self.config, self.templates)
        changed = {c.worker: c for c in plan if c.action is not Action.SAME}
        for change in changed.values():
            self._change(change)
        told = ",".join(f"{name}={change.action.value}" for name, change in changed.items())
        self.supervisor.log.info("reloaded", workers=told)
        crews = self.supervisor.fleet.roster.crews
        new = [crew for name, crew in crews.items() if name in changed and not crew.gone]
        self.supervisor.waits.add(
            lambda: all(crew.complete for crew in new),
            lambda: self.reply({"plan": list(map(_shown, plan))}),
            self.reply,
            self.within,
            f"the new processes are not all ready after {self.within:g} s; it goes on",
        )

    def _change(self, change: Change) -> None:
        roster = self.supervisor.fleet.roster
        crew = roster.crews.get(change.worker)
        if change.action is Action.STOP:
            roster.crews[change.worker].gone = True
            return
        spec = next(spec for spec in self.config.workers if spec.name == change.worker)
        code = self.codes.get(change.worker, "")
        if crew is None:
            roster.enlist(spec, code)
            return
        anew, rule = change.action is Action.START, spec.processes
        crew.become(spec, code)
        if self.roll:
            crew.restart()
        if anew or "processes" in change.keys:
            crew.wanted = rule.bound(crew.wanted) if isinstance(rule, Elastic) else rule
        if anew or "paused" in change.keys:
            self.supervisor.pauses.set([crew], paused=spec.paused)

    def _discard(self) -> None:
        self.supervisor.reloading = None
        self.templates.close()

    def _refuse(self, error: BrokerrunError) -> None:
        self.supervisor.log.error("reload_refused", why=str(error).partition("\n")[0])
        self.reply(refusal(error))


def _shown(change: Change) -> dict[str, Any]:
    return {
        "worker": change.worker,
        "action": change.action.value,
        "keys": list(change.keys),
        "code": change.code,
    }
