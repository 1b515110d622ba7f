"""The supervisor's end of the template processes: one for each environment and folder."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import msgspec

from brokerrun.supervisor import wire
from brokerrun.supervisor.config import HandlerPlace, handler_place
from brokerrun.supervisor.processes import strike_group
from brokerrun.supervisor.spec import Config
from brokerrun.supervisor.strays import MARK

_OVERDUE: Final = "the import took longer than boot_timeout"
_ENDED: Final = "the process that forks workers ended"
_PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
Group = list[HandlerPlace]
_ENCODE = msgspec.json.encode
_DECODER = msgspec.json.Decoder(wire.FromTemplate)


@dataclass(frozen=True, slots=True)
class Common:
    """What all templates of a supervisor are told."""

    folder: str  # of workers.toml: handlers are imported from there too
    preload: tuple[str, ...]
    database: str = ""
    log: str = "auto"
    log_level: str = "info"
    start: str = "auto"


class Blank:
    """A process that becomes a template when it is told of what: it imports ours until then."""

    def __init__(self, env: dict[str, str]):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = _run("template", env, {3: theirs.fileno()})


def blanks(config: Config) -> list[Blank]:
    """Start one for each template of a supervisor."""
    return [Blank(group[0].env) for group in _groups(config)]


class Template:
    """A template process and what it said so far."""

    def __init__(self, group: Sequence[HandlerPlace], common: Common, blank: Blank | None = None):
        self.workers = [place.worker for place in group]
        self.importing: str | None = None  # the worker whose handler it imports
        self.imported: wire.Imported | None = None
        self.deadline = float("inf")
        self.overdue = False
        self._start = common.start
        self._setup, self._env = _setup(group, common), group[0].env
        blank = blank or Blank(self._env)
        self.link, self.pid = blank.link, blank.pid
        with suppress(ConnectionError):  # it was killed: `read` says so
            self.link.send(_ENCODE(self._setup))
        self.link.setblocking(False)

    def fileno(self) -> int:
        return self.link.fileno()

    @property
    def ready(self) -> bool:
        return self.imported is not None and not self.faults()

    @property
    def spawns(self) -> str | None:
        """Why workers are not forked from it but started by exec; None: they are forked."""
        if self._start == "spawn":
            return 'start = "spawn"'
        return "; ".join(self.imported.unsafe) or None if self.imported else None

    def read(self) -> bool:
        """Take what it says; False where it is gone."""
        try:
            data = self.link.recv(wire.MOST_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        said = _DECODER.decode(data)
        if isinstance(said, wire.Imported):
            self.imported, self.importing = said, None
        else:
            self.importing = said.worker
        return True

    def spawn(self, request: wire.Spawn, fds: list[int]) -> int | None:
        """Ask for a worker; None where the template cannot be asked now.

        Returns:
            Its pid where it was started by exec; 0 where it is to be forked, and says so itself.
        """
        if self.spawns is not None:
            return _spawn(wire.Spawned(self._setup, request, len(fds)), self._env, fds)
        try:
            socket.send_fds(self.link, [_ENCODE(request)], fds)
        except OSError:
            return None
        return 0

    def faults(self) -> list[tuple[str, str]]:
        """List what it could not import, by worker; what killed it on the way, too."""
        if self.imported is not None:
            refused = self.imported.unsafe if self._start == "fork" else []
            return [*self.imported.faults, *(("", f'{why}, and start = "fork"') for why in refused)]
        if self.overdue:
            return [(self.importing or "", _OVERDUE)]
        return [(self.importing or "", "the import ended the process that imports handlers")]

    def close(self) -> None:
        """Let it go: it ends when it sees the end of the link."""
        with suppress(OSError):
            self.link.close()


class Unimportable(Exception):
    """Handlers that cannot be imported at the first start: (worker, reason), and tracebacks."""

    def __init__(self, faults: list[tuple[str, str]], traces: list[str]):
        super().__init__(str(faults))
        self.faults, self.traces = faults, traces


class Templates:
    """All templates of a supervisor; one that ends is started anew, later each time.

    lost: Is told when one is gone, and why.
    """

    def __init__(
        self,
        config: Config,
        selector: selectors.BaseSelector,
        log: Any,
        *,
        lost: Callable[[Template, str], None],
        pids: set[int] | None = None,
    ):
        self.serving = False  # until then a fault is what the first start is refused for
        self._selector, self._log, self._tell_lost = selector, log, lost
        self._groups = _groups(config)
        spec = config.instance
        self._common = Common(
            config.folder, spec.preload, spec.database, spec.log, spec.log_level, spec.start
        )
        self._templates: list[Template] = []
        self.unreaped: set[int] = set() if pids is None else pids
        self._refused: list[tuple[str, str]] = []  # imports that ended their template
        self._traces: list[str] = []
        self._broken: dict[str, str] = {}  # imports that failed since the start, likewise
        self._patience = {s.name: s.boot_timeout for s in config.workers}
        self._failures: dict[str, int] = {}  # in a row, by the first worker of the group
        self._again: set[str] = set()  # likewise, started once more before anything is served
        self._starts: list[tuple[float, Group]] = []

    def anew(self, config: Config) -> Templates:
        """Make others beside these for another state of the file; `had` knows them too."""
        return Templates(
            config, self._selector, self._log, lost=self._tell_lost, pids=self.unreaped
        )

    def start(self, blanks: Sequence[Blank] = ()) -> None:
        """Start one for each group of workers, of the processes that are there for it, if any."""
        for group, blank in zip_longest(self._groups, blanks):
            self._start(group, blank)

    def tick(self, now: float) -> None:
        """Start those whose time has come again, and end those whose imports hang."""
        for template in self._templates:
            if self.serving and template.imported is None and now > template.deadline:
                template.deadline, template.overdue = float("inf"), True
                strike_group(template.pid)
        for start in [start for start in self._starts if start[0] <= now]:
            self._starts.remove(start)
            self._start(start[1])

    def of(self, worker: str) -> Template | None:
        """Find the one that can fork that worker now."""
        return next((t for t in self._templates if t.ready and worker in t.workers), None)

    def had(self, pid: int) -> bool:
        """Tell, once, whether that pid was a template."""
        known = pid in self.unreaped
        self.unreaped.discard(pid)
        return known

    def pids(self) -> list[int]:
        """List those that run."""
        return [template.pid for template in self._templates]

    def strike(self, worker: str) -> None:
        """Kill the one that was asked for that worker and did not bring it forth."""
        template = self.of(worker)
        if template is not None:
            strike_group(template.pid)

    def imported(self) -> bool:
        """Tell whether each has imported everything, or failed to."""
        return all(template.imported is not None for template in self._templates)

    def faults(self) -> list[tuple[str, str]]:
        """List what could not be imported, by worker."""
        said = [fault for t in self._templates if t.imported for fault in t.faults()]
        return self._refused + said

    def broken(self) -> str | None:
        """Say why something cannot be imported any more, if so."""
        return next(iter(self._broken.values()), None)

    def overdue(self) -> list[tuple[str, str]]:
        """List the imports that go on, as faults."""
        return [(worker, _OVERDUE) for worker in self.slow()]

    def codes(self) -> dict[str, str]:
        """Name for each worker the state of the modules that it is forked from."""
        return {name: t.imported.code for t in self._templates if t.imported for name in t.workers}

    def traces(self) -> list[str]:
        """List what the imports raised."""
        return list(self._traces)

    def spawned(self) -> dict[str, str]:
        """Say of each worker that is not forked why."""
        return {w: why for t in self._templates if (why := t.spawns) for w in t.workers}

    def slow(self) -> list[str]:
        """Name the workers whose imports go on."""
        return [t.importing or "" for t in self._templates if t.imported is None]

    def close(self) -> None:
        """Let all go: each ends when it sees the end of its link, or at once while it imports."""
        for template in list(self._templates):
            if template.imported is None:
                strike_group(template.pid)
            self._drop(template)

    def _start(self, group: Group, blank: Blank | None = None) -> None:
        template = Template(group, self._common, blank)
        patience = max(self._patience[place.worker] for place in group)
        template.deadline = time.monotonic() + patience
        self._templates.append(template)
        self.unreaped.add(template.pid)
        self._selector.register(
            template, selectors.EVENT_READ, lambda: self._spoke(template, group)
        )

    def _spoke(self, template: Template, group: Group) -> None:
        if not template.read():
            self._drop(template)
            self._lose(template, group, "died")
        elif template.imported is not None:
            self._imported(template, template.imported, group)

    def _imported(self, template: Template, imported: wire.Imported, group: Group) -> None:
        if imported.unsafe and template.spawns is not None:
            self._log.warning(
                "workers_spawned", workers=",".join(template.workers), why=template.spawns
            )
        self._traces += imported.traces
        if template.ready:
            self._failures.pop(group[0].worker, None)
            self._broken.pop(group[0].worker, None)
        elif self.serving:
            self._drop(template)
            self._lose(template, group, "import_failed")

    def _lose(self, template: Template, group: Group, why: str) -> None:
        faults = template.faults()
        if not self.serving:
            self._lose_early(group, faults)
            return
        failed = self._failures.get(group[0].worker, 0)
        self._failures[group[0].worker] = failed + 1
        pause = _PAUSES[min(failed, len(_PAUSES) - 1)]
        fault = faults[0][1] if faults else _ENDED
        if faults:
            self._broken[group[0].worker] = f"{', '.join(template.workers)}: {fault}"
        self._log.error(
            "template_failed", why=why, workers=",".join(template.workers), error=fault, again=pause
        )
        self._starts.append((time.monotonic() + pause, group))
        self._tell_lost(template, fault)

    def _lose_early(self, group: Group, faults: list[tuple[str, str]]) -> None:
        """Start it once more: somebody may have killed it. Twice is the doing of its imports."""
        first = group[0].worker
        if first in self._again:
            self._refused += faults or [("", _ENDED)]
        else:
            self._again.add(first)
            self._start(group)

    def _drop(self, template: Template) -> None:
        self._selector.unregister(template)
        self._templates.remove(template)
        template.close()


def _groups(config: Config) -> list[Group]:
    return by_surroundings([handler_place(spec) for spec in config.workers])


def by_surroundings(places: Sequence[HandlerPlace]) -> list[list[HandlerPlace]]:
    """Group the handlers that can share a template: same folder, same environment, same user."""
    groups: dict[object, list[HandlerPlace]] = {}
    for place in places:
        surroundings = (place.cwd, tuple(sorted(place.env.items())), place.account)
        groups.setdefault(surroundings, []).append(place)
    return list(groups.values())


def _setup(group: Sequence[HandlerPlace], common: Common) -> wire.Setup:
    cwd = group[0].cwd
    return wire.Setup(
        supervisor=os.getpid(),
        cwd=cwd,
        path=[cwd] if cwd == common.folder else [cwd, common.folder],
        preload=list(common.preload),
        handlers=[wire.Handles(place.worker, place.handler) for place in group],
        database=common.database,
        log=common.log,
        log_level=common.log_level,
        account=group[0].account,
    )


def _spawn(told: wire.Spawned, env: dict[str, str], fds: list[int]) -> int:
    """Start a worker by exec, as our own child: what it is told is its standard input."""
    wanted = told.request.spec.name
    handlers = [handles for handles in told.setup.handlers if handles.worker == wanted]
    told = msgspec.structs.replace(
        told, setup=msgspec.structs.replace(told.setup, handlers=handlers)
    )
    with open(os.memfd_create("told"), "w+b") as file:
        file.write(_ENCODE(told))
        file.seek(0)
        mark = {MARK: str(told.request.owner)}  # so that it is no stray before it says who it is
        return _run("spawned", env | mark, {0: file.fileno(), **dict(enumerate(fds, 3))})


def _run(module: str, env: dict[str, str], fds: dict[int, int]) -> int:
    """Start a process by exec: nothing of this one is carried over but *fds*, there: here."""
    # Here they are above all numbers there, which the supervisor has long taken for its own.
    duplicates = [(os.POSIX_SPAWN_DUP2, here, there) for there, here in fds.items()]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", f"brokerrun.supervisor.{module}"],
        os.environ | env,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *duplicates],
        setpgroup=0,
        setsigmask=(),
        # Who started us may ignore it, and we do not hear it yet: nobody there could await a child.
        setsigdef=(signal.SIGCHLD,),
    )
