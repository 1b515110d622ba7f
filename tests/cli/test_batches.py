"""--all: bounded in memory, and honest about what was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from processes import (
    BROKER,
    PIPE_BYTES,
    STRIKE,
    Commands,
    ended,
    peak_bytes,
    stuck,
    whole,
    with_interval,
)
from support import eventually

MEGABYTE = 1_000_000
ROOM_BYTES = 40 * MEGABYTE  # a page of messages, the cache of SQLite, a message twice


def numbers(bodies: list[str]) -> list[int]:
    return [int(body.split()[0]) for body in bodies]


@pytest.mark.parametrize(
    "count", [60, pytest.param(300, marks=pytest.mark.slow)], ids=["60 MB", "300 MB"]
)
def test_memory_of_all_does_not_grow_with_the_queue(commands: Commands, count: int) -> None:
    small = peak_bytes("read none --all", commands.folder)
    for start in range(0, count, 20):
        commands.fill(20, body=lambda number, at=start: f"{at + number} " + "x" * MEGABYTE)
    peaks = {}
    lines = ["peek q --all", "peek q --all --json", "dump", "move q r --all", "read r --all"]
    for line in lines:
        peaks[line] = peak_bytes(line, commands.folder, interval=1000) - small
    print({line: f"{peak / MEGABYTE:.0f} MB" for line, peak in peaks.items()})
    assert commands.left() + commands.left("r") == []
    assert {line: peak for line, peak in peaks.items() if peak > ROOM_BYTES} == {}


@pytest.mark.slow
def test_memory_of_read_all_one_by_one_does_not_grow_with_the_queue(commands: Commands) -> None:
    small = peak_bytes("read none --all", commands.folder)
    for _ in range(15):
        commands.fill(20, body=lambda number: f"{number} " + "x" * MEGABYTE)
    peak = peak_bytes("read q --all", commands.folder)
    print(f"{(peak - small) / MEGABYTE:.0f} MB")
    assert commands.left() == []
    assert peak - small < ROOM_BYTES


@pytest.mark.parametrize("interval", [1, 10])
def test_head_costs_what_the_pipe_took_and_the_batch_in_hand(
    commands: Commands, interval: int
) -> None:
    size, count = 1000, 500
    commands.fill(count, body=lambda number: f"{number:06} ".ljust(size - 1, "x"))
    process = commands.start("read q --all", interval)
    head = subprocess.run(["head", "-n1"], stdin=process.stdout, capture_output=True, check=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    left = numbers(commands.left())
    gone = count - len(left)
    assert left == list(range(gone, count))  # what is left is in order, and nothing between is gone
    # `head` reads a buffer before it prints one line, and the pipe holds the rest.
    most = 2 * PIPE_BYTES // size
    assert numbers([head.stdout.decode()]) == [0]
    assert gone <= most + interval
    assert gone % interval == 0


@pytest.mark.parametrize(
    ("verb", "interval"), [("read q --all", 1), ("read q --all", 10), ("move q r --all", 1)]
)
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_batch_goes_back_whole_and_in_order(
    commands: Commands, verb: str, interval: int, signum: int, status: int
) -> None:
    commands.fill(200, body=lambda number: f"{number} ".ljust(3000, "x"))
    process = commands.start(verb, interval)
    eventually(lambda: stuck(process.pid))
    process.send_signal(signum)
    assert process.wait(20) == status
    left, moved = commands.left(), commands.left("r")
    assert numbers(moved + left) == list(range(200 - len(moved) - len(left), 200))
    assert len(left) % interval == 0
    rest = [json.loads(line) for line in commands.run("peek q --all --json").stdout.splitlines()]
    assert [message for message in rest if "attempts" in message or "state" in message] == []
    assert [message["message"] for message in rest] == left
    _, shown, said = ended(process)
    assert said == ""
    if verb.startswith("read"):  # each is in the pipe, or left
        assert set(range(200)) - set(numbers(left)) <= whole(shown, 3000)


def test_move_that_is_interrupted_leaves_in_the_source_what_was_not_printed(
    commands: Commands,
) -> None:
    commands.fill(3000, body=lambda number: f"{number} ".ljust(100, "x"))
    process = commands.start("move q r --all")
    eventually(lambda: stuck(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    moved = numbers(commands.left("r"))
    assert sorted(moved + numbers(commands.left())) == list(range(3000))
    assert set(moved) <= whole(ended(process)[1], 100)


@pytest.mark.parametrize("interval", [1, 10])
def test_killed_reader_loses_no_batch_of_several(commands: Commands, interval: int) -> None:
    commands.fill(200, body=lambda number: f"{number} ".ljust(3000, "x"))
    process = commands.start("read q --all", interval)
    eventually(lambda: stuck(process.pid))
    process.kill()
    _, shown, _ = ended(process)
    again = commands.run("read q --all").stdout.decode().splitlines()
    missing = set(range(200)) - whole(shown, 3000) - whole(again, 3000)
    assert len(missing) <= (interval == 1)  # at most once: the one in hand; else at least once
    assert numbers(again) == sorted(numbers(again))
    assert len(whole(shown, 3000) & whole(again, 3000)) <= (0 if interval == 1 else interval)


@pytest.mark.parametrize("interval", [1, 10])
def test_two_readers_share_a_queue_without_doubles(commands: Commands, interval: int) -> None:
    bodies = commands.fill(300)
    both = [commands.start("read q --all", interval) for _ in range(2)]
    shown = [ended(process)[1] for process in both]
    assert Counter(shown[0] + shown[1]) == Counter(bodies)
    assert [numbers(lines) == sorted(numbers(lines)) for lines in shown] == [True, True]


@pytest.mark.parametrize("interval", [1, 10])
def test_batches_show_what_single_reads_show(commands: Commands, interval: int) -> None:
    with commands.opened() as broker:
        for priority in (5, 0, -1):
            broker.write("q", f"p{priority}", priority=priority)
    shown = [json.loads(line) for line in ended(commands.start("read q --all --json", interval))[1]]
    assert [message["message"] for message in shown] == ["p-1", "p0", "p5"]
    assert [message.get("priority") for message in shown] == [-1, None, 5]


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ("read q --all", "Broker.read"),
        ("read q", "Broker.read"),
        ("move q r --all", "Broker.move"),
        ("read q --all", "require_output"),
        ("watch q -q", "Broker.read"),
        ("watch q -q --move r", "Broker.move"),
    ],
)
@pytest.mark.parametrize("interval", [1, 10])
def test_signal_that_comes_twice_loses_nothing(
    commands: Commands, line: str, point: str, interval: int
) -> None:
    commands.fill(5)
    if interval == 10 and point == "Broker.read" and "--all" in line:
        point = "Broker.claim"
    code = f"{STRIKE}\nstrike({point!r}, 2)\nsys.argv[1:] = {line.split()!r}\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=commands.folder,
        capture_output=True,
        env=with_interval(interval),
        timeout=30,
    )
    assert done.stderr == b""
    assert done.returncode == (0 if "watch" in line else 143)
    assert numbers(done.stdout.decode().splitlines() + commands.left()) == list(range(5))
    assert commands.left("r") == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["read q", "read q --all", "move q r", "watch q -q"])
def test_what_fits_in_half_goes_back(commands: Commands, line: str, unbuffered: str) -> None:
    """A disk that fills up takes a part of a write, and says so at the next one."""
    commands.fill(1, body=lambda number: f"{number} ".ljust(8000, "x"))
    full = commands.folder / "full"
    full.touch()
    os.truncate(full, (4096 - 4) * 1024)  # 4 KB more may be written, half of the message
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 4096; exec "$@" >> full', "bash", *BROKER, *line.split()],
        cwd=commands.folder,
        env={**with_interval(1), "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert b"standard output: File too large" in done.stderr
    assert numbers(commands.left()) == [0]
