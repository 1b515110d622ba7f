"""CPU of one `broker` call beside a peer's, interleaved: what a shell script pays for each message.

    python bench/startup.py .venv/bin/broker PEER/bin/broker [ROUNDS]

Each round runs write, read and peek of both, in turn, on a database that exists. CPU is the
finished child's own, user and system; the ratio is of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

VERBS = (("write", "q", "x"), ("peek", "q"), ("read", "q"))


def cpu_ms(command: list[str], folder: str) -> float:
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, (command, child.returncode)
    return (used.ru_utime + used.ru_stime) * 1000


def main() -> None:
    programs = [os.path.abspath(program) for program in sys.argv[1:3]]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 21
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        places = dict(zip(programs, (ours, theirs), strict=True))
        taken: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):
            for verb in VERBS:
                for program in programs:
                    ms = cpu_ms([program, *verb], places[program])
                    if number:  # the first one makes the database
                        taken.setdefault((verb[0], program), []).append(ms)
        for verb, *_ in VERBS:
            a, b = (statistics.median(taken[verb, program]) for program in programs)
            print(f"{verb}: {a:.1f} ms against {b:.1f} ms of CPU, ratio {a / b:.2f}")


if __name__ == "__main__":
    main()
