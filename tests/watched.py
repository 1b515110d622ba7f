"""What the tests of watchers share."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Talk

from brokerrun.core.loop import Watcher
from brokerrun.core.queue import Queue
from brokerrun.watcher import MultiQueueWatcher, QueueMoveWatcher, QueueWatcher

Seen = list[tuple[str, int]]

KINDS: dict[str, Callable[..., Watcher]] = {
    "consume": lambda db, handler, **more: QueueWatcher("q", handler, db=db, **more),
    "peek": lambda db, handler, **more: QueueWatcher("q", handler, db=db, peek=True, **more),
    "move": lambda db, handler, **more: QueueMoveWatcher("q", "r", handler, db=db, **more),
    "several": lambda db, handler, **more: MultiQueueWatcher(["q", "x"], handler, db=db, **more),
}


def fill(database: str, *bodies: str, queue: str = "q") -> list[int]:
    """Write messages and return their ids."""
    return Queue(queue, database).write_many(bodies)


def left(database: str, queue: str = "q") -> list[str]:
    """List the bodies that are in a queue."""
    return Queue(queue, database).peek_many(1000)


def noting(seen: Seen) -> Callable[[str, int], None]:
    """Make a handler that appends what it gets."""
    return lambda message, ident: seen.append((message, ident))


def failing(message: str, ident: int) -> None:
    """Handle nothing."""
    raise ValueError(f"cannot do {message}")


def hold_lock(database: str, talk: Talk) -> None:
    """Keep the write lock of a database until something is said."""
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("begin immediate")
    talk.send("locked")
    talk.recv()
    db.execute("rollback")
    db.close()


@contextmanager
def running(watcher: Watcher) -> Iterator[threading.Thread]:
    """Run a watcher in a thread, which must end with the block."""
    thread = watcher.run_in_thread()
    try:
        yield thread
    finally:
        watcher.stop()
        thread.join(10)
        assert not thread.is_alive()
