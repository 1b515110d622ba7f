"""One waiter for several queues: what it tells, and how soon."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from processes import cpu_seconds, until
from support import Child, eventually, sleeps

from brokerrun.core.activity import ActivityWaiter, create_activity_waiter_for_queues
from brokerrun.core.broker import Broker
from brokerrun.core.queue import Queue
from brokerrun.errors import AliasError, ArgumentError, StoreGone, UsageError


@contextmanager
def waiting(
    database: str, *names: str, stop_event: threading.Event | None = None
) -> Iterator[ActivityWaiter]:
    queues = [Queue(name, database) for name in names or ("a", "b")]
    waiter = create_activity_waiter_for_queues(queues, stop_event=stop_event)
    assert waiter is not None
    yield waiter
    waiter.close()


def in_child(work: Callable[[], object]) -> None:
    Child(lambda _: work()).ends_well()


def test_a_write_to_a_watched_queue_is_told_once(database: str) -> None:
    Queue("a", database).write("before")
    with waiting(database) as waiter:
        assert waiter.wait(0) is False
        for queue in ("a", "b"):
            in_child(lambda queue=queue: Queue(queue, database).write("x"))
            assert waiter.wait(5) is True
            assert waiter.wait(0.05) is False


def test_a_write_to_another_queue_is_not_told(database: str) -> None:
    with waiting(database) as waiter:
        Queue("c", database).write("x")
        began = time.monotonic()
        assert waiter.wait(0.2) is False
        assert 0.2 <= time.monotonic() - began < 0.5


def test_a_message_that_becomes_ready_is_told(database: str) -> None:
    queue = Queue("a", database)
    with waiting(database) as waiter:
        Queue("c", database).write("x")
        Queue("c", database).move("a")
        assert waiter.wait(5) is True
        assert queue.read() == "x"
        queue.write("later", delay=0.3)
        assert waiter.wait(5) is True
        began = time.monotonic()
        assert waiter.wait(5) is True
        assert time.monotonic() - began < 1
        assert queue.read() == "later"
        assert waiter.wait(0.05) is False


def test_a_loop_that_drains_and_waits_misses_nothing(database: str) -> None:
    def write(talk: Talk) -> None:
        queues = [Queue(name, database, persistent=True) for name in ("a", "b")]
        for number in range(200):
            queues[number % 2].write(str(number))

    got: list[str] = []
    with waiting(database) as waiter:
        writer = Child(write)
        while len(got) < 200:
            assert waiter.wait(5)
            for name in ("a", "b"):
                got += Queue(name, database).read_many(1000)
        writer.ends_well()
    assert sorted(got, key=int) == [str(number) for number in range(200)]


def test_it_wakes_within_milliseconds(database: str) -> None:
    def write(talk: Talk) -> None:
        queue = Queue("b", database, persistent=True)
        while talk.recv():
            queue.write("x")
            talk.send(time.monotonic())

    delays = []
    writer = Child(write)
    with waiting(database) as waiter:
        for _ in range(20):
            writer.say(True)
            assert waiter.wait(5)
            woke = time.monotonic()
            delays.append(woke - writer.hear())
    delays.sort()
    print(f"median {delays[10] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    assert delays[10] < 0.02


def test_an_event_ends_the_wait(database: str) -> None:
    event = threading.Event()
    with waiting(database, stop_event=event) as waiter:
        timer = threading.Timer(0.2, event.set)
        began = time.monotonic()
        timer.start()
        assert waiter.wait(10) is False
        assert time.monotonic() - began < 0.5
        timer.join()
        Queue("a", database).write("x")
        assert waiter.wait(10) is False


def test_news_behind_the_event_is_not_told(database: str) -> None:
    event, told = threading.Event(), list[bool]()
    with waiting(database, stop_event=event) as waiter:
        thread = threading.Thread(target=lambda: told.append(waiter.wait(10)))
        thread.start()
        until(time.monotonic() + 0.05)  # it sleeps, until it glances at the event or is woken
        event.set()
        Queue("a", database).write("x")
        thread.join(5)
    assert told == [False]


def test_a_database_that_goes_ends_the_wait(database: str) -> None:
    with waiting(database) as waiter:
        Path(database).unlink()
        began = time.monotonic()
        with pytest.raises(StoreGone):
            waiter.wait(10)
        assert time.monotonic() - began < 1


def test_who_sleeps_for_long_hears_that_the_database_goes(database: str) -> None:
    Queue("a", database).write("x")
    waiter = os.getpid()

    def unlink(talk: Talk) -> None:
        talk.recv()
        eventually(lambda: sleeps(waiter))
        Path(database).unlink()

    with Broker(database) as broker:
        child = Child(unlink)
        broker.store.wait(["b"], 2)  # until it trusts that it is told
        child.say("now")
        began = time.monotonic()
        with pytest.raises(StoreGone):
            broker.store.wait(["b"], 10)
        assert time.monotonic() - began < 0.5
        child.ends_well()


def test_others_that_open_the_database_wake_nobody(database: str) -> None:
    Queue("a", database).write("x")
    looks: list[float] = []

    def open_often(talk: Talk) -> None:
        for _ in range(40):
            until(time.monotonic() + 0.02)
            Queue("a", database).peek()
            Path(database + "-wal").chmod(0o600)  # what SQLite does there as root, more or less

    def look() -> bool:
        looks.append(time.monotonic())
        return False

    with Broker(database) as broker:
        child = Child(open_often)
        broker.store.wait_until(look, 1)
        child.ends_well()
    assert len(looks) < 20, looks


def test_what_others_write_elsewhere_costs_few_looks(database: str) -> None:
    Queue("a", database).write("x")
    looks: list[float] = []

    def write_often(talk: Talk) -> None:
        queue = Queue("a", database)
        for _ in range(20):
            until(time.monotonic() + 0.05)
            queue.write("x")
            queue.read()

    def look() -> bool:
        looks.append(time.monotonic())
        return False

    with Broker(database) as broker:
        child = Child(write_often)
        broker.store.wait_until(look, 1.2)
        child.ends_well()
    assert len(looks) < 60, looks


def test_it_costs_next_to_nothing_and_leaves_nothing_open(database: str) -> None:
    def watch(talk: Talk) -> None:
        with waiting(database, stop_event=threading.Event()) as waiter:
            waiter.wait(60)

    child = Child(watch)
    eventually(lambda: Path(database).exists() and sleeps(child.pid))
    until(time.monotonic() + 0.5)
    before, began = cpu_seconds(child.pid), time.monotonic()
    until(began + 2)
    assert (cpu_seconds(child.pid) - before) / 2 < 0.03
    child.kill()
    with waiting(database):
        assert Path(database + "-wal").exists()
    assert not Path(database + "-wal").exists()


def test_persistent_queues_stay_open(database: str) -> None:
    queue = Queue("a", database, persistent=True)
    queue.write("x")
    waiter = create_activity_waiter_for_queues([queue], stop_event=None)
    assert waiter is not None
    waiter.close()
    assert Path(database + "-wal").exists()
    queue.close()


def test_what_cannot_be_meant_is_refused(database: str) -> None:
    one, other = Queue("a", database), Queue("b", database + "2")
    with pytest.raises(UsageError, match="one database, got none"):
        create_activity_waiter_for_queues([])
    with pytest.raises(ValueError, match="one database") as refused:
        create_activity_waiter_for_queues([one, other])
    assert isinstance(refused.value, UsageError)
    with pytest.raises(ArgumentError, match="Queue objects, got str"):
        create_activity_waiter_for_queues(["a"])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="stop_event"):
        create_activity_waiter_for_queues([one], stop_event=5)  # type: ignore[arg-type]
    assert not Path(database).exists()
    with pytest.raises(AliasError):
        create_activity_waiter_for_queues([Queue("@nobody", database)])
    assert not Path(database + "-wal").exists()
