"""Handles that come and go by themselves: in other threads while we fork, and in the collector."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from support import eventually

from brokerrun import Broker, Queue
from brokerrun.core.model import Selection
from brokerrun.errors import ForkUnsafe

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
ROUNDS = 60


def test_a_thread_that_opens_new_handles_while_we_fork_harms_no_file(database: str) -> None:
    stop, written = threading.Event(), []

    def come_and_go() -> None:
        while not stop.is_set():
            with Broker(database) as broker:
                written.append(broker.write("thread", "x"))

    main = Queue("main", database, persistent=True)
    main.write("x")
    thread = threading.Thread(target=come_and_go)
    thread.start()
    refused = 0
    for _ in range(ROUNDS):
        main.write("x")
        pid = os.fork()
        if pid == 0:
            os._exit(_write_in_child(database))
        refused += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    stop.set()
    thread.join(10)
    main.close()
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    with Broker(database) as broker:
        counts = {stats.queue: stats.total for stats in broker.queues()}
    assert counts["main"] == ROUNDS + 1
    assert counts["thread"] == len(written)
    assert counts.get("child", 0) == ROUNDS - refused


def _write_in_child(database: str) -> int:
    """Write beside whatever the parent does: 0 written, 3 refused, 4 beside an inherited handle."""
    wanted = os.stat(database).st_ino
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.stat(f"/proc/self/fd/{name}").st_ino == wanted:
                inherited = True
                break
        except OSError:
            continue
    else:
        inherited = False
    try:
        Queue("child", database).write("x")
    except ForkUnsafe:
        return 3
    return 4 if inherited else 0


def test_the_collector_may_find_open_handles_at_any_moment(database: str) -> None:
    class Node:
        def __init__(self) -> None:
            self.me, self.queue = self, Queue("q", database, persistent=True)

    steady = Queue("q", database, persistent=True)
    steady.write("first")
    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        begun = time.monotonic()
        for _ in range(30):
            Node().queue.write("dropped")
            steady.write("kept")
        assert time.monotonic() - begun < 5
    finally:
        gc.set_threshold(*before)
    pid = os.fork()
    if pid == 0:
        os._exit(_write_in_child(database))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    steady.close()
    with Broker(database) as broker:
        assert len(broker.peek("q", Selection(limit=None))) == 61


def test_a_handle_that_was_dropped_is_closed_by_the_next_one(database: str) -> None:
    dropped = Queue("q", database, persistent=True)
    dropped.write("x")
    del dropped
    gc.collect()
    with Broker(database) as broker:
        broker.write("q", "y")
    eventually(lambda: not os.path.exists(f"{database}-wal"))
