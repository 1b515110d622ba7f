"""A fleet to strike: what its workers do, and who writes to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from supervised import Site

# A message in hand is a locked file; a subprocess of its handler holds the lock with it. Who finds
# it locked looks whether its holder is dying: only one that lives on is at it too.
HANDLERS = """
    import fcntl

    def dying(pid):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{pid}/status") as file:
                masks = [line.split()[1] for line in file if line[:6] in ("SigPnd", "ShdPnd")]
        except OSError:
            return True
        leaving = fields[0] in b"ZX" or int(fields[6]) & 0x404  # PF_EXITING, PF_SIGNALED
        return leaving or any(int(mask, 16) >> signal.SIGKILL - 1 & 1 for mask in masks)

    def holds(pid, path):
        try:
            return any(os.readlink(entry.path) == path for entry in os.scandir(f"/proc/{pid}/fd"))
        except OSError:
            return False

    def hold(path, ident):
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        end = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                others = {int(name) for name in os.listdir("/proc") if name.isdigit()}
                holders = [p for p in others - {os.getpid()} if holds(p, path) and not dying(p)]
                if holders or time.monotonic() > end:
                    note("overlap", ident, os.getpid(), *holders)
                    return fd

    def handle(job, work):
        path = os.path.realpath(f"{HERE}/hands/{job.id}")
        fd, owner = hold(path, job.id), os.environ["BROKERRUN_OWNER"]
        note("begin", job.id, owner, os.getpid(), job.attempt, time.monotonic_ns(), job.body)
        _, milliseconds, kind = job.body.split(":")
        work(fd, int(milliseconds) / 1000)
        fails = kind == "fails" and job.attempt == 1
        note("end", job.id, owner, "failed" if fails else "done", time.monotonic_ns())
        os.unlink(path)
        os.close(fd)
        if fails:
            raise ValueError("told to fail")

    def peek(job):
        handle(job, lambda fd, seconds: time.sleep(seconds))

    move = pair = peek

    def child(job):
        away = bool(job.id >> 12 & 1)
        handle(job, lambda fd, seconds: subprocess.run(
            ["sleep", str(seconds)], pass_fds=[fd], start_new_session=away, check=True))
"""
INSTANCE = {"crash_limit": "1000/1s"}
MANY = {"backoff": "20ms..100ms", "max_attempts": 60, "crashes": 60}
WORKERS: Final[dict[str, dict[str, Any]]] = {
    "peek": {"processes": 2, **MANY},
    "move": {"mode": "move", "prefetch": 1, **MANY},
    "pair": {"mode": "move", "queues": ["one", "two"], "backoff": "20ms..100ms"},
    "child": {"prefetch": 4, **MANY},
}
QUEUES: Final = ("peek", "move", "one", "two", "child")
PRODUCER = """
import os, random, select, sys, time
from brokerrun import Broker
KINDS = ["fails", *["ok"] * 30]
database, promised, pause, seed, *queues = sys.argv[1:]
dice, due = random.Random(int(seed)), time.monotonic()
with Broker(database) as broker, open(promised, "ab", buffering=0) as file:
    while not select.select([sys.stdin], [], [], max(due - time.monotonic(), 0))[0]:
        due += float(pause)
        for queue in queues:
            most, number, long = (50, 1, 40) if queue in ("move", "child") else (3, 8, 800)
            times = [dice.randint(1, most) for _ in range(number)]
            times = [1100 if dice.randrange(long) == 0 else each for each in times]
            bodies = [f"p:{each}:{dice.choice(KINDS)}" for each in times]
            idents = broker.write_many(queue, bodies)
            file.write("".join(f"{ident}\\n" for ident in idents).encode())
"""


@contextmanager
def producer(site: Site, seed: int, pause: float = 0.1) -> Iterator[None]:
    """Have a process write 26 messages every *pause* seconds, and note what is promised."""
    command = [sys.executable, "-c", PRODUCER, site.database, str(site.folder / "promised")]
    command += [str(pause), str(seed), *QUEUES]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
            process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0, "the producer could not write"
