"""What the supervisor's tests share: specs, and a real site with `brokerrun up` in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
from support import eventually

from brokerrun import Broker
from brokerrun.core.model import Attempt, Message, Selection
from brokerrun.core.retry import Backoff
from brokerrun.errors import NotRunning
from brokerrun.supervisor.config import load
from brokerrun.supervisor.control import ask
from brokerrun.supervisor.limits import Limits
from brokerrun.supervisor.spec import Mode, WorkerSpec
from brokerrun.supervisor.status import instance_of

EVERY = Selection(limit=None)
_PASS_TURNSTILE = """
import fcntl, sys
file, now = open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB
try:
    fcntl.flock(file, now)
    fcntl.lockf(file, now, 1, 0)
except BlockingIOError:
    sys.exit(1)
"""
_SPEC = WorkerSpec(
    name="w",
    handler="handlers:handle",
    queues=("q",),
    after=(),
    processes=1,
    paused=False,
    mode=Mode.PEEK,
    in_process="{queue}.in-process",
    prefetch=None,
    max_attempts=4,
    crashes=2,
    backoff=Backoff(),
    dead_letter="{queue}.dlq",
    timeout=None,
    grace=30.0,
    boot_timeout=30.0,
    env={},
    cwd="/",
    env_file=None,
    user=None,
    group=None,
    nice=None,
    umask=None,
    limits=Limits(),
    max_messages=None,
    max_age=None,
    max_rss=None,
    recycle_share=0.25,
    output="inherit",
)
# What every module of handlers begins with. A note is one write, so notes do not mix.
_PREAMBLE = """\
import ctypes, os, signal, subprocess, sys, threading, time
from brokerrun import Broker, Dead, Drop, Retry, Snooze

HERE = os.path.dirname(os.path.abspath(__file__))


def note(*words):
    fd = os.open(HERE + "/notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)


def await_file(name, seconds=30):
    end = time.monotonic() + seconds
    while not os.path.exists(HERE + "/" + name):
        if time.monotonic() > end:
            raise TimeoutError(name)
        time.sleep(0.005)


"""


def spec_of(**changes: Any) -> WorkerSpec:
    """Make a spec that differs from the defaults in *changes*."""
    return replace(_SPEC, **changes)


class Site:
    """A folder with handlers, a workers.toml and a database, and at most one `brokerrun up`.

    Handlers tell what they do by `note(...)` and wait for `release(name)` by `await_file(name)`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = str(folder / "workers.toml")
        self.database = str(folder / ".broker.db")
        self.broker = Broker(self.database)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._commands: list[subprocess.Popen[bytes]] = []

    def handlers(self, text: str, module: str = "handlers") -> None:
        (self.folder / f"{module}.py").write_text(_PREAMBLE + dedent(text))

    def configure(self, *, instance: dict[str, Any] | None = None, **workers: Any) -> None:
        """Write workers.toml: each worker is a table; its handler is `handlers:NAME` by default."""
        tables = [("brokerrun", {"runtime_dir": "run", **(instance or {})})]
        for name, keys in workers.items():
            tables.append((f"workers.{name}", {"handler": f"handlers:{name}", **keys}))
        (self.folder / "workers.toml").write_text("\n".join(_table(*entry) for entry in tables))

    def start(self, *arguments: str, ready: bool = True, **env: str) -> subprocess.Popen[bytes]:
        """Run `brokerrun up`; with *ready* return when every worker of it is ready."""
        log = open(self.folder / "log", "ab")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "brokerrun", "up", "-c", self.config, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | env,
                cwd=self.folder,
                start_new_session=True,
            )
        self._processes.append(process)
        if ready:
            eventually(lambda: process.poll() is not None or self._all_ready(), 20)
            assert process.poll() is None, self.log()
        return process

    def adopted(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Have a process that a test started end with the test."""
        self._processes.append(process)
        return process

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        return self._processes[-1]

    def stop(self, signum: int = signal.SIGTERM, within: float = 15) -> int:
        """Send a signal to the supervisor and return its exit status."""
        self.supervisor.send_signal(signum)
        return self.ends(within)

    def ends(self, within: float = 15) -> int:
        """Return the exit status of the supervisor, which ends by itself."""
        process = self.supervisor
        eventually(lambda: process.poll() is not None, within)
        return int(process.returncode)

    def run(
        self, *arguments: str, config: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run another `brokerrun` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "brokerrun", *arguments, "-c", config or self.config],
            capture_output=True,
            text=True,
            env=os.environ | env,
            timeout=30,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start another `brokerrun` command, and do not wait for it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "brokerrun", *arguments, "-c", self.config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._commands.append(process)
        return process

    def close(self) -> None:
        """End all that runs: the workers go with their supervisor."""
        self.broker.close()
        for process in self._processes + self._commands:
            if process.poll() is None:
                process.kill()
                process.wait()

    # ------------------------------------------------------------------------------ facts

    def status(self) -> Any:
        """Ask the supervisor; None where none answers yet."""
        try:
            instance = instance_of(load(self.config))
            return ask(instance.socket, {"do": "status"}, 5) if instance else None
        except NotRunning:
            return None

    def ask(self, request: Any) -> Any:
        """Ask over the control socket; return the answer, an error too."""
        instance = instance_of(load(self.config))
        assert instance is not None, self.log()
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rwb") as file:
            connection.settimeout(5)
            connection.connect(instance.socket)
            file.write(json.dumps(request).encode() + b"\n")
            file.flush()
            return json.loads(file.readline())

    def workers(self, name: str | None = None) -> list[Any]:
        """List the places of a worker, or of all."""
        rows = (self.status() or {"workers": []})["workers"]
        return [row for row in rows if name in (None, row["worker"])]

    def pids(self, name: str | None = None) -> list[int]:
        return [row["pid"] for row in self.workers(name) if row["pid"]]

    def templates(self) -> list[int]:
        """List the pids of the templates."""
        return self.titled("brokerrun: template")

    def titled(self, title: str) -> list[int]:
        """List the pids of those below the supervisor whose command line has that in it."""
        return [p.pid for p in self.children() if says(p, title)]

    def children(self) -> list[psutil.Process]:
        """List what lives below the supervisor."""
        try:
            found = psutil.Process(self.supervisor.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [p for p in found if lives(p.pid)]

    def notes(self, first: str | None = None) -> list[str]:
        """List what the handlers noted, in order; those that begin with the word *first*."""
        try:
            found = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in found if first in (None, line.split(" ")[0])]

    def noted(self, line: str, within: float = 5, times: int = 1) -> None:
        """Wait until the handlers noted exactly that, so many times."""
        eventually(lambda: self.notes().count(line) >= times, within)

    def noted_first(self, first: str, within: float = 10) -> None:
        """Wait until the handlers noted something that begins with that word."""
        eventually(lambda: self.notes(first), within)

    def release(self, name: str) -> None:
        (self.folder / name).touch()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def write(self, queue: str, *bodies: str, **more: Any) -> list[int]:
        return self.broker.write_many(queue, bodies, **more)

    def halt(self, pid: int) -> None:
        """Stop a process, but in no write: stopped there, it would keep everybody else out."""
        eventually(lambda: _halted(pid, f"{self.database}.lock"))

    def there(self, queue: str) -> list[Message]:
        return self.broker.peek(queue, EVERY)

    def ids(self, queue: str) -> list[int]:
        return [message.id for message in self.there(queue)]

    def outcomes(self, message: int) -> list[str]:
        return [attempt.outcome for attempt in self.broker.history(message)]

    def last(self, message: int, within: float = 5, count: int = 1) -> Attempt:
        """Wait for so many attempts in a message's history, and return the last."""
        eventually(lambda: len(self.broker.history(message)) >= count, within)
        return self.broker.history(message)[-1]

    def empty(self, queue: str, within: float = 5) -> None:
        """Wait until nothing stands in the queue."""
        eventually(lambda: not self.there(queue), within)

    def _all_ready(self) -> bool:
        rows = self.workers()
        return bool(rows) and all(row["state"] in ("idle", "busy") for row in rows)


def lives(pid: int) -> bool:
    """Tell whether there is such a process, and no mere zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _halted(pid: int, lock: str) -> bool:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    if subprocess.run([sys.executable, "-c", _PASS_TURNSTILE, lock]).returncode == 0:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def open_files(pid: int) -> list[str]:
    """List what the descriptors of a process lead to."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


def gone(pids: Sequence[int]) -> Callable[[], bool]:
    """Return the fact that none of them lives."""
    return lambda: not any(map(lives, pids))


def says(process: psutil.Process, title: str) -> bool:
    """Tell whether the command line of a process that lives has that in it."""
    try:
        return title in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _table(name: str, keys: dict[str, Any]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in keys.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_value(entry)}" for key, entry in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value)
