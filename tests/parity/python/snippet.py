"""A Python snippet of the documents, made a program that stands by itself and says what it did."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from parity.transcript import Answer, Case, Tools, run_case

SNIPPETS: Final = Path(__file__).with_name("snippets")
DRIVE: Final = Path(__file__).with_name("drive.py")
OURS: Final = {
    "simplebroker": "brokerrun",
    "async_wrapper": "brokerrun.aio",
    "async_pooled_broker": "brokerrun.aio",
    "sqqueue": "brokerrun.sqqueue",
}
_IMPORTED: Final = re.compile(r"^(?P<from> *from )(?P<name>\w+)(?=[. ])", re.MULTILINE)
_WORKER: Final = re.compile(r"^Worker \d")


@dataclass(frozen=True)
class Snippet:
    """One of the files in `snippets`, and what it takes for granted.

    after: Snippets that run before it, in the same program.
    given: What runs between those and it. show: What runs after it.
    fills: Places that it leaves to the reader, and what stands there.
    lines: How many lines it prints before it is sent SIGINT; 0: it ends by itself.
    unordered: It prints from several tasks, or the same thing again: its distinct lines count,
        and not which worker printed them.
    """

    name: str
    given: str = ""
    show: str = ""
    after: tuple[str, ...] = ()
    fills: Mapping[str, str] = field(default_factory=dict)
    lines: int = 0
    unordered: bool = False

    def program(self, *, ours: bool) -> str:
        """Write the program, with the import lines as they are or as `OURS` says."""
        before = [_text(name) for name in self.after]
        itself = _text(self.name)
        for place, filled in self.fills.items():
            assert place in itself, f"{self.name} has no {place!r}"
            itself = itself.replace(place, filled)
        program = "\n".join([*before, self.given, itself, self.show])
        return _IMPORTED.sub(_renamed, program) if ours else program

    def run(self, python: str, folder: Path, *, ours: bool) -> Answer:
        """Run the program by *python*, as a process of its own in an empty *folder*."""
        (folder / "program.py").write_text(self.program(ours=ours), encoding="utf-8")
        line = f"{shlex.quote(python)} -P -u {shlex.quote(str(DRIVE))} program.py"
        line += f"  # INT after {self.lines}" if self.lines else ""
        env = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")} if ours else {}
        [answer] = run_case(Case(self.name, line, env), Tools(folder), folder)
        if not self.unordered:
            return answer
        lines = {_WORKER.sub("Worker <n>", line) for line in answer.out.splitlines(keepends=True)}
        return replace(answer, out="".join(sorted(lines)))


def document(name: str) -> str:
    """Tell which document a snippet stands in."""
    found = re.match(r"# Document (\d{3}), line \d+\.\n", _text(name))
    assert found, f"{name} does not say where it is from"
    return found[1]


def _text(name: str) -> str:
    return (SNIPPETS / f"{name}.py").read_text(encoding="utf-8")


def _renamed(line: re.Match[str]) -> str:
    return line["from"] + OURS.get(line["name"], line["name"])
