"""Transcripts: command lines run side by side, their answers made comparable.

A case is a text: each line is a step, run by `bash -c` in the folder of the case; a line that
begins with a space belongs, without it, to the step above. A comment at the end of a step says
how it is run:

- `# prose`: what it prints is words; only whether it prints any is compared.
- `# terminal`: its standard input is a terminal (else it is empty).
- `# INT after 2`: it is sent SIGINT, as a terminal does, as soon as it has printed two lines.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support import eventually

PATIENCE = 60.0
_MARK = re.compile(r"  # (?P<how>prose|terminal|(?P<signal>INT|TERM) after (?P<lines>\d+))$")
_ID = re.compile(r"(?<!\d)\d{19}(?!\d)")
_SIZE = re.compile(r'(db_size"?: )\d+')
_OUR_ID = re.compile(r'("timestamp": (?P<id><id\d+>)), "id": "(?P=id)"')
# The recipes of the documents pass ids through jq, whose version 1.6 changes them.
_JQ = r"""
import json, sys
*_, path = sys.argv
for line in sys.stdin:
    value = json.loads(line)[path.removeprefix(".")]
    print(value if "-r" in sys.argv else json.dumps(value))
"""


@dataclass(frozen=True)
class Step:
    line: str
    prose: bool = False
    terminal: bool = False
    signal: str | None = None
    lines: int = 0  # printed before the signal is sent


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    env: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False  # left to the thorough run: an odd corner, or told elsewhere too

    @property
    def steps(self) -> list[Step]:
        joined = self.text.strip("\n").replace("\n ", "\0")
        return [_step(line.replace("\0", "\n")) for line in joined.split("\n") if line]


@dataclass(frozen=True)
class Answer:
    """What a step did: its standard output is normalised."""

    exit: int
    out: str
    spoke: bool  # on standard error


@dataclass(frozen=True)
class Tools:
    """A folder with the programs that the steps call by name."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, broker: Path | str) -> Tools:
        """Put `broker`, `jq` and `python3` into *folder*; *broker* is a program, or our source."""
        python = f"#!{sys.executable}\n"
        if isinstance(broker, Path):
            (folder / "broker").symlink_to(broker.absolute())
        else:
            (folder / "broker").write_text(python + broker)
        (folder / "jq").write_text(python + _JQ)
        (folder / "python3").symlink_to(sys.executable)
        for name in ("broker", "jq"):
            (folder / name).chmod(0o755)
        return cls(folder)


class Normaliser:
    """Replaces what differs from run to run; the same id is the same word all through a case."""

    def __init__(self, folder: Path):
        self._folder = str(folder)
        self._ids: dict[str, str] = {}

    def __call__(self, printed: str) -> str:
        shown = printed.replace(self._folder, "<folder>")
        return _SIZE.sub(r"\1<size>", _ID.sub(self._name, shown))

    def _name(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], f"<id{len(self._ids) + 1}>")


def without_our_id(normalised: str) -> str:
    """Take away the one key that ours adds to the JSON of a message (DESIGN section 7).

    Only where it says the same id as the timestamp before it; anything else stays and is seen.
    """
    return _OUR_ID.sub(r"\1", normalised)


def run_case(case: Case, tools: Tools, folder: Path, patience: float = PATIENCE) -> list[Answer]:
    """Run the steps of *case* one after the other in *folder*.

    Raises:
        subprocess.TimeoutExpired: A step took longer than *patience*; nothing of it is left.
    """
    folder = folder.resolve()
    env = {
        "PATH": f"{tools.folder}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        **case.env,
    }
    normalise = Normaliser(folder)
    answers = []
    for step in case.steps:
        status, out, err = _run(step, folder, env, patience)
        shown = normalise(out)
        if step.prose:
            shown = "<prose>" if shown.strip() else ""
        answers.append(Answer(status, shown, bool(err.strip())))
    return answers


def start_cases(
    cases: Iterable[Case], run: Callable[[Case], list[Answer]]
) -> dict[str, Future[list[Answer]]]:
    """Begin to run *cases* side by side.

    As many at once as the machine has cores and one: most of a step is Python starting.
    """
    pool = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1)
    futures = {case.name: pool.submit(run, case) for case in cases}
    pool.shutdown(wait=False)
    return futures


def _step(line: str) -> Step:
    mark = _MARK.search(line)
    if mark is None:
        return Step(line)
    return Step(
        line,
        prose=mark["how"] == "prose",
        terminal=mark["how"] == "terminal",
        signal=mark["signal"],
        lines=int(mark["lines"] or 0),
    )


def _run(step: Step, folder: Path, env: dict[str, str], patience: float) -> tuple[int, str, str]:
    ours, theirs = pty.openpty() if step.terminal else (-1, os.open(os.devnull, os.O_RDONLY))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            ["bash", "-c", step.line],
            cwd=folder,
            env=env,
            stdin=theirs,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            if step.signal is not None:
                _interrupt(process, step, out.fileno(), patience)
            status = process.wait(patience)
        finally:
            with suppress(ProcessLookupError):  # a background job may have outlived its shell
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for descriptor in {ours, theirs} - {-1}:
                os.close(descriptor)
        seen = 128 - status if status < 0 else status  # as a shell says it
        return seen, _text(out.fileno()), _text(err.fileno())


def _interrupt(process: subprocess.Popen[bytes], step: Step, out: int, patience: float) -> None:
    """Send the signal to the whole group once the lines are there, or leave one that ended."""
    eventually(
        lambda: process.poll() is not None or _text(out).count("\n") >= step.lines,
        within=patience,
    )
    if process.poll() is None:
        os.killpg(process.pid, signal.Signals[f"SIG{step.signal}"])


def _text(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode("utf-8", "backslashreplace")
