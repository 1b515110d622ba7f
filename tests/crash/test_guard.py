"""A handler that copies the database's folder drops every lock of its process; a guard saves it.

A close() of any descriptor of a file drops all POSIX locks that the process has on it. The next
command then takes itself for the last user and deletes the log under the worker.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection as Talk
from pathlib import Path

from support import Child, eventually

from brokerrun.core.backends.sqlite.store import SqliteStore
from brokerrun.core.model import Effect, Selection, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.states import Event

MESSAGES = 100
WRITERS = 2
EVERY = Selection(limit=None)


def guard(database: str) -> Callable[[Talk], None]:
    """Hold a connection that has read a table, and run no user code."""

    def hold(talk: Talk) -> None:
        store = SqliteStore(database)
        store.queues()
        talk.send("holds")
        talk.recv()
        store.close()

    return hold


def copying_worker(database: str) -> Callable[[Talk], None]:
    """Claim, copy the folder, acknowledge; tell of each message that was acknowledged."""

    def work(talk: Talk) -> None:
        store, owner = SqliteStore(database), new_guardian()
        store.begin_life(owner)
        store.queues()
        talk.send("works")
        while True:
            for claim in store.work([], Wanted("q", owner), late=True)[1]:
                copy_the_folder(database, f"{database}.copies/{claim.id}")
                acknowledged = Settlement(claim.id, claim.receipt, Event.ACK)
                if store.work([acknowledged], late=True)[0] == [Effect.SETTLED]:
                    talk.send(int(claim.body))
            store.wait(["q"], 0.5)

    return work


def copy_the_folder(database: str, place: str) -> None:
    os.makedirs(place)
    for suffix in ("", "-wal", "-shm"):
        try:
            shutil.copy(database + suffix, place)
        except FileNotFoundError:
            continue
    shutil.rmtree(place)


def one_shot_writer(database: str, bodies: range) -> Callable[[Talk], None]:
    """Open, write one, close: as a shell script does, one command a message."""

    def write(talk: Talk) -> None:
        for body in bodies:
            store = SqliteStore(database)
            store.put("q", [str(body)])
            store.close()

    return write


def run(database: str, *, guarded: bool, seconds: float) -> tuple[Counter[int], Child]:
    """Return how often each message was acknowledged, and the worker."""
    Child(lambda talk: SqliteStore(database).queues()).ends_well()
    if guarded:
        guarding = Child(guard(database))
        assert guarding.hear() == "holds"
    worker = Child(copying_worker(database))
    assert worker.hear() == "works"
    share = MESSAGES // WRITERS
    writers = [
        Child(one_shot_writer(database, range(number * share, (number + 1) * share)))
        for number in range(WRITERS)
    ]
    acknowledged: Counter[int] = Counter()
    deadline = time.monotonic() + seconds
    while sum(acknowledged.values()) < MESSAGES and time.monotonic() < deadline:
        if worker._reap() is not None and not worker._talk.poll():
            break
        if worker._talk.poll(0.01):
            try:
                acknowledged[worker.hear()] += 1
            except EOFError:
                break
    for writer in writers:
        writer.ends_well()
    return acknowledged, worker


def left(database: str) -> list[int]:
    store = SqliteStore(database)
    found = sorted(int(message.body) for message in store.look("q", EVERY))
    store.close()
    return found


def test_with_a_guard_nothing_is_lost_stranded_or_doubled(database: str) -> None:
    acknowledged, worker = run(database, guarded=True, seconds=30)
    assert acknowledged == Counter(range(MESSAGES))
    assert worker._reap() is None, "the worker lives"
    eventually(lambda: left(database) == [])
    assert Path(database + "-wal").exists()


def test_without_a_guard_the_copying_worker_is_ruined(database: str) -> None:
    """The control: were this to pass, the guard would guard nothing."""
    acknowledged, worker = run(database, guarded=False, seconds=5)
    ruined = worker._reap() not in (None, 0)
    stranded = sum(acknowledged.values()) < MESSAGES
    assert ruined or stranded
