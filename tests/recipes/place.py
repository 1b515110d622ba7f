"""A folder with a queue, where the scripts of `examples/shell` run on a real bash and jq."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from support import eventually

from brokerrun.core.broker import Broker
from brokerrun.core.model import Message, Selection

SCRIPTS = Path(__file__).parents[2] / "examples" / "shell"
ODD_BODIES = [
    '-rf two\nlines: it\'s "quoted" \\n `touch pwned` $(touch pwned); 🐝 %s {} * \t\x01\n\n',
    "",
    '{"message": "inner", "id": "1"}',
]
# Writes each body as one line of base64, in one write: several may run at once.
_NOTE = 'body=$(base64 -w 0) && echo "$body" >> handled'
_HANDLERS = {
    "note": _NOTE,
    # A body of one line that begins with "bad" is noted as tried, and fails.
    "picky": 'body=$(base64 -w 0); case $body in YmFk*) echo "$body" >> tried; exit 9 ;; esac; '
    'echo "$body" >> handled',
    # Notes the body, and ends when the file "go" is there.
    "slow": _NOTE + "; until [ -e go ]; do sleep 0.05; done; echo over >> over",
    "deaf": "exec true",
}


class Place:
    """One folder, its database, its handlers, and the processes that work in it."""

    def __init__(self, path: Path):
        self.path = path
        self.env = {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "HOME": str(path),
            "LC_ALL": "C.UTF-8",
        }
        self._started: list[subprocess.Popen[str]] = []
        for name, text in _HANDLERS.items():
            self.script(name, text)

    def script(self, name: str, text: str) -> str:
        """Make an executable file; return how to call it."""
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(0o755)
        return f"./{name}"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a recipe, or a program, at the head of its own process group."""
        child = subprocess.Popen(
            _command(words),
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(child)
        return child

    def signal(self, child: subprocess.Popen[str], number: int) -> None:
        """Tell the child and all that it started, as a terminal does."""
        os.killpg(child.pid, number)

    def run(self, *words: str, stdin: str = "", status: int = 0, folder: str = ".") -> str:
        """Run a recipe, or a program, to its end; return its standard output."""
        done = subprocess.run(
            _command(words),
            cwd=self.path / folder,
            env=self.env,
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode == status, f"{words}: {done.returncode} {said}"
        return done.stdout.decode()

    def bash(self, text: str, *words: str, stdin: str = "", status: int = 0) -> str:
        """Run a few lines of bash."""
        strict = ["bash", "-euo", "pipefail", "-c", text, "bash"]
        return self.run(*strict, *words, stdin=stdin, status=status)

    def write(self, queue: str, *bodies: str) -> None:
        """Store the bodies, in this order."""
        with Broker(str(self.path / ".broker.db")) as broker:
            broker.write_many(queue, bodies)

    def messages(self, queue: str) -> list[Message]:
        """Return what is in the queue, oldest first, held and delayed messages too."""
        with Broker(str(self.path / ".broker.db")) as broker:
            return broker.peek(queue, Selection(None))

    def bodies(self, queue: str) -> list[str]:
        return [message.body for message in self.messages(queue)]

    def ids(self, queue: str) -> list[int]:
        return [message.id for message in self.messages(queue)]

    def noted(self, file: str = "handled") -> list[str]:
        """Return the bodies that a handler noted, in the order of their notes."""
        path = self.path / file
        lines = path.read_text().splitlines() if path.exists() else []
        return [base64.b64decode(line).decode() for line in lines]

    def has(self, file: str) -> bool:
        return (self.path / file).exists()

    def end(self) -> None:
        for child in self._started:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()


def ends(child: subprocess.Popen[str], status: int = 0, within: float = 15) -> str:
    """Wait until the child has ended with *status*; return what it said."""
    said, _ = child.communicate(timeout=within)
    assert child.returncode == status, said
    return said


def kill_group(child: subprocess.Popen[str]) -> None:
    """Take away a script and all that it started."""
    os.killpg(child.pid, signal.SIGKILL)
    eventually(lambda: child.poll() is not None)


def _command(words: tuple[str, ...]) -> list[str]:
    recipe = SCRIPTS / words[0]
    return [str(recipe) if recipe.suffix == ".sh" else words[0], *words[1:]]
