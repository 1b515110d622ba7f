"""`broker` commands as processes: watched, struck and measured, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import eventually

from brokerrun.core.broker import Broker
from brokerrun.core.model import Selection

BROKER = [sys.executable, "-m", "brokerrun.cli.broker"]
PIPE_BYTES = 65536
EVERY = Selection(limit=None)

# Strikes its own process with SIGTERM, *times* in a row, where the function *point* returns or
# yields for the *turn*-th time.
STRIKE = """
import os, signal, sys
from brokerrun.cli.broker import main
def strike(point, times, turn=1):
    def watch(frame, event, _):
        nonlocal turn
        if event != "return" or frame.f_code.co_qualname != point:
            return
        turn -= 1
        if turn == 0:
            sys.setprofile(None)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGTERM)
    sys.setprofile(watch)
"""


class Commands:
    """Runs commands in one folder, and looks at its database beside them."""

    def __init__(self, folder: Path):
        self.folder, self.database = folder, str(folder / ".broker.db")
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, line: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, standard input empty unless `input` is given."""
        given = {"input": b"", "capture_output": True, "timeout": 60}
        given |= {"cwd": self.folder, "env": with_interval(1)}
        return subprocess.run([*BROKER, *line.split()], **{**given, **more})

    def start(self, line: str, interval: int = 1, **more: Any) -> subprocess.Popen[bytes]:
        """Start a command; it is killed when the test ends.

        *interval*: How many messages `--all` takes at once.
        """
        given = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": self.folder,
            "env": with_interval(interval),
        }
        return self.started([*BROKER, *line.split()], **{**given, **more})

    def started(self, command: list[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start any program; it is killed when the test ends."""
        process = subprocess.Popen(command, **more)
        self._started.append(process)
        return process

    def follow(self, line: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start `watch` and return when it has said that it watches."""
        process = self.start(line, **more)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"broker: watching ")
        return process

    @contextmanager
    def opened(self) -> Iterator[Broker]:
        """Use the database with the library."""
        with Broker(self.database) as broker:
            yield broker

    def fill(self, count: int, queue: str = "q", body: Callable[[int], str] = str) -> list[str]:
        """Write that many messages and return their bodies."""
        bodies = [body(number) for number in range(count)]
        with self.opened() as broker:
            broker.write_many(queue, bodies)
        return bodies

    def left(self, queue: str = "q") -> list[str]:
        """List the bodies that are in a queue, in their order."""
        with self.opened() as broker:
            return [message.body for message in broker.peek(queue, EVERY)]

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None and not stream.closed:
                    stream.close()


def with_interval(interval: int) -> dict[str, str]:
    """Build an environment in which `--all` takes so many at once."""
    # Buffered, as a command is where nobody says otherwise.
    given = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**given, "BROKER_READ_COMMIT_INTERVAL": str(interval)}


def ended(process: subprocess.Popen[bytes], within: float = 20) -> tuple[int, list[str], str]:
    """Wait for the end; return the exit status, the lines printed, and what was said."""
    out, said = process.communicate(timeout=within)
    text = (out or b"").decode().removesuffix("\n")
    # Not splitlines: a body may hold what that takes for the end of a line.
    return process.returncode, text.split("\n") if text else [], (said or b"").decode()


def peak_bytes(line: str, folder: Path, interval: int = 1) -> int:
    """Run a command, its output thrown away; return the most memory that it had."""
    # Not ru_maxrss: a child begins with that of the process that it was forked from.
    code = (
        "import sys\nfrom brokerrun.cli.broker import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=with_interval(interval),
    )
    assert done.returncode in (0, 2), done.stderr
    facts = dict(line.split(":", 1) for line in done.stderr.decode().splitlines())
    return int(facts["VmHWM"].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of a processor so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(instant: float) -> None:
    """Let time pass up to a monotonic instant: what is measured lasts that long."""
    eventually(lambda: time.monotonic() >= instant, within=60)


def whole(lines: list[str], size: int) -> set[int]:
    """Return the numbers of the lines that were printed to their end."""
    return {int(line.split()[0]) for line in lines if len(line) == size}


def stuck(pid: int) -> bool:
    """Tell whether a process waits for room in a pipe."""
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        return "pipe_write" in file.read()
