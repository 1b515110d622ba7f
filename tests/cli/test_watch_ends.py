"""`broker watch`, ended by a signal, by its reader, and by the loss of its database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import BROKER, STRIKE, Commands, ended, stuck, with_interval
from support import eventually, sleeps

from brokerrun.core.broker import Broker

MODES = ["watch q", "watch q --peek", "watch q --move r"]


def removed(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{database}{suffix}")


def replaced(database: Path) -> None:
    with Broker(f"{database}.new") as broker:
        broker.write("q", "of another database")
    os.replace(f"{database}.new", database)


def cleaned(database: Path) -> None:
    subprocess.run([*BROKER, "--cleanup"], cwd=database.parent, check=True)


@pytest.mark.parametrize(
    ("line", "loss"),
    [*((line, loss) for line in MODES for loss in (removed, replaced)), ("watch q", cleaned)],
)
def test_watcher_whose_database_goes_ends_within_a_second(
    commands: Commands, line: str, loss: Callable[[Path], None]
) -> None:
    commands.fill(1, queue="other")
    watcher = commands.follow(line)
    eventually(lambda: sleeps(watcher.pid))
    loss(Path(commands.database))
    gone = time.monotonic()
    status, shown, said = ended(watcher)
    assert time.monotonic() - gone < 1
    assert (status, shown) == (1, [])
    assert "deleted, renamed or replaced" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("line", MODES)
def test_watcher_whose_reader_goes_ends_at_once_also_while_idle(
    commands: Commands, line: str
) -> None:
    watcher = commands.follow(line)
    eventually(lambda: sleeps(watcher.pid))
    assert watcher.stdout is not None
    gone = time.monotonic()
    watcher.stdout.close()
    assert watcher.wait(5) == 0
    assert time.monotonic() - gone < 0.5
    assert watcher.stderr is not None
    assert watcher.stderr.read() == b""


def test_watcher_whose_reader_goes_from_a_socket_ends_too(commands: Commands) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watcher = commands.follow("watch q", stdout=theirs)
        theirs.close()
        eventually(lambda: sleeps(watcher.pid))
        ours.close()
        assert watcher.wait(5) == 0


def test_reader_that_goes_takes_nothing_with_it(commands: Commands) -> None:
    bodies = commands.fill(300, body=lambda number: f"{number} ".ljust(3000, "x"))
    watcher = commands.follow("watch q")
    subprocess.run(["head", "-n1"], stdin=watcher.stdout, stdout=subprocess.DEVNULL, check=True)
    assert watcher.stdout is not None
    watcher.stdout.close()
    assert watcher.wait(5) == 0
    left = commands.left()
    assert len(left) > 250
    assert left == bodies[-len(left) :]


@pytest.mark.parametrize("line", MODES)
def test_stuck_watcher_ends_on_a_signal_and_keeps_what_it_did_not_print(
    commands: Commands, line: str
) -> None:
    commands.fill(100, body=lambda number: f"{number} ".ljust(3000, "x"))
    watcher = commands.follow(line)
    eventually(lambda: stuck(watcher.pid))
    began = time.monotonic()
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(5) == 0
    assert time.monotonic() - began < 2
    shown = len(ended(watcher)[1])
    left, moved = len(commands.left()), len(commands.left("r"))
    assert (left, moved) == (
        100 if "--peek" in line else 100 - shown,
        shown if "--move" in line else 0,
    )


@pytest.mark.parametrize(
    ("line", "point", "turn"),
    [
        ("watch q -q", "Broker.read", 1),
        ("watch q -q", "as_line", 1),
        ("watch q -q --peek", "as_line", 3),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_signal_between_taking_and_printing_neither_loses_nor_prints_what_is_left(
    commands: Commands, line: str, point: str, turn: int, times: int
) -> None:
    commands.fill(3)
    strike = f"strike({point!r}, {times}, {turn})\nsys.argv[1:] = {line.split()!r}"
    done = subprocess.run(
        [sys.executable, "-c", f"{STRIKE}\n{strike}\nmain()"],
        cwd=commands.folder,
        env=with_interval(1),
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    assert commands.left() == ["0", "1", "2"]


def test_watch_into_nowhere_takes_nothing(commands: Commands) -> None:
    commands.fill(3)
    with open("/dev/full", "wb") as full:
        done = commands.run("watch q -q", stdout=full, capture_output=False, stderr=subprocess.PIPE)
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)
    assert commands.left() == ["0", "1", "2"]
