"""How a watcher lives and ends: stopped, interrupted, by errors of handlers and of the store."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Talk
from pathlib import Path
from typing import Any

import pytest
from processes import until
from support import Child, eventually
from watched import KINDS, Seen, failing, fill, hold_lock, left, noting, running

from brokerrun.core.queue import Queue
from brokerrun.core.stopping import Stop
from brokerrun.errors import StoreGone, UsageError
from brokerrun.watcher import QueueWatcher

# --------------------------------------------------------------------------------- its life


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_runs_until_it_is_stopped(database: str, kind: str) -> None:
    seen = Seen()
    watcher = KINDS[kind](database, noting(seen))
    assert not watcher.is_running()
    thread = watcher.start()
    assert thread.daemon
    assert watcher.is_running()
    fill(database, "a")
    eventually(lambda: seen)
    watcher.stop()
    assert not thread.is_alive()
    assert not watcher.is_running()
    assert watcher.error is None
    watcher.stop()
    fill(database, "b")
    assert left(database)[-1] == "b"


@pytest.mark.parametrize("verb", ["run_forever", "watch", "run"])
def test_it_runs_in_the_calling_thread_until_another_stops_it(database: str, verb: str) -> None:
    watcher = QueueWatcher("q", print, db=database)

    def stop() -> None:
        eventually(watcher.is_running)
        watcher.stop()
        stopped.append(watcher.is_running())

    stopped: list[bool] = []
    stopper = threading.Thread(target=stop)
    stopper.start()
    getattr(watcher, verb)()
    stopper.join(5)
    assert stopped == [False]


@pytest.mark.parametrize("kind", KINDS)
def test_stop_takes_milliseconds(database: str, kind: str) -> None:
    def took() -> float:
        watcher = KINDS[kind](database, noting([]), config={"BROKER_MAX_INTERVAL": 10})
        thread = watcher.run_in_thread()
        until(time.monotonic() + 0.05)  # it sleeps by then
        began = time.monotonic()
        watcher.stop()
        assert not thread.is_alive()
        return time.monotonic() - began

    assert min(took() for _ in range(5)) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_the_caller_ends_it_and_is_set_by_stop(database: str, kind: str) -> None:
    def took() -> float:
        event = threading.Event()
        watcher = KINDS[kind](
            database, noting([]), stop_event=event, config={"BROKER_MAX_INTERVAL": 10}
        )
        thread = watcher.run_in_thread()
        until(time.monotonic() + 0.05)
        began = time.monotonic()
        event.set()
        thread.join(10)
        assert not thread.is_alive()
        return time.monotonic() - began

    assert min(took() for _ in range(3)) < 0.3
    other = threading.Event()
    KINDS[kind](database, noting([]), stop_event=other).stop()
    assert other.is_set()


def test_a_watcher_that_was_stopped_before_ends_at_once(database: str) -> None:
    fill(database, "a")
    watcher = QueueWatcher("q", print, db=database)
    for _ in range(70_000):  # more than the pipe that wakes it takes
        watcher.stop()
    watcher.run_forever()
    assert left(database) == ["a"]


def test_a_watcher_runs_once(database: str) -> None:
    watcher = QueueWatcher("q", print, db=database)
    with watcher:
        for again in (watcher.run_in_thread, watcher.run_forever):
            with pytest.raises(UsageError, match="make a new one"):
                again()
        assert watcher.is_running()
    with pytest.raises(UsageError, match="make a new one"):
        watcher.run_forever()


def test_the_handler_may_stop_it(database: str) -> None:
    fill(database, "a", "b")
    for run in ("run_forever", "run_in_thread"):
        watcher = QueueWatcher("q", lambda *_: watcher.stop(), db=database)  # noqa: B023
        began = time.monotonic()
        getattr(watcher, run)()
        eventually(lambda: not watcher.is_running(), within=1)  # noqa: B023
        assert time.monotonic() - began < 1
    assert left(database) == []


@pytest.mark.parametrize("own", [True, False])
def test_stop_waits_for_the_message_in_hand_as_long_as_it_is_told(database: str, own: bool) -> None:
    fill(database, "a", "b")
    go, in_hand = threading.Event(), threading.Event()
    done: list[str] = []

    def handle(message: str, ident: int) -> None:
        in_hand.set()
        go.wait(10)
        done.append(message)

    watcher = QueueWatcher("q", handle, db=database)
    if own:
        thread = watcher.run_in_thread()
    else:
        thread = threading.Thread(target=watcher.run_forever)
        thread.start()
    assert in_hand.wait(5)
    began = time.monotonic()
    watcher.stop(join=False)
    watcher.stop(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 1
    assert watcher.is_running()
    go.set()
    watcher.stop()
    assert not thread.is_alive()
    assert (done, left(database)) == (["a"], ["b"])


def test_as_a_context_manager_it_runs_for_the_block(database: str) -> None:
    seen, failed = Seen(), Seen()
    with QueueWatcher("q", noting(seen), db=database) as watcher:
        assert watcher.is_running()
        fill(database, "a")
        eventually(lambda: seen)
    assert not watcher.is_running()
    with pytest.raises(KeyError), QueueWatcher("q", noting(failed), db=database) as watcher:  # noqa: PT012
        fill(database, "b")
        eventually(lambda: failed)
        raise KeyError
    assert not watcher.is_running()


def test_a_watcher_that_nobody_keeps_leaves_no_descriptor(database: str) -> None:
    with QueueWatcher("q", print, db=database):
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with QueueWatcher("q", print, db=database):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("answer", [True, None, 0, ""])
def test_the_error_handler_lets_it_go_on(database: str, answer: object) -> None:
    ids = fill(database, "a", "b")
    errors: list[tuple[str, str, int]] = []

    def hear(error: Exception, message: str, ident: int) -> Any:
        errors.append((str(error), message, ident))
        return answer

    with running(QueueWatcher("q", failing, db=database, error_handler=hear)) as thread:
        eventually(lambda: len(errors) == 2)
        assert thread.is_alive()
    assert errors == [("cannot do a", "a", ids[0]), ("cannot do b", "b", ids[1])]


def test_the_error_handler_ends_it_with_false(database: str) -> None:
    fill(database, "a", "b")
    watcher = QueueWatcher("q", failing, db=database, error_handler=lambda *_: False)
    watcher.run_forever()
    assert left(database) == ["b"]
    assert watcher.error is None


def test_without_an_error_handler_the_error_is_logged_with_its_traceback(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = fill(database, "secret", "b")
    with running(QueueWatcher("q", failing, db=database)) as thread:
        eventually(lambda: len(caplog.records) == 2)
        assert thread.is_alive()
    first = caplog.records[0]
    assert (first.name, first.levelno) == ("brokerrun", logging.ERROR)
    assert str(ids[0]) in first.getMessage()
    assert "secret" not in first.getMessage()
    assert "in failing" in caplog.text
    assert "ValueError: cannot do secret" in caplog.text


def test_an_error_handler_that_fails_is_logged_beside_the_error(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, "a", "b")

    def hear(error: Exception, message: str, ident: int) -> bool:
        raise KeyError("no such handler")

    with running(QueueWatcher("q", failing, db=database, error_handler=hear)) as thread:
        eventually(lambda: len(caplog.records) == 2)
        assert thread.is_alive()
    assert "ValueError: cannot do a" in caplog.text
    assert "KeyError: 'no such handler'" in caplog.text


def test_system_exit_ends_the_watcher(database: str) -> None:
    fill(database, "a", "b")

    def leave(message: str, ident: int) -> None:
        raise SystemExit(3)

    watcher = QueueWatcher("q", leave, db=database)
    with pytest.raises(SystemExit):
        watcher.run_forever()
    assert isinstance(watcher.error, SystemExit)
    assert left(database) == ["b"]


# ---------------------------------------------------------------------------------- the store


def replace(database: str) -> None:
    fill(database + ".new", "new")
    for end in ("", ".lock"):
        os.replace(database + ".new" + end, database + end)


def remove(database: str) -> None:
    Path(database).unlink()


@pytest.mark.parametrize("peek", [False, True])
@pytest.mark.parametrize("spoil", [replace, remove])
def test_a_database_that_goes_ends_an_idle_watcher_within_a_second(
    database: str, caplog: pytest.LogCaptureFixture, spoil: Callable[[str], None], peek: bool
) -> None:
    fill(database, "a")
    seen = Seen()
    watcher = QueueWatcher("q", noting(seen), db=database, peek=peek)
    thread = watcher.run_in_thread()
    eventually(lambda: seen)
    spoil(database)
    thread.join(1)
    assert not thread.is_alive()
    assert not watcher.is_running()
    assert isinstance(watcher.error, StoreGone)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "replaced" in caplog.text


@pytest.mark.parametrize("peek", [False, True])
def test_a_database_that_goes_ends_a_busy_watcher_within_a_second(
    database: str, peek: bool
) -> None:
    fill(database, *map(str, range(1000)))
    seen = Seen()

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        until(time.monotonic() + 0.01)
        if len(seen) == 3:
            remove(database)
            went.append(time.monotonic())

    went: list[float] = []
    watcher = QueueWatcher("q", handle, db=database, peek=peek)
    with pytest.raises(StoreGone):
        watcher.run_forever()
    assert time.monotonic() - went[0] < 1.5
    assert isinstance(watcher.error, StoreGone)


def test_a_busy_store_is_waited_for_and_nothing_is_lost(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, "a", "b")
    seen, go = Seen(), threading.Event()
    blocker = Child(lambda talk: hold_lock(database, talk))
    blocker.hear()

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        go.wait(10)

    config = {"BROKER_BUSY_TIMEOUT": 50}
    with running(QueueWatcher("q", handle, db=database, config=config)) as thread:
        eventually(lambda: caplog.records)
        assert caplog.records[0].levelno == logging.WARNING
        thread.join(1.5)  # it tries again and again
        assert thread.is_alive()
        assert len(caplog.records) == 1
        blocker.say("go")
        eventually(lambda: len(seen) == 1)
        again = Child(lambda talk: hold_lock(database, talk))
        again.hear()
        go.set()
        eventually(lambda: len(caplog.records) == 2)  # another time, another warning
        again.say("go")
        eventually(lambda: len(seen) == 2)
    for child in (blocker, again):
        child.ends_well()
    assert left(database) == []


def test_a_full_disk_is_waited_for(database: str, caplog: pytest.LogCaptureFixture) -> None:
    def work(talk: Talk) -> None:
        queue, seen = Queue("q", database, persistent=True), Seen()
        queue.write("a")
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(database + "-wal"), most))
        with running(QueueWatcher("q", noting(seen), db=database)) as thread:
            eventually(lambda: caplog.records)
            used = time.process_time()
            thread.join(1.5)
            assert thread.is_alive()
            assert time.process_time() - used < 0.1  # it tries now and then
            assert len(caplog.records) == 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            eventually(lambda: seen)

    Child(work).ends_well()
    assert left(database) == []


@pytest.mark.parametrize("by_event", [False, True])
def test_it_ends_soon_while_the_store_is_busy(
    database: str, caplog: pytest.LogCaptureFixture, by_event: bool
) -> None:
    fill(database, "a")
    blocker = Child(lambda talk: hold_lock(database, talk))
    blocker.hear()
    event, config = threading.Event(), {"BROKER_BUSY_TIMEOUT": 1}
    given = event if by_event else None
    watcher = QueueWatcher("q", print, db=database, stop_event=given, config=config)
    with running(watcher) as thread:
        eventually(lambda: caplog.records)
        began = time.monotonic()
        if by_event:
            event.set()
        else:
            watcher.stop(join=False)
        thread.join(5)
        assert time.monotonic() - began < 0.5
    blocker.say("go")
    blocker.ends_well()


def test_what_woke_a_sleeper_wakes_it_once() -> None:
    stop = Stop()
    stop.wake()
    stop.wake()
    began = time.monotonic()
    stop.sleep(5)
    stop.sleep(0.1)
    assert 0.09 < time.monotonic() - began < 1


def test_a_configuration_is_for_the_watcher_alone(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, "a")
    queue, seen = Queue("q", database), Seen()
    blocker = Child(lambda talk: hold_lock(database, talk))
    blocker.hear()
    with running(QueueWatcher(queue, noting(seen), config={"BROKER_BUSY_TIMEOUT": 50})):
        eventually(lambda: caplog.records, within=2)  # by default after 5
        blocker.say("go")
        eventually(lambda: seen)
    assert queue.broker.settings.busy_timeout == 5
    blocker.ends_well()


@pytest.mark.parametrize("persistent", [False, True])
def test_last_ts_of_the_queue_stays_current(database: str, persistent: bool) -> None:
    queue = Queue("q", database, persistent=persistent)
    assert queue.last_ts == 0
    with running(QueueWatcher(queue, lambda *_: None)):

        def write(talk: Talk) -> None:
            talk.send(Queue("q", database).write("a"))
            talk.send(Queue("elsewhere", database).write("b"))

        writer = Child(write)
        first, last = writer.hear(), writer.hear()
        assert first < last
        eventually(lambda: queue.last_ts == last, within=1)
    assert QueueWatcher("q", print, db=database).queue.last_ts == last
    queue.close()


def test_a_handler_finds_its_own_id_in_last_ts(database: str) -> None:
    queue, ids = Queue("q", database), fill(database, *"ab")
    seen: list[int] = []

    def handle(message: str, ident: int) -> None:
        seen.append(queue.last_ts)
        if message == "c":
            ids.extend(fill(database, "d"))

    with running(QueueWatcher(queue, handle)):
        eventually(lambda: len(seen) == 2)
        ids += fill(database, "c")
        eventually(lambda: len(seen) == 4)
    assert seen == [ids[1], *ids[1:]]


def test_last_ts_stays_current_while_there_is_always_more_to_do(database: str) -> None:
    queue, seen, known = Queue("q", database), Seen(), threading.Event()
    fill(database, *map(str, range(1000)))

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        known.wait(0.02)  # slow, until it is known

    with running(QueueWatcher(queue, handle)):
        eventually(lambda: seen)
        [last] = fill(database, "b", queue="elsewhere")
        eventually(lambda: queue.last_ts == last, within=3)
        assert left(database)
        known.set()


def test_a_watcher_leaves_nothing_open_of_its_own(database: str) -> None:
    fill(database, "a")
    queue = Queue("q", database, persistent=True)
    with running(QueueWatcher("q", lambda *_: None, db=database)):
        eventually(lambda: not left(database))
    files = sorted(path.name for path in Path(database).parent.iterdir())
    assert files == ["queue.db", "queue.db.lock"]
    queue.write("b")
    with running(QueueWatcher(queue, lambda *_: None)):
        eventually(lambda: not queue.has_pending())
    assert Path(database + "-wal").exists()  # a persistent queue stays open
    queue.close()
    assert not Path(database + "-wal").exists()
