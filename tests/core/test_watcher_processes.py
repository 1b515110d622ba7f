"""Watchers and processes: what they cost, signals, forks and SIGKILL."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Talk

import pytest
from processes import cpu_seconds, until
from support import Child, eventually, sleeps
from watched import KINDS, Seen, fill, left, noting, running

from brokerrun.core.backends.sqlite.lockfile import lockfile_of
from brokerrun.core.loop import Watcher
from brokerrun.core.queue import Queue
from brokerrun.errors import UsageError
from brokerrun.watcher import QueueWatcher

# ------------------------------------------------------------------------------------ its cost


def test_an_idle_watcher_costs_next_to_nothing(database: str) -> None:
    fill(database, "a")

    def watch(talk: Talk, kind: str) -> None:
        watcher = KINDS[kind](database, lambda *_: talk.send("seen"), stop_event=threading.Event())
        watcher.run_forever()

    shares = {}
    for kind in KINDS:
        fill(database, "a")
        watcher = Child(lambda talk, kind=kind: watch(talk, kind))
        assert watcher.hear() == "seen"
        eventually(lambda watcher=watcher: sleeps(watcher.pid))
        before, began = cpu_seconds(watcher.pid), time.monotonic()
        until(began + 2)
        shares[kind] = (cpu_seconds(watcher.pid) - before) / 2
        watcher.kill()
    print({kind: f"{share:.1%} of a core" for kind, share in shares.items()})
    assert max(shares.values()) < 0.03  # as of ticks; without noise it is below 1 %


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_message_of_another_process_is_there_within_milliseconds(
    database: str, kind: str, shared: bool
) -> None:
    came: list[float] = []
    keep: list[Watcher] = []
    if shared:  # others that watch over the connection that persistent queues share
        queue = Queue("q", database, persistent=True)
        keep = [QueueWatcher(queue, print, peek=True, after_timestamp=2**62) for _ in range(3)]
    watcher = KINDS[kind](database, lambda *_: came.append(time.monotonic()))

    def write(talk: Talk) -> None:
        queue = Queue("q", database, persistent=True)
        while talk.recv():
            queue.write("x")
            talk.send(time.monotonic())

    writer = Child(write)
    for other in keep:
        other.start()
    with running(watcher):
        delays = []
        for number in range(1, 21):
            until(time.monotonic() + 0.03)
            writer.say(True)
            wrote = writer.hear()
            eventually(lambda number=number: len(came) == number)
            delays.append(came[-1] - wrote)
    delays.sort()
    print(f"median {delays[10] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    for other in keep:
        other.stop()
    assert delays[10] < 0.02


# ------------------------------------------------------------------------------------- signals


def run_interrupted(
    database: str,
    handler: Callable[[Talk], Callable[[str, int], None]],
    error_handler: Callable[[Talk], Callable[[Exception, str, int], None]] | None = None,
) -> Child:
    """Run a watcher in the main thread of a child that tells what `run_forever` raised."""

    def work(talk: Talk) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        config = {"BROKER_MAX_INTERVAL": 10}
        on_error = None if error_handler is None else error_handler(talk)
        watcher = QueueWatcher(
            "q", handler(talk), db=database, error_handler=on_error, config=config
        )
        try:
            watcher.run_forever()
        except KeyboardInterrupt:
            talk.send(("interrupted", type(watcher.error).__name__))
        else:
            talk.send(("returned", None))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    return Child(work)


def test_ctrl_c_ends_an_idle_watcher_at_once(database: str) -> None:
    fill(database, "a")
    child = run_interrupted(database, lambda talk: lambda message, _: talk.send(message))
    assert child.hear() == "a"
    eventually(lambda: sleeps(child.pid))
    child.kill(signal.SIGINT)
    assert child.hear(0.3) == ("interrupted", "KeyboardInterrupt")
    child.ends_well()


@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_interrupts_a_handler_at_once(database: str, fails: bool) -> None:
    """And an error handler, where the handler *fails*."""
    fill(database, "a", "b")

    def handler(talk: Talk) -> Callable[[str, int], None]:
        def handle(message: str, ident: int) -> None:
            if fails:
                raise ValueError
            stay(talk)

        return handle

    def error_handler(talk: Talk) -> Callable[[Exception, str, int], None]:
        return lambda *_: stay(talk)

    def stay(talk: Talk) -> None:
        talk.send("a")
        until(time.monotonic() + 30)

    child = run_interrupted(database, handler, error_handler)
    assert child.hear() == "a"
    child.kill(signal.SIGINT)
    assert child.hear(1) == ("interrupted", "KeyboardInterrupt")
    child.ends_well()
    assert left(database) == ["b"]


def test_ctrl_c_costs_no_message_that_no_handler_had(database: str) -> None:
    bodies = {str(number) for number in range(40)}
    handled: set[str] = set()
    fill(database, *sorted(bodies))
    while len(handled) < len(bodies):

        def handler(talk: Talk) -> Callable[[str, int], None]:
            return lambda message, _: talk.send(message)

        child = run_interrupted(database, handler)
        first = child.hear()
        child.kill(signal.SIGINT)  # most of its time it takes messages
        heard = [first]
        while isinstance(heard[-1], str):
            heard.append(child.hear())
        handled |= set(heard[:-1])
        assert heard[-1] == ("interrupted", "KeyboardInterrupt")
        child.ends_well()
        assert handled | set(left(database)) == bodies


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_handler_may_stop_the_watcher_in_its_thread(
    database: str, number: signal.Signals
) -> None:
    def work(talk: Talk) -> None:
        watcher = QueueWatcher("q", print, db=database, config={"BROKER_MAX_INTERVAL": 10})
        signal.signal(number, lambda *_: watcher.stop())
        talk.send("ready")
        watcher.run_forever()
        talk.send("returned")

    child = Child(work)
    child.hear()
    eventually(lambda: sleeps(child.pid))
    child.kill(number)
    assert child.hear(1) == "returned"
    child.ends_well()


def test_a_signal_handler_that_a_handler_sets_stays(database: str) -> None:
    fill(database, "a")

    def work(talk: Talk) -> None:
        def handle(message: str, ident: int) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            watcher.stop()

        watcher = QueueWatcher("q", handle, db=database)
        watcher.run_forever()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    Child(work).ends_well()


def test_a_second_ctrl_c_waits_for_nothing(database: str) -> None:
    fill(database, "a")
    lock = lockfile_of(database)

    def stay_inside(talk: Talk) -> None:
        lock.enter(5)
        talk.send("inside")
        talk.recv()

    blocker = Child(stay_inside)
    blocker.hear()
    child = run_interrupted(database, lambda talk: lambda *_: None)
    until(time.monotonic() + 0.3)  # it waits for the turnstile
    child.kill(signal.SIGINT)
    until(time.monotonic() + 0.2)
    child.kill(signal.SIGINT)
    assert child.hear(1) == ("interrupted", "KeyboardInterrupt")
    child.ends_well()
    blocker.say("go")
    blocker.ends_well()
    assert left(database) == ["a"]


# --------------------------------------------------------------------------------------- forks


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_may_fork(database: str, kind: str) -> None:
    fill(database, "a", "b", "c")
    children: list[int] = []

    def handle(message: str, ident: int) -> None:
        child = Child(lambda talk: talk.send(Queue("forked", database).write(message)))
        assert child.hear() > 0
        child.ends_well()
        children.append(child.pid)

    with running(KINDS[kind](database, handle)) as thread:
        eventually(lambda: len(children) == 3)
        fill(database, "d")
        eventually(lambda: len(children) == 4)
        assert thread.is_alive()
    assert left(database, "forked") == ["a", "b", "c", "d"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_child_that_comes_back_from_a_handler_watches_nothing(database: str, fails: bool) -> None:
    fill(database, "a", "b", "c")

    def work(talk: Talk) -> None:
        def handle(message: str, ident: int) -> None:
            talk.send((os.getpid(), message))
            if message == "a" and os.fork() == 0 and fails:
                raise ValueError

        watcher = QueueWatcher("q", handle, db=database)
        me = os.getpid()
        threading.Timer(1, watcher.stop).start()
        try:
            watcher.run_forever()
        except UsageError as error:
            talk.send((os.getpid() != me, str(error)))
            os._exit(0)
        os.wait()

    child = Child(work)
    heard = [child.hear() for _ in range(4)]
    assert [message for _, message in heard if len(message) == 1] == ["a", "b", "c"]
    assert {pid for pid, message in heard if len(message) == 1} == {child.pid}
    assert [(forked, "os._exit" in text) for forked, text in heard if len(text) > 1] == [
        (True, True)
    ]
    child.ends_well()


def test_a_process_may_fork_while_a_watcher_sleeps_in_a_thread(database: str) -> None:
    seen = Seen()
    watcher = QueueWatcher("q", noting(seen), db=database)
    with running(watcher):
        until(time.monotonic() + 0.05)

        def look(talk: Talk) -> None:
            talk.send(watcher.is_running())
            watcher.stop()  # of the copy
            talk.send(Queue("q", database).write("a"))

        child = Child(look)
        assert child.hear() is False
        child.hear()
        child.ends_well()
        eventually(lambda: seen)
        assert watcher.is_running()


# ------------------------------------------------------------------------------------- SIGKILL


@pytest.mark.parametrize("kind", ["consume", "peek", "move"])
def test_a_watcher_that_is_killed_costs_at_most_the_message_in_hand(
    database: str, kind: str
) -> None:
    bodies = [f"{number:04}" for number in range(300)]
    fill(database, *bodies)
    handled: list[str] = []
    rounds = 0

    def work(talk: Talk) -> None:
        KINDS[kind](database, lambda message, _: talk.send(message)).run_forever()

    while rounds < 8:
        rounds += 1
        child = Child(work)
        heard = [child.hear() for _ in range(10)]
        child.kill()
        while child._talk.poll():
            try:
                heard.append(child._talk.recv())
            except EOFError:
                break
        handled += heard
        if kind == "peek":
            assert heard == bodies[: len(heard)]
    rest = left(database)
    if kind == "peek":
        assert rest == bodies
        return
    assert len(set(handled)) == len(handled)
    assert not set(handled) & set(rest)
    missing = set(bodies) - set(handled) - set(rest)
    assert len(missing) <= rounds
    if kind == "move":
        assert set(left(database, "r")) == set(handled) | missing


def test_watchers_share_a_queue_without_loss_or_duplicates(database: str) -> None:
    bodies = {str(number) for number in range(400)}
    handled: list[str] = []

    def work(talk: Talk) -> None:
        KINDS["consume"](database, lambda message, _: talk.send(message)).run_forever()

    children = [Child(work) for _ in range(2)]
    watchers = [QueueWatcher("q", lambda message, _: handled.append(message), db=database)]
    watchers += [
        QueueWatcher(
            Queue("q", database, persistent=True), watchers[0]._rounds.watched()["q"].handler
        )
        for _ in range(2)
    ]
    for watcher in watchers:
        watcher.start()
    fill(database, *sorted(bodies))

    def done() -> bool:
        for child in children:
            while child._talk.poll():
                handled.append(child._talk.recv())
        return len(handled) >= len(bodies)

    eventually(done, within=30)
    for watcher in watchers:
        watcher.stop()
    assert len(handled) == len(bodies)
    assert set(handled) == bodies
    Queue("q", database, persistent=True).close()
