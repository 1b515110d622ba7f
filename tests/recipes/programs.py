"""Runs the programs of `examples/python`, and hears what they print."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from recipes.place import Place, kill_group

PROGRAMS = Path(__file__).parents[2] / "examples" / "python"
ENDING = [signal.SIGTERM, signal.SIGINT]


def call(program: str, *words: str) -> list[str]:
    return [sys.executable, str(PROGRAMS / program), *words]


def run(place: Place, program: str, *words: str, status: int = 0, folder: str = ".") -> list[str]:
    """Run a program to its end; return the lines that it printed."""
    return place.run(*call(program, *words), status=status, folder=folder).splitlines()


def lines(child: subprocess.Popen[str], count: int) -> list[str]:
    """Return the next lines of a program that runs."""
    assert child.stdout is not None
    return [child.stdout.readline().removesuffix("\n") for _ in range(count)]


def rest(child: subprocess.Popen[str], status: int = 0) -> list[str]:
    """Wait until a program has ended; return the lines that it printed since `lines`."""
    assert child.stdout is not None
    said = child.stdout.read()  # communicate would pass by what `lines` left in the buffer
    assert child.wait(15) == status, said
    return said.splitlines()


def killed_after(child: subprocess.Popen[str], count: int) -> list[str]:
    """Kill a program when it has printed so many lines; return all that it printed."""
    first = lines(child, count)
    kill_group(child)
    return first + rest(child, -signal.SIGKILL)


def numbered(count: int) -> list[str]:
    return [f"{number:04}" for number in range(count)]


def programs() -> list[str]:
    return sorted(path.name for path in PROGRAMS.glob("*.py"))
