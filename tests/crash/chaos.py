"""Who strikes a fleet; `chaos_judge` holds what came of it against what was promised."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
from crash.chaos_fleet import HANDLERS, INSTANCE, QUEUES, WORKERS
from processes import BROKER
from supervised import Site
from support import eventually

from brokerrun.errors import NotRunning
from brokerrun.supervisor.config import load
from brokerrun.supervisor.control import ask
from brokerrun.supervisor.processes import is_stopped
from brokerrun.supervisor.status import instance_of
from brokerrun.supervisor.strays import children_of

LINES: Final = 40  # of a command that is killed while it writes
MARK: Final = "CHAOS_SITE"
_WORKER = re.compile(r"brokerrun: [a-z]+\.\d+")
_DECK: Final = {
    "kill": 7,
    "halt": 5,
    "term": 4,
    "template": 2,
    "supervisor": 2,
    "end": 2,
    "hangup": 1,
    "reload": 1,
    "scale": 2,
    "pause": 2,
    "writer": 2,
}


class Strike(NamedTuple):
    """Processes that were killed, and when, in monotonic nanoseconds."""

    kind: str
    at: int
    pids: frozenset[int]
    stopping: bool  # the supervisor had been told to end


class Chaos:
    """Strikes the fleet of a site every 50 to 500 ms, in an order that the seed says."""

    def __init__(self, site: Site, seed: int):
        self.site, self.dice = site, random.Random(seed)
        self.strikes: list[Strike] = []
        self.faults: Counter[str] = Counter()
        self.recoveries: list[tuple[float, str]] = []  # seconds, and after which fault
        self.exits: Counter[int] = Counter()
        self.writers: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._deck: list[str] = []
        self._due: list[tuple[float, Callable[[], object]]] = []
        self._ending = False
        self._talks: list[socket.socket] = []
        self._last, self._kind = time.monotonic(), ""

    def begin(self) -> None:
        (self.site.folder / "hands").mkdir()
        self.site.handlers(HANDLERS)
        self.site.configure(instance=INSTANCE, **WORKERS)
        self.site.start(**{MARK: self.site.database})
        instance = instance_of(load(self.site.config))
        assert instance is not None
        self._socket = instance.socket

    def strike_for(self, seconds: float) -> None:
        """Strike for so long, then let the fleet be whole again, and note how long that took."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._strike()
            self._until(time.monotonic() + self.dice.uniform(0.05, 0.5))
        self._rest()

    # ---------------------------------------------------------------------------------- the clock

    def _until(self, then: float) -> None:
        """Do what is due until *then*, and have a supervisor that ended start again."""
        eventually(lambda: self._tick() or time.monotonic() >= then, 10)

    def _tick(self) -> None:
        now = time.monotonic()
        due = [act for at, act in self._due if at <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for act in due:
            self._last = time.monotonic()
            act()
        if self.site.supervisor.poll() is not None:
            self._start()

    def _start(self) -> None:
        status = self.site.supervisor.returncode
        assert self._ending, f"the supervisor ended by itself: {status}\n{self.site.log()[-4000:]}"
        self.exits[status] += 1
        self._ending = False
        self._last = time.monotonic()
        self.site.start(ready=False, **{MARK: self.site.database})

    def _later(self, least: float, most: float, act: Callable[[], object]) -> None:
        self._due.append((time.monotonic() + self.dice.uniform(least, most), act))

    def _rest(self) -> None:
        """No further faults: wait until all is as it was."""
        self._until(max([at for at, _ in self._due], default=0.0))
        if self._ending:
            eventually(lambda: self._tick() or not self._ending, 20)
        while self._talks:
            self._talks.pop().close()
        eventually(self._restore, 20)
        eventually(self.whole, 20)
        self.recoveries.append((time.monotonic() - self._last, self._kind))
        eventually(lambda: not self.zombies(), 2)

    def _restore(self) -> bool:
        try:
            wanted = {name: str(keys.get("processes", 1)) for name, keys in WORKERS.items()}
            ask(self._socket, {"do": "scale", "changes": wanted, "timeout": 10}, 12)
            ask(self._socket, {"do": "resume", "names": list(WORKERS), "timeout": 10}, 12)
        except NotRunning:
            assert self.site.supervisor.poll() is None, self.site.log()[-4000:]
            return False
        return True

    # ----------------------------------------------------------------------------------- the facts

    def whole(self) -> bool:
        """Tell whether every process of every worker is ready."""
        rows = [row for row in self.site.workers() if row["state"] in ("idle", "busy")]
        wanted = {name: keys.get("processes", 1) for name, keys in WORKERS.items()}
        return Counter(row["worker"] for row in rows) == wanted

    def zombies(self) -> list[int]:
        """List the dead below the supervisor that nobody reaped."""
        tree = psutil.Process(self.site.supervisor.pid).children(recursive=True)
        return [each.pid for each in tree if _is_zombie(each)]

    def left(self) -> list[str]:
        """List the processes that were started under the site and still live."""
        mark = f"{MARK}={self.site.database}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(f"{name} {_title(int(name))}")
        return found

    def _fleet(self) -> list[int]:
        children = children_of(self.site.supervisor.pid)
        return [pid for pid in children if _WORKER.fullmatch(_title(pid))]

    # ---------------------------------------------------------------------------------- the faults

    def _strike(self) -> None:
        if not self._deck:
            self._deck = [kind for kind, times in _DECK.items() for _ in range(times)]
            self.dice.shuffle(self._deck)
        kind = self._deck.pop()
        if getattr(self, f"_{kind}")() is not False:
            self.faults[kind] += 1
            self._last, self._kind = time.monotonic(), kind

    def _kill(self) -> bool:
        return self._signal_worker(signal.SIGKILL)

    def _term(self) -> bool:
        return self._signal_worker(signal.SIGTERM)

    def _halt(self) -> bool:
        fleet = self._fleet()
        if not fleet:
            return False
        victim = self.dice.choice(fleet)
        _send(victim, signal.SIGSTOP)
        self._later(0.05, 0.3, lambda: _send(victim, signal.SIGCONT))
        return True

    def _signal_worker(self, signum: int) -> bool:
        fleet = self._fleet()
        if not fleet:
            return False
        victim = self.dice.choice(fleet)
        _send(victim, signum)
        if signum == signal.SIGKILL:
            self._note("kill", [victim])
        return True

    def _template(self) -> bool:
        children = children_of(self.site.supervisor.pid)
        templates = [pid for pid in children if _title(pid) == "brokerrun: template"]
        for pid in templates:
            _send(pid, signal.SIGKILL)
            self._note("template", [])
        return bool(templates)

    def _supervisor(self) -> None:
        family = self._halted_family()
        self.site.supervisor.kill()
        self._note("supervisor", family)
        self.site.supervisor.wait()
        self._ending = True
        self._start()

    def _halted_family(self) -> list[int]:
        """Stop the supervisor, so that no child of it gets to work unseen, and list them."""
        supervisor = self.site.supervisor
        supervisor.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(supervisor.pid) or supervisor.poll() is not None)
        if supervisor.poll() is not None:
            return []
        return [pid for pid in psutil.pids() if _parent(pid) == supervisor.pid]

    def _end(self) -> bool:
        if self._ending or not _title(self.site.supervisor.pid).startswith("brokerrun: sup"):
            return False  # until then Python lets the signal end it
        self._ending = True
        self.site.supervisor.send_signal(signal.SIGTERM)
        if self.faults["end"] % 2 == 0:
            supervisor = self.site.supervisor
            self._later(0, 0.05, lambda: self._end_at_once(supervisor))
        return True

    def _end_at_once(self, supervisor: subprocess.Popen[bytes]) -> None:
        if supervisor.poll() is None:
            self._note("second", self._halted_family())
            supervisor.send_signal(signal.SIGTERM)
            supervisor.send_signal(signal.SIGCONT)
            self.faults["second"] += 1

    def _hangup(self) -> bool:
        if not _title(self.site.supervisor.pid).startswith("brokerrun: sup"):
            return False
        self.site.supervisor.send_signal(signal.SIGHUP)
        return True

    def _reload(self) -> bool:
        return self._say({"do": "reload", "code": self.dice.random() < 0.5})

    def _scale(self) -> bool:
        name, number = self.dice.choice(list(WORKERS)), self.dice.randint(0, 4)
        return self._say({"do": "scale", "changes": {name: str(number)}})

    def _pause(self) -> bool:
        names = [self.dice.choice(list(WORKERS))]
        self._later(0.05, 0.4, lambda: self._say({"do": "resume", "names": names}))
        return self._say({"do": "pause", "names": names})

    def _writer(self) -> None:
        """Kill a command in the midst of its writing."""
        tag = f"w{len(self.writers)}"
        source, said = self.site.folder / f"{tag}.in", self.site.folder / f"{tag}.out"
        source.write_text(f"{tag}:2:ok\n" * LINES)
        with open(source) as lines, open(said, "wb") as output:
            process = subprocess.Popen(
                [*BROKER, "write", self.dice.choice(QUEUES), "--lines", "-t"],
                stdin=lines,
                stdout=output,
                stderr=subprocess.DEVNULL,
                cwd=self.site.folder,
            )
        self.writers.append((tag, process))
        self._later(0.05, 0.3, process.kill)

    def _say(self, request: dict[str, Any]) -> bool:
        """Ask for something, and do not wait for what comes of it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(1)
        self._talks.append(connection)
        try:
            connection.connect(self._socket)
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return False
        return True

    def _note(self, kind: str, pids: list[int]) -> None:
        self.strikes.append(Strike(kind, time.monotonic_ns(), frozenset(pids), self._ending))


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def _parent(pid: int) -> int:
    """Ask each process, for no list of children is whole: the kernel's lacks one now and then while
    others of them end, psutil's those that a step of the clock made older than their parent."""
    with suppress(psutil.Error):
        return psutil.Process(pid).ppid()
    return 0


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0")
    except OSError:
        return ""


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
