"""The supervisor's end of the template processes: one for each environment and folder."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from brokerrun.supervisor import wire
from brokerrun.supervisor.config import HandlerPlace
from brokerrun.supervisor.processes import strike_group
from brokerrun.supervisor.spec import Config

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


class Template:
    """A template process and what it said so far."""

    def __init__(self, group: Sequence[HandlerPlace], common: Common):
        self.workers = [place.worker for place in group]
        self.importing: str | None = None  # the worker whose handler it imports
        self.imported: wire.Imported | None = None
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = _start(theirs, group[0].env)
        self.link.send(_ENCODE(_setup(group, common)))
        self.link.setblocking(False)

    def fileno(self) -> int:
        return self.link.fileno()

    @property
    def ready(self) -> bool:
        return self.imported is not None and not self.imported.faults

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

    def spawn(self, request: wire.Spawn, channel: socket.socket, dump_fd: int) -> bool:
        """Ask for a worker; False where the template cannot be asked now."""
        try:
            socket.send_fds(self.link, [_ENCODE(request)], [channel.fileno(), dump_fd])
        except OSError:
            return False
        return True

    def faults(self) -> list[tuple[str, str]]:
        """List what it could not import, by worker; what killed it on the way, too."""
        if self.imported is not None:
            return list(self.imported.faults)
        return [(self.importing or "", "the import ended the process that imports handlers")]

    def close(self) -> None:
        """Let it go: it ends when it sees the end of the link."""
        with suppress(OSError):
            self.link.close()


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
    ):
        self.serving = False  # until then a fault is what the first start is refused for
        self._selector, self._log, self._tell_lost = selector, log, lost
        self._groups = by_surroundings(
            [HandlerPlace(s.name, s.handler, s.cwd, s.env) for s in config.workers]
        )
        spec = config.instance
        self._common = Common(config.folder, spec.preload, spec.database, spec.log, spec.log_level)
        self._templates: list[Template] = []
        self.unreaped: set[int] = set()
        self._refused: list[tuple[str, str]] = []  # imports that ended their template
        self._failures: dict[str, int] = {}  # in a row, by the first worker of the group
        self._starts: list[tuple[float, Group]] = []

    def start(self) -> None:
        """Start one for each group of workers."""
        for group in self._groups:
            self._start(group)

    def tick(self, now: float) -> None:
        """Start those whose time has come again."""
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
        said = [fault for t in self._templates if t.imported for fault in t.imported.faults]
        return self._refused + said

    def slow(self) -> list[str]:
        """Name the workers whose imports go on."""
        return [t.importing or "" for t in self._templates if t.imported is None]

    def close(self) -> None:
        """Let all go: each ends when it sees the end of its link; who still imports looks late."""
        for template in list(self._templates):
            if template.imported is None:
                strike_group(template.pid)
            self._drop(template)

    def _start(self, group: Group) -> None:
        template = Template(group, self._common)
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
        if imported.threads > 1:
            self._log.warning(
                "template_has_threads",
                threads=imported.threads,
                workers=",".join(template.workers),
                advice="an import starts threads: a forked worker has none of them",
            )
        if template.ready:
            self._failures.pop(group[0].worker, None)
        elif self.serving:
            self._drop(template)
            self._lose(template, group, "import_failed")

    def _lose(self, template: Template, group: Group, why: str) -> None:
        faults = template.faults()
        if not self.serving:
            self._refused += faults
            return
        failed = self._failures.get(group[0].worker, 0)
        self._failures[group[0].worker] = failed + 1
        pause = _PAUSES[min(failed, len(_PAUSES) - 1)]
        fault = faults[0][1] if faults else "the process that forks workers ended"
        self._log.error(
            "template_failed", why=why, workers=",".join(template.workers), error=fault, again=pause
        )
        self._starts.append((time.monotonic() + pause, group))
        self._tell_lost(template, fault)

    def _drop(self, template: Template) -> None:
        self._selector.unregister(template)
        self._templates.remove(template)
        template.close()


def by_surroundings(places: Sequence[HandlerPlace]) -> list[list[HandlerPlace]]:
    """Group the handlers that can share a template: same folder, same environment."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[HandlerPlace]] = {}
    for place in places:
        groups.setdefault((place.cwd, tuple(sorted(place.env.items()))), []).append(place)
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
    )


def _start(link: socket.socket, env: dict[str, str]) -> int:
    """Start it by exec: nothing of this process is carried over but the link, as descriptor 3."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "brokerrun.supervisor.template"],
        os.environ | env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, link.fileno(), 3),
        ],
        setpgroup=0,
        setsigmask=(),
    )
