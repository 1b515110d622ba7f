"""Many writers and readers at once, as real commands: nothing lost, doubled or out of order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import BROKER, Commands, ended
from support import eventually

LARGE_BYTES = 10_000_000
ODD = ["\n", "\r\n", '"', "'", "\\", "\t", "\x01\x7f", "\U0001f600", "é", "\u2028", "{}", "$(x)"]


class Figures(NamedTuple):
    """What a run took."""

    messages: int
    seconds: float
    empty_looks: int


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Make a folder in which commands run."""
    commands = Commands(tmp_path)
    yield commands
    commands.end()


def bodies_of(writer: int, count: int, large: int) -> list[str]:
    """Make a writer's messages: its number, theirs, and then anything."""
    dice = random.Random(writer)
    bodies = []
    for number in range(count):
        odd = "".join(dice.choice(ODD) for _ in range(dice.randrange(12)))
        if number % 2:  # by --lines, which cannot say a newline
            odd = odd.replace("\n", "").replace("\r", "")
        bodies.append(f"{writer} {number} {odd}")
    for number in dice.sample(range(0, count, 2), large):
        bodies[number] += "x" * LARGE_BYTES
    return bodies


BATCH = 100  # of which a writer writes the even ones by --ndjson, then the odd ones by --lines
WRITER = f"""
import json, subprocess, sys
bodies, command = json.load(open(sys.argv[1])), sys.argv[2:]
for at in range(0, len(bodies), {BATCH}):
    batch = bodies[at:at + {BATCH}]
    for kind, part in ("--ndjson", batch[::2]), ("--lines", batch[1::2]):
        lines = map(json.dumps, part) if kind == "--ndjson" else part
        text = "".join(line + "\\n" for line in lines).encode()
        subprocess.run([*command, "write", "q", kind], input=text, check=True)
"""


def many(commands: Commands, *, each: int, large: int, workers: int = 8) -> Figures:
    """Let *workers* write and as many read; check what came out against what went in."""
    began = time.monotonic()
    written = {number: bodies_of(number, each, large) for number in range(workers)}
    writers = [start_writer(commands, number, written[number]) for number in range(workers)]
    shown: list[list[str]] = [[] for _ in range(workers)]
    looks = 0
    while True:
        over = all(writer.poll() is not None for writer in writers)
        readers = [
            commands.start("read q --all --json --wait 1s", 1 if number % 2 else 20)
            for number in range(workers)
        ]
        found = 0
        for number, reader in enumerate(readers):
            status, lines, said = ended(reader, within=120)
            assert said == ""
            assert status == (0 if lines else 2)
            shown[number] += [json.loads(line)["message"] for line in lines]
            found += len(lines)
        looks += not found
        if over and not found:
            break
    assert [writer.returncode for writer in writers] == [0] * workers
    went_in = Counter(body for bodies in written.values() for body in bodies)
    came_out = Counter(body for bodies in shown for body in bodies)
    assert came_out == went_in
    for bodies in shown:
        for writer in range(workers):
            mine = [body for body in bodies if body.startswith(f"{writer} ")]
            assert in_order(mine)
    assert commands.left() == []
    return Figures(went_in.total(), time.monotonic() - began, looks)


def start_writer(commands: Commands, number: int, bodies: list[str]) -> subprocess.Popen[bytes]:
    source = commands.folder / f"{number}.json"
    source.write_text(json.dumps(bodies))
    return commands.started(
        [sys.executable, "-c", WRITER, str(source), *BROKER], cwd=commands.folder
    )


def in_order(bodies: list[str]) -> bool:
    """Tell whether a reader saw a writer's messages as they were written.

    In each batch the even ones come first: that is how they are written.
    """
    numbers = [int(body.split()[1]) for body in bodies]
    written = [(number // BATCH, number % 2, number) for number in numbers]
    return written == sorted(written)


def test_many_writers_and_readers_lose_double_and_disorder_nothing(commands: Commands) -> None:
    figures = many(commands, each=250, large=0)
    print(figures)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_messages_of_eight_writers_and_eight_readers(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_BUSY_TIMEOUT", "60000")  # the disk may be anybody's
    figures = many(commands, each=2500, large=1)
    print(figures)
    assert figures.messages == 20_000


def test_first_writers_do_not_race_the_set_up(commands: Commands) -> None:
    writers = [commands.start(f"write q {number}") for number in range(8)]
    assert [ended(writer)[0] for writer in writers] == [0] * 8
    assert sorted(commands.left()) == [str(number) for number in range(8)]


@pytest.mark.parametrize("victim", ["write q --lines", "read q --all", "move q r --all"])
def test_killed_command_leaves_the_database_usable(commands: Commands, victim: str) -> None:
    commands.fill(400, body=lambda number: f"{number} ".ljust(2000, "x"))
    source = commands.folder / "lines"
    source.write_text("".join(f"{number} new\n" for number in range(2000)))
    for delay in range(4):
        with open(source) as lines, open("/dev/null", "wb") as nowhere:
            process = commands.start(victim, 10, stdin=lines, stdout=nowhere)
            began = time.monotonic()
            eventually(lambda: time.monotonic() > began + 0.05 * (delay + 1))  # noqa: B023
            process.kill()
            process.wait()
        commands.run(f"write q after{delay}")
        assert f"after{delay}" in commands.left()
    new = [body for body in commands.left() if body.endswith(" new")]
    assert len(new) % 2000 == 0  # all or nothing
    if "read" not in victim:
        old = [body for queue in ("q", "r") for body in commands.left(queue) if body.endswith("x")]
        assert len(old) == 400
