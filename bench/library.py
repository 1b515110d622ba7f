"""The library beside SimpleBroker's: writers in contention, import time, throughput of one process.

    python bench/library.py --peer PYTHON [--rounds N] [contention] [import] [throughput]

PYTHON is an interpreter that has SimpleBroker. Each figure is the median of the rounds, in which
ours and the peer's take turns; each measurement is a process of its own. Queues are persistent,
settings the defaults, so both answer for a power cut. The files lie in the current directory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

WRITERS, WRITES = 12, 500
MESSAGES, BATCH = 2000, 100
BODY = "x" * 100
PACKAGES = ("brokerrun", "simplebroker")
IMPORTS = ("import {}", "from {} import Queue")

# ------------------------------------------------------------ in the interpreter that is measured


def write(queue: Any) -> None:
    for _ in range(MESSAGES):
        queue.write(BODY)


def read(queue: Any) -> None:
    while queue.read() is not None:
        pass


def claim_and_ack(queue: Any) -> None:
    while leases := queue.claim():
        for lease in leases:
            lease.ack()


def claim_many_and_ack(queue: Any) -> None:
    while leases := queue.claim(BATCH):
        for lease in leases:
            lease.ack()


def peek_and_delete(queue: Any) -> None:
    while (found := queue.peek(with_timestamps=True)) is not None:
        queue.delete(message_id=found[1])


def read_many(queue: Any) -> None:
    while queue.read_many(BATCH):
        pass


def read_generator(queue: Any) -> None:
    for _ in queue.read_generator():
        pass


def read_generator_at_least_once(queue: Any) -> None:
    for _ in queue.read_generator(delivery_guarantee="at_least_once"):
        pass


# What ours does, and what the peer does: it has no claim, and peek and delete are the nearest.
OPERATIONS: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "write": (write, write),
    "read": (read, read),
    "claim+ack / peek+delete": (claim_and_ack, peek_and_delete),
    "claim(100)+ack / peek+delete": (claim_many_and_ack, peek_and_delete),
    "peek+delete": (peek_and_delete, peek_and_delete),
    "read_many(100)": (read_many, read_many),
    "generator": (read_generator, read_generator),
    "generator, at least once": (read_generator_at_least_once, read_generator_at_least_once),
}


def once(package: str, operation: str, database: str) -> float:
    """Do it MESSAGES times; return how many a second."""
    queue = import_module(package).Queue("q", db_path=database, persistent=True)
    queue.write(BODY)  # opens it
    if operation == "write":
        queue.read()
    else:
        for _ in range(MESSAGES - 1):
            queue.write(BODY)
    begun = time.perf_counter()
    OPERATIONS[operation][PACKAGES.index(package)](queue)
    return MESSAGES / (time.perf_counter() - begun)


def contend(package: str, database: str) -> tuple[int, float]:
    """Write WRITES messages when told to; return how many failed, and the longest in seconds."""
    make = import_module(package).Queue
    print("ready", flush=True)
    sys.stdin.readline()
    queue = make("q", db_path=database, persistent=True)
    errors, longest = 0, 0.0
    for _ in range(WRITES):
        begun = time.perf_counter()
        try:
            queue.write(BODY)
        except Exception as error:
            print(repr(error), file=sys.stderr)
            errors += 1
        longest = max(longest, time.perf_counter() - begun)
    return errors, longest


def count(package: str, database: str) -> int:
    queue = import_module(package).Queue("q", db_path=database)
    return sum(1 for _ in queue.peek_generator())


# ------------------------------------------------------------------------ in the one that measures


def start(interpreter: str, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [interpreter, __file__, "--in-child", *words]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def result(child: subprocess.Popen[str]) -> Any:
    out, _ = child.communicate()
    assert child.returncode == 0, child.args
    return json.loads(out)


def contention(interpreters: list[str]) -> list[tuple[float, ...]]:
    """Let WRITERS write to one new file; return errors, lost, longest write, seconds, of each."""
    results: list[tuple[float, ...]] = []
    for interpreter, package in zip(interpreters, PACKAGES, strict=True):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            database = f"{folder}/q.db"
            writers = [start(interpreter, "contend", package, database) for _ in range(WRITERS)]
            for writer in writers:
                assert writer.stdout is not None
                writer.stdout.readline()
            begun = time.perf_counter()
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            answers = [result(writer) for writer in writers]
            took = time.perf_counter() - begun
            there = result(start(interpreter, "count", package, database))
        errors = sum(failed for failed, _ in answers)
        lost = WRITERS * WRITES - errors - there
        results.append((errors, lost, max(longest for _, longest in answers), took))
    return results


def throughput(interpreters: list[str], operation: str) -> list[float]:
    rates = []
    for interpreter, package in zip(interpreters, PACKAGES, strict=True):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            rates.append(result(start(interpreter, "once", package, operation, f"{folder}/q.db")))
    return rates


def import_ms(interpreters: list[str], statement: str) -> list[float]:
    """Import in a fresh interpreter that has imported sqlite3 already."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    code = "import sqlite3, time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    times = []
    for interpreter, package in zip(interpreters, PACKAGES, strict=True):
        command = [interpreter, "-c", code.format(statement.format(package))]
        times.append(float(subprocess.check_output(command, env=environment)) * 1000)
    return times


def show_contention(interpreters: list[str], rounds: int) -> None:
    each = [contention(interpreters) for _ in range(rounds)]
    print(f"\n{WRITERS} processes x {WRITES} writes, {rounds} rounds")
    print(
        f"{'':30} {'errors':>7} {'lost':>7} {'worst write':>12} {'median worst':>13} {'total':>9}"
    )
    totals = []
    for side, package in enumerate(PACKAGES):
        errors, lost, longest, took = zip(*(both[side] for both in each), strict=True)
        totals.append(statistics.median(took))
        print(
            f"{package:30} {sum(errors):7} {sum(lost):7} {max(longest):10.3f} s "
            f"{statistics.median(longest):11.3f} s {totals[-1]:7.2f} s"
        )
    ratios = [both[0][2] / both[1][2] for both in each]
    print(
        f"ratio, round by round: worst write {statistics.median(ratios):.3f}, "
        f"total {totals[0] / totals[1]:.3f}"
    )


def show(title: str, unit: str, measured: dict[str, list[list[float]]]) -> None:
    print(f"\n{title}\n{'':30} {PACKAGES[0]:>13} {PACKAGES[1]:>13} {'ratio':>6}")
    for name, pairs in measured.items():
        ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        print(f"{name:30} {ours:10.1f} {unit:2} {theirs:10.1f} {unit:2} {ratio:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the library beside SimpleBroker's.")
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("parts", nargs="*", metavar="contention | import | throughput")
    given = parser.parse_args()
    parts = given.parts or ["contention", "import", "throughput"]
    interpreters, rounds = [sys.executable, given.peer], range(given.rounds)
    if "contention" in parts:
        show_contention(interpreters, given.rounds)
    if "import" in parts:
        for statement in IMPORTS:
            import_ms(interpreters, statement)  # writes the .pyc files
        took: dict[str, list[list[float]]] = {statement: [] for statement in IMPORTS}
        for _ in range(given.rounds * 8):
            for statement in IMPORTS:
                took[statement].append(import_ms(interpreters, statement))
        show(f"import, over `import sqlite3`, {given.rounds * 8} interpreters", "ms", took)
    if "throughput" in parts:
        rates = {name: [throughput(interpreters, name) for _ in rounds] for name in OPERATIONS}
        show(f"one process, {MESSAGES} messages of {len(BODY)} bytes", "/s", rates)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-child"]:
        works: dict[str, Callable[..., Any]] = {"once": once, "contend": contend, "count": count}
        work = works[sys.argv[2]]
        print(json.dumps(work(*sys.argv[3:])))
    else:
        main()
