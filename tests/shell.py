"""What some tests of `broker` share: one folder in which its commands run."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brokerrun import Broker
from brokerrun.cli.broker import run
from brokerrun.core.model import Message, Selection

EVERY = Selection(limit=None)
_BROKER = [sys.executable, "-m", "brokerrun.cli.broker"]


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A folder without a database, and the commands that run in it.

    A call runs in this process, by the same code as the command: processes cost most of a test.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.database = str(folder / ".broker.db")
        self.store = Broker(self.database)
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, line: str, stdin: bytes | str = b"", **env: str) -> Done:
        """Run a command to its end."""
        given = io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin)
        out, err = io.BytesIO(), io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in env.items():
                patch.setenv(name, value)
            for name, stream in (("stdin", given), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, io.TextIOWrapper(stream, "utf-8", write_through=True))
            status = run(shlex.split(line))
            return Done(status, out.getvalue().decode(), err.getvalue().decode())

    def ok(self, line: str, stdin: bytes | str = b"", **env: str) -> str:
        """Run a command that ends well, and return what it printed without the last newline."""
        done = self(line, stdin, **env)
        assert (done.status, done.err) == (0, ""), done
        return done.out.removesuffix("\n")

    def start(self, line: str, **more: Any) -> subprocess.Popen[bytes]:
        """Begin a command whose output is piped, unless *more* says otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [*_BROKER, *shlex.split(line)], cwd=self.folder, **{**pipes, **more}
        )
        self._started.append(process)
        return process

    def bodies(self, queue: str = "q") -> list[str]:
        return [message.body for message in self.store.peek(queue, EVERY)]

    def one(self, queue: str = "q") -> Message:
        """Return the only message of a queue."""
        [message] = self.store.peek(queue, EVERY)
        return message

    def close(self) -> None:
        """End all that runs."""
        self.store.close()
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def end(process: subprocess.Popen[bytes], signum: int | None = None) -> Done:
    """Send a signal, if one is given, and wait for the end of a command."""
    if signum is not None:
        process.send_signal(signal.Signals(signum))
    out, err = process.communicate(timeout=30)
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode, out.decode(), err.decode())
