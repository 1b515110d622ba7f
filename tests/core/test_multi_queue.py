"""Several queues, one thread: whose turn it is, who handles it, and queues that come and go."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import until
from support import Child, eventually
from watched import Seen, failing, fill, hold_lock, noting, running

from brokerrun.core.queue import Queue
from brokerrun.core.watcher import Counts
from brokerrun.errors import (
    AliasError,
    ArgumentError,
    BrokerrunError,
    QueueNameError,
    StoreGone,
    UsageError,
)
from brokerrun.watcher import MultiQueueWatcher


def by_queue(database: str, **bodies: str) -> None:
    """Fill queues, a character a message."""
    for queue, text in bodies.items():
        fill(database, *text, queue=queue)


def handled(database: str, count: int, *queues: str, priority: bool = False) -> list[str]:
    """Return the first bodies that a watcher handles."""
    bodies: list[str] = []

    def handle(message: str, ident: int) -> None:
        bodies.append(message)
        if len(bodies) == count:
            watcher.stop()

    watcher = MultiQueueWatcher(queues, handle, db=database, priority=priority)
    watcher.run_forever()
    return bodies


def test_queues_take_turns(database: str) -> None:
    by_queue(database, a="123", b="x", c="78")
    assert handled(database, 6, "a", "b", "c", "empty") == ["1", "x", "7", "2", "8", "3"]


def test_with_priority_the_first_queue_that_has_something_is_next(database: str) -> None:
    by_queue(database, low="123", high="xy")
    bodies: list[str] = []

    def handle(message: str, ident: int) -> None:
        bodies.append(message)
        if message == "2":
            by_queue(database, high="z")
        if message == "3":
            watcher.stop()

    watcher = MultiQueueWatcher(["high", "low"], handle, db=database, priority=True)
    watcher.run_forever()
    assert bodies == ["x", "y", "1", "2", "z", "3"]


@pytest.mark.parametrize("peek", [False, True])
@pytest.mark.parametrize("floods", [1, 3])
def test_a_message_waits_for_at_most_one_of_every_flooded_queue(
    database: str, floods: int, peek: bool
) -> None:
    flooded = [f"flood{number}" for number in range(floods)]
    for queue in flooded:
        fill(database, *[queue] * 150, queue=queue)
    bodies: list[str] = []
    written: list[int] = []

    def handle(message: str, ident: int) -> None:
        bodies.append(message)
        if len(bodies) % 17 == 0 and len(bodies) < 150:  # it is there from now on
            fill(database, "rare", queue="rare")
            written.append(len(bodies))

    watcher = MultiQueueWatcher([*flooded, "rare"], handle, db=database, peek=peek)
    with running(watcher):
        eventually(lambda: len(bodies) >= 150 * floods, within=20)
    came = [index for index, body in enumerate(bodies) if body == "rare"]
    waited = [index - at for at, index in zip(written, came, strict=False)]  # the last is due yet
    assert len(waited) > 7
    assert max(waited) <= floods


def test_each_queue_has_its_handlers_or_the_default_ones(database: str) -> None:
    by_queue(database, a="1", b="2", c="3")
    seen, own, errors, own_errors = Seen(), Seen(), Seen(), Seen()

    def fails(message: str, ident: int) -> None:
        own.append((message, ident))
        raise ValueError

    watcher = MultiQueueWatcher(
        ["a", "b", "c"],
        noting(seen),
        queue_handlers={"b": fails, "c": fails},
        error_handler=lambda _, message, ident: errors.append((message, ident)),
        queue_error_handlers={"c": lambda _, message, ident: own_errors.append((message, ident))},
        db=database,
    )
    with running(watcher):
        eventually(lambda: own_errors and errors and seen)
    assert [message for message, _ in seen] == ["1"]
    assert [message for message, _ in own] == ["2", "3"]
    assert [message for message, _ in errors] == ["2"]
    assert [message for message, _ in own_errors] == ["3"]


def test_an_error_is_logged_by_default_and_ends_it_where_its_handler_says_false(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    by_queue(database, a="1", b="23")
    watcher = MultiQueueWatcher(
        ["a", "b"], failing, queue_error_handlers={"b": lambda *_: False}, db=database
    )
    watcher.run_forever()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "cannot do 1" in caplog.text
    assert Queue("b", database).peek() == "3"


def test_metrics_count_by_queue(database: str) -> None:
    by_queue(database, a="12", b="345")
    watcher = MultiQueueWatcher(
        ["a", "b", "c"],
        lambda *_: None,
        queue_handlers={"b": failing},
        error_handler=lambda *_: None,
        db=database,
    )
    assert watcher.metrics() == {name: Counts(0, 0) for name in "abc"}
    with running(watcher):
        eventually(lambda: sum(sum(counts) for counts in watcher.metrics().values()) == 5)
    counted = {"a": Counts(2, 0), "b": Counts(handled=0, failed=3), "c": Counts(0, 0)}
    assert watcher.metrics() == counted


def test_a_failed_message_comes_again_in_peek_mode_and_no_other_queue_waits(database: str) -> None:
    by_queue(database, a="1", b="23")
    tries: Counter[str] = Counter()

    def handle(message: str, ident: int) -> None:
        tries[message] += 1
        if message == "1" and tries[message] == 1:
            raise ValueError

    watcher = MultiQueueWatcher(
        ["a", "b"], handle, error_handler=lambda *_: None, db=database, peek=True
    )
    with running(watcher):
        eventually(lambda: tries["3"], within=0.4)
        assert tries == {"1": 1, "2": 1, "3": 1}
        eventually(lambda: tries["1"] == 2, within=1)
    assert Queue("a", database).peek() == "1"


# ------------------------------------------------------------------------------ come and go


def test_queues_come_and_go_while_it_runs(database: str) -> None:
    seen, own = Seen(), Seen()
    watcher = MultiQueueWatcher([], noting(seen), db=database, config={"BROKER_MAX_INTERVAL": 10})
    by_queue(database, a="1", b="2")
    with running(watcher):
        assert watcher.list_queues() == []
        watcher.add_queue("a")
        eventually(lambda: [message for message, _ in seen] == ["1"], within=0.4)
        watcher.add_queue("b", noting(own))
        eventually(lambda: [message for message, _ in own] == ["2"], within=0.4)
        assert watcher.list_queues() == ["a", "b"]
        assert watcher.remove_queue("a")
        assert not watcher.remove_queue("a")
        by_queue(database, a="3", b="4")
        eventually(lambda: len(own) == 2)
        assert watcher.list_queues() == ["b"]
        assert len(seen) == 1
        watcher.add_queue("a")
        eventually(lambda: len(seen) == 2)
    assert watcher.metrics() == {"b": Counts(2, 0), "a": Counts(1, 0)}


def test_a_queue_that_is_added_wakes_a_sleeping_watcher(database: str) -> None:
    seen, names = Seen(), "abcd"
    config = {"BROKER_MAX_INTERVAL": 10}
    watcher = MultiQueueWatcher(["x"], noting(seen), db=database, config=config)
    by_queue(database, **dict.fromkeys(names, "1"))
    with running(watcher):
        for count, name in enumerate(names, 1):
            until(time.monotonic() + 0.1)  # what it did before is over: it sleeps
            watcher.add_queue(name)
            eventually(lambda count=count: len(seen) == count, within=0.3)


def test_an_empty_queue_takes_no_write_lock(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, "a", queue="full")
    seen, config = Seen(), {"BROKER_BUSY_TIMEOUT": 50}
    watcher = MultiQueueWatcher(["b"], noting(seen), db=database, config=config)
    blocker = Child(lambda talk: hold_lock(database, talk))
    blocker.hear()
    with running(watcher):
        for name in "cd":
            watcher.add_queue(name)
            until(time.monotonic() + 0.1)
        assert caplog.records == []
        blocker.say("go")
        watcher.add_queue("full")
        eventually(lambda: seen)
    blocker.ends_well()


def test_a_handler_may_add_and_remove_its_own_queue(database: str) -> None:
    by_queue(database, a="12", b="34")
    bodies: list[str] = []

    def handle(message: str, ident: int) -> None:
        bodies.append(message)
        if message == "1":
            watcher.add_queue("b")
            watcher.remove_queue("a")

    watcher = MultiQueueWatcher(["a"], handle, db=database)
    with running(watcher):
        eventually(lambda: len(bodies) == 3)
    assert bodies == ["1", "3", "4"]
    assert Queue("a", database).peek() == "2"


def test_threads_may_add_and_remove_at_once(database: str) -> None:
    names = [f"q{number}" for number in range(20)]
    for name in names:
        fill(database, name, queue=name)
    seen, wrong = Seen(), []

    def churn(mine: list[str]) -> None:
        try:
            for name in mine * 20:
                watcher.add_queue(name)
                watcher.remove_queue(name)
            for name in mine:
                watcher.add_queue(name)
        except Exception as error:
            wrong.append(error)

    watcher = MultiQueueWatcher([], noting(seen), db=database)
    with running(watcher):
        threads = [threading.Thread(target=churn, args=(names[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        eventually(lambda: len(seen) == 20)
        assert watcher.is_running()
    assert wrong == []
    assert sorted(watcher.list_queues()) == sorted(names)
    assert sorted(message for message, _ in seen) == sorted(names)


def test_an_alias_is_its_queue_and_only_once(database: str) -> None:
    by_queue(database, q="1")
    queue, seen = Queue("q", database), Seen()
    queue.broker.store.add_alias("inbox", "q")
    queue.close()
    watcher = MultiQueueWatcher(["@inbox"], queue_handlers={"@inbox": noting(seen)}, db=database)
    assert not Path(database + "-wal").exists()
    assert watcher.list_queues() == ["q"]
    with running(watcher):
        eventually(lambda: seen)
        with pytest.raises(UsageError, match="watched already"):
            watcher.add_queue("q", print)
        with pytest.raises(AliasError):
            watcher.add_queue("@nobody", print)
        assert watcher.remove_queue("@inbox")
        assert watcher.is_running()


REFUSED: list[tuple[Callable[[str], object], type[BrokerrunError], str]] = [
    (lambda db: MultiQueueWatcher(["a", "a"], print, db=db), UsageError, "'a' is watched already"),
    (lambda db: MultiQueueWatcher(["a b"], print, db=db), QueueNameError, "a b"),
    (lambda db: MultiQueueWatcher(["a"], db=db), UsageError, "'a' has no handler"),
    (
        lambda db: MultiQueueWatcher(["a"], print, queue_handlers={"b": print}, db=db),
        UsageError,
        "queue_handlers: 'b' is not among the queues",
    ),
    (
        lambda db: MultiQueueWatcher(["a"], print, queue_error_handlers={"b": print}, db=db),
        UsageError,
        "queue_error_handlers: 'b'",
    ),
    (lambda db: MultiQueueWatcher([], db=db).add_queue("a"), UsageError, "has no handler"),
    (lambda db: MultiQueueWatcher([], print, db=db).add_queue("a", 5), ArgumentError, "handler"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), REFUSED)
def test_what_cannot_be_meant_is_refused(
    database: str, make: Callable[[str], object], kind: type[BrokerrunError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        make(database)
    assert not Path(database).exists()


def test_a_database_that_goes_ends_it(database: str, caplog: pytest.LogCaptureFixture) -> None:
    by_queue(database, a="1")
    seen = Seen()
    watcher = MultiQueueWatcher(["a", "b"], noting(seen), db=database)
    thread = watcher.run_in_thread()
    eventually(lambda: seen)
    Path(database).unlink()
    thread.join(1)
    assert not thread.is_alive()
    assert isinstance(watcher.error, StoreGone)
    assert "a watcher of a, b ended" in caplog.text
