"""The turnstile against its alternatives: rate, share of the slowest writer, longest wait.

    python bench/turnstile.py [SECONDS]

Each writer is a process that inserts one row a transaction and flushes the log after it, as a
producer does. Ways: `turnstile` is ours (bounded, polls); `blocking` is the same two locks taken by
calls that block without a deadline; `busy` is SQLite's own busy wait. Compare inside one run.
"""

import fcntl
import os
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable

from brokerrun.core.backends.sqlite.lockfile import Lockfile

BYTE = struct.Struct("hhqqi4x")
Lock = tuple[Callable[[], None], Callable[[], None]]


def turnstile(folder: str) -> Lock:
    lock = Lockfile(f"{folder}/lock", f"{folder}/db")
    return lambda: lock.enter(30), lock.leave


def blocking(folder: str) -> Lock:
    fd = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT, 0o600)

    def enter() -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, BYTE.pack(fcntl.F_WRLCK, 0, 0, 1, 0))
        fcntl.flock(fd, fcntl.LOCK_UN)

    def leave() -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, BYTE.pack(fcntl.F_UNLCK, 0, 0, 1, 0))

    return enter, leave


def busy(folder: str) -> Lock:
    return lambda: None, lambda: None


def write_for(seconds: float, folder: str, way: Callable[[str], Lock]) -> tuple[int, float]:
    """Insert until the time is over; return how many, and the longest wait in seconds."""
    enter, leave = way(folder)
    db = sqlite3.connect(f"{folder}/db", isolation_level=None, timeout=30)
    db.execute("pragma synchronous = normal")
    db.execute("pragma wal_autocheckpoint = 0")
    db.execute("select count(*) from message").fetchone()
    log = os.open(f"{folder}/db-wal", os.O_RDONLY)
    count, worst, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        enter()
        db.execute("begin immediate")
        worst = max(worst, time.monotonic() - begun)
        db.execute("insert into message(body) values (?)", ("x" * 100,))
        db.execute("commit")
        leave()
        os.fdatasync(log)
        count += 1
    return count, worst


def measure(way: Callable[[str], Lock], writers: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        db = sqlite3.connect(f"{folder}/db")
        db.execute("pragma journal_mode = wal")
        db.execute("create table message(id integer primary key, body text)")
        db.close()
        pipes = []
        for _ in range(writers):
            read_fd, write_fd = os.pipe()
            if os.fork() == 0:
                os.write(write_fd, struct.pack("qd", *write_for(seconds, folder, way)))
                os._exit(0)
            pipes.append(read_fd)
        results = [struct.unpack("qd", os.read(fd, 16)) for fd in pipes]
        for fd in pipes:
            os.wait()
            os.close(fd)
    counts = [count for count, _ in results]
    return (
        f"{way.__name__:>10} {writers:>3} writers: {sum(counts) / seconds:>7.0f}/s, share "
        f"{min(counts) / max(counts):.2f}, longest wait {max(w for _, w in results) * 1000:.1f} ms"
    )


if __name__ == "__main__":
    for number in (1, 4, 8, 32):
        for each in (turnstile, blocking, busy):
            print(measure(each, number, float(sys.argv[1]) if sys.argv[1:] else 3.0), flush=True)
