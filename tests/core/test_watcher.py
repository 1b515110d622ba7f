"""What a watcher does with messages: consumed, shown or moved, and what becomes of errors."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.connection import Connection as Talk
from pathlib import Path
from typing import Any

import pytest
from processes import until
from support import Child, eventually
from watched import Seen, failing, fill, left, noting, running

from brokerrun.core.queue import Queue
from brokerrun.core.sources import _AGAIN
from brokerrun.core.target import target_for_directory
from brokerrun.errors import (
    AliasError,
    ArgumentError,
    BrokerrunError,
    QueueNameError,
    UsageError,
)
from brokerrun.watcher import (
    MultiQueueWatcher,
    QueueMoveWatcher,
    QueueWatcher,
    json_print_handler,
    logger_handler,
    simple_print_handler,
)

# ------------------------------------------------------------------------------- how it is made

SPELLINGS: dict[str, Callable[[str, Any], QueueWatcher]] = {
    "name and db": lambda db, handler: QueueWatcher("q", handler, db=db),
    "name and Path": lambda db, handler: QueueWatcher("q", handler, db=Path(db)),
    "name and target": lambda db, handler: QueueWatcher(
        "q",
        handler,
        db=target_for_directory(
            os.path.dirname(db), config={"BROKER_DEFAULT_DB_NAME": os.path.basename(db)}
        ),
    ),
    "a Queue": lambda db, handler: QueueWatcher(Queue("q", db), handler),
    "a persistent Queue": lambda db, handler: QueueWatcher(
        Queue("q", db, persistent=True), handler
    ),
    "a Queue and its db": lambda db, handler: QueueWatcher(Queue("q", db), handler, db=db),
    "a Queue by keyword": lambda db, handler: QueueWatcher(queue=Queue("q", db), handler=handler),
    "keywords": lambda db, handler: QueueWatcher(db=db, queue="q", handler=handler),
    "path first": lambda db, handler: QueueWatcher(db, "q", handler),
    "Path first": lambda db, handler: QueueWatcher(Path(db), "q", handler),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_documented_spelling_watches_that_queue(database: str, spelling: str) -> None:
    ids, seen = fill(database, "a", "b"), Seen()
    with running(SPELLINGS[spelling](database, noting(seen))):
        eventually(lambda: len(seen) == 2)
        ids += fill(database, "c")
        eventually(lambda: len(seen) == 3)
    assert seen == list(zip("abc", ids, strict=True))
    assert left(database) == []


def test_a_watcher_without_a_database_uses_that_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Queue("q").write("a")
    seen = Seen()
    with running(QueueWatcher("q", noting(seen))):
        eventually(lambda: seen)
    assert (tmp_path / ".broker.db").exists()


def test_an_alias_means_its_queue(database: str) -> None:
    queue = Queue("q", database)
    queue.write("a")
    queue.broker.store.add_alias("inbox", "q")
    queue.close()
    seen = Seen()
    watcher = QueueWatcher("@inbox", noting(seen), db=database)
    assert not Path(database + "-wal").exists()
    with running(watcher):
        eventually(lambda: seen)
    with pytest.raises(AliasError, match="@nobody"):
        QueueWatcher("@nobody", print, db=database)


WRONG: dict[str, tuple[Callable[[str], object], str]] = {
    "queue": (
        lambda db: QueueWatcher(5, print, db=db),
        "queue: expected a name or a Queue, got int",
    ),
    "queue as bytes": (lambda db: QueueWatcher(b"q", print, db=db), "got bytes"),
    "handler": (lambda db: QueueWatcher("q", 5, db=db), "handler: expected a function, got int"),
    "handler of three": (lambda db: QueueWatcher(db, "q", "h"), "handler: expected a function"),
    "path as handler": (lambda db: QueueWatcher("q", db), "handler: expected a function, got str"),
    "error_handler": (
        lambda db: QueueWatcher("q", print, error_handler=5),
        "error_handler: expected",
    ),
    "stop_event": (lambda db: QueueWatcher("q", print, stop_event=5), "stop_event: expected"),
    "db": (lambda db: QueueWatcher("q", print, db=5), "db_path: expected a path"),
    "config": (lambda db: QueueWatcher("q", print, db=db, config=5), "config: expected a mapping"),
    "after": (lambda db: QueueWatcher("q", print, db=db, after_timestamp=1.5), "after_timestamp"),
    "source": (lambda db: QueueMoveWatcher(5, "r", print, db=db), "source_queue: expected"),
    "target": (lambda db: QueueMoveWatcher("q", 5, print, db=db), "destination: expected"),
    "max": (lambda db: QueueMoveWatcher("q", "r", print, db=db, max_messages="x"), "max_messages"),
    "queues": (lambda db: MultiQueueWatcher("q", print, db=db), "queues: expected names"),
    "a queue": (lambda db: MultiQueueWatcher([5], print, db=db), "queue: expected a name, got int"),
    "handlers": (lambda db: MultiQueueWatcher(["q"], print, db=db, queue_handlers=[]), "mapping"),
    "default": (lambda db: MultiQueueWatcher(["q"], 5, db=db), "handler: expected a function"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_kind_of_argument_is_told_what_was_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, sentence = WRONG[wrong]
    with pytest.raises(ArgumentError, match=sentence) as refused:
        make("some.db")
    assert isinstance(refused.value, (TypeError, ValueError))
    assert list(tmp_path.iterdir()) == []


def test_a_coroutine_function_is_no_handler(database: str) -> None:
    async def handler(message: str, ident: int) -> None: ...

    with pytest.raises(ArgumentError, match="plain function"):
        QueueWatcher("q", handler, db=database)


def test_what_cannot_be_meant_is_refused(database: str) -> None:
    refused: list[tuple[Callable[[], object], type[BrokerrunError], str]] = [
        (lambda: QueueWatcher("a b", print, db=database), QueueNameError, "a b"),
        (lambda: QueueWatcher(Queue("q", database), print, db="other.db"), UsageError, "other.db"),
        (lambda: QueueWatcher(database, "q", print, db=database), UsageError, "twice"),
        (lambda: QueueWatcher("q", print, db=database, config={"X": 1}), UsageError, "X"),
        (lambda: QueueMoveWatcher("q", "q", print, db=database), UsageError, "itself"),
        (lambda: QueueMoveWatcher("q", "b c", print, db=database), QueueNameError, "b c"),
        (lambda: QueueMoveWatcher("q", "r", print, max_messages=-1), UsageError, "-1"),
    ]
    for make, kind, sentence in refused:
        with pytest.raises(kind, match=sentence):
            make()


# ---------------------------------------------------------------------------------- consuming


def test_a_message_is_gone_before_the_handler_has_it(database: str) -> None:
    fill(database, "a", "b")
    pending: list[int] = []
    with running(QueueWatcher("q", lambda *_: pending.append(len(left(database))), db=database)):
        eventually(lambda: len(pending) == 2)
    assert pending == [1, 0]


@pytest.mark.parametrize("batch_processing", [False, True])
def test_messages_come_one_by_one(database: str, batch_processing: bool) -> None:
    fill(database, "a", "b", "c")
    watcher = QueueWatcher(
        "q", lambda *_: watcher.stop(), db=database, batch_processing=batch_processing
    )
    watcher.run_forever()
    assert left(database) == ["b", "c"]


def test_older_messages_stay_where_they_are(database: str) -> None:
    old, new, seen = fill(database, "old"), fill(database, "new"), Seen()
    with running(QueueWatcher("q", noting(seen), db=database, after_timestamp=old[0])):
        eventually(lambda: seen)
        new += fill(database, "newer")
        eventually(lambda: len(seen) == 2)
    assert seen == [("new", new[0]), ("newer", new[1])]
    assert left(database) == ["old"]
    with running(QueueWatcher("q", noting(seen), db=database, after_timestamp=str(old[0] - 1))):
        eventually(lambda: len(seen) == 3)


def test_a_delayed_message_comes_when_it_is_due(database: str) -> None:
    seen = Seen()
    with running(QueueWatcher("q", noting(seen), db=database)):
        began = time.monotonic()
        Queue("q", database).write("later", delay=0.3)
        eventually(lambda: seen)
        assert 0.3 <= time.monotonic() - began < 1.5


def test_what_a_dead_process_held_comes_within_seconds(database: str) -> None:
    fill(database, "a")
    seen = Seen()

    def hold(talk: Talk) -> None:
        with Queue("q", database, persistent=True).claim() as leases:
            talk.send(len(leases))
            talk.recv()

    holder = Child(hold)
    assert holder.hear() == 1
    with running(QueueWatcher("q", noting(seen), db=database)) as thread:
        holder.kill()
        eventually(lambda: seen, within=3)
        assert thread.is_alive()


# ------------------------------------------------------------------------------------ peeking


def test_each_message_is_shown_once_by_id_and_left(database: str) -> None:
    ids, seen = fill(database, *"abc"), Seen()
    with running(QueueWatcher("q", noting(seen), db=database, peek=True)):
        eventually(lambda: len(seen) == 3)
        ids += fill(database, *"de")
        eventually(lambda: len(seen) == 5)
        fill(database, "x", queue="other")
        ids += fill(database, "f")
        eventually(lambda: len(seen) == 6)
    assert seen == list(zip("abcdef", ids, strict=True))
    assert left(database) == list("abcdef")


def test_messages_are_shown_by_priority_and_then_by_id(database: str) -> None:
    queue, seen = Queue("q", database), Seen()
    for priority, message in ((5, "e"), (0, "b"), (5, "f"), (-1, "a"), (0, "c"), (1, "d")):
        queue.write(message, priority=priority)
    with running(QueueWatcher("q", noting(seen), db=database, peek=True)):
        eventually(lambda: len(seen) == 6)
    assert [message for message, _ in seen] == list("abcdef")


def test_what_comes_while_others_are_shown_is_shown_once_too(database: str) -> None:
    fill(database, *"abc")
    queue, seen = Queue("q", database), Seen()

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        if message == "a":
            queue.write("late")
            queue.write("urgent", priority=-1)
        if message == "late":
            fill(database, "end")

    with running(QueueWatcher("q", handle, db=database, peek=True)):
        eventually(lambda: seen and seen[-1][0] == "end")
    assert [message for message, _ in seen] == ["a", "b", "c", "urgent", "late", "end"]


def test_peeking_begins_after_the_id_that_is_given(database: str) -> None:
    ids, seen = fill(database, *"abc"), Seen()
    watcher = QueueWatcher("q", noting(seen), db=database, peek=True, after_timestamp=ids[0])
    with running(watcher):
        eventually(lambda: len(seen) == 2)
    assert [message for message, _ in seen] == ["b", "c"]


def test_what_was_read_or_deleted_meanwhile_is_not_shown(database: str) -> None:
    ids, seen = fill(database, *"abcd"), Seen()

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        if message == "a":
            queue = Queue("q", database)
            queue.delete(message_id=ids[1])
            queue.read(message_id=ids[2])

    with running(QueueWatcher("q", handle, db=database, peek=True)):
        eventually(lambda: len(seen) == 2)
    assert [message for message, _ in seen] == ["a", "d"]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_handler_acknowledges_by_deleting(database: str, persistent: bool) -> None:
    fill(database, *"abc")
    queue, seen = Queue("q", database, persistent=persistent), Seen()

    def handle(message: str, ident: int) -> None:
        seen.append((message, ident))
        assert queue.delete(message_id=ident)

    with running(QueueWatcher(queue, handle, peek=True)):
        eventually(lambda: len(seen) == 3)
        fill(database, "d")
        eventually(lambda: len(seen) == 4)
    assert [message for message, _ in seen] == list("abcd")
    assert left(database) == []
    queue.close()


def test_a_message_that_failed_comes_again_later_and_later_and_holds_nobody_up(
    database: str,
) -> None:
    ids = fill(database, "bad", "good")
    tries: list[float] = []
    seen = Seen()

    def handle(message: str, ident: int) -> None:
        if message == "bad":
            tries.append(time.monotonic())
            raise ValueError
        seen.append((message, ident))

    watcher = QueueWatcher("q", handle, db=database, peek=True, error_handler=lambda *_: None)
    with running(watcher):
        eventually(lambda: seen, within=0.4)
        assert len(tries) == 1
        eventually(lambda: len(tries) == 2)
        fill(database, "later")
        eventually(lambda: len(seen) == 2, within=0.4)
        eventually(lambda: len(tries) == 3)
        gaps = [later - earlier for earlier, later in pairwise(tries)]
        assert 0.4 < gaps[0] < 1 < gaps[1] + 0.05 < 2
        Queue("q", database).delete(message_id=ids[0])
        until(tries[2] + 2.5)
        assert watcher.is_running()
    assert len(tries) == 3
    assert left(database) == ["good", "later"]


def test_a_message_that_succeeds_at_last_does_not_come_again(database: str) -> None:
    fill(database, "a")
    tries: list[float] = []

    def handle(message: str, ident: int) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise ValueError

    watcher = QueueWatcher("q", handle, db=database, peek=True, error_handler=lambda *_: None)
    with running(watcher):
        eventually(lambda: len(tries) == 2)
        until(tries[1] + 2.2)
    assert len(tries) == 2
    assert left(database) == ["a"]


def test_failed_and_new_messages_take_turns(database: str) -> None:
    fill(database, *"abc")
    order: list[str] = []

    def handle(message: str, ident: int) -> None:
        order.append(message)
        if message in "abc" and order.count(message) < 2:
            raise ValueError
        if message == "slow":
            until(time.monotonic() + 0.7)  # until all three are due again

    with running(QueueWatcher("q", handle, db=database, peek=True, error_handler=lambda *_: None)):
        eventually(lambda: len(order) == 3)
        fill(database, "slow", *"xyz")
        eventually(lambda: len(order) == 10)
    assert order[:4] == ["a", "b", "c", "slow"]
    again = [message in "abc" for message in order[4:]]
    assert again in ([True, False] * 3, [False, True] * 3)


def test_back_off_is_bounded() -> None:
    delays = [_AGAIN.delay(attempt, 1.0) for attempt in range(1, 100)]
    assert delays[:4] == [0.5, 1, 2, 4]
    assert max(delays) == 60


# ------------------------------------------------------------------------------------- moving


def test_a_message_is_in_the_target_before_the_handler_sees_it(database: str) -> None:
    ids, seen = fill(database, *"abc"), Seen()

    def handle(message: str, ident: int) -> None:
        assert Queue("r", database).peek(message_id=ident) == message
        seen.append((message, ident))
        if message == "b":
            raise ValueError

    watcher = QueueMoveWatcher("q", "r", handle, db=database, error_handler=lambda *_: True)
    assert (watcher.source_queue, watcher.dest_queue, watcher.move_count) == ("q", "r", 0)
    with running(watcher):
        eventually(lambda: watcher.move_count == 3)
    assert seen == list(zip("abc", ids, strict=True))
    assert left(database, "r") == ["a", "b", "c"]
    assert left(database) == []


def test_a_move_watcher_ends_after_so_many(database: str) -> None:
    fill(database, *"abc")
    source, target = Queue("q", database), Queue("r", database)
    watcher = QueueMoveWatcher(
        source, target, failing, max_messages=2, error_handler=lambda *_: None
    )
    watcher.run_forever()
    assert watcher.move_count == 2
    assert (left(database), left(database, "r")) == (["c"], ["a", "b"])
    seen = Seen()
    with running(QueueMoveWatcher("q", "r", noting(seen), db=database, max_messages=0)):
        fill(database, "d")
        eventually(lambda: len(seen) == 2)


def test_move_watchers_share_a_queue_without_loss(database: str) -> None:
    bodies = [str(number) for number in range(200)]
    fill(database, *bodies)
    seen = Seen()
    watchers = [QueueMoveWatcher("q", "r", noting(seen), db=database) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    eventually(lambda: len(seen) == 200, within=20)
    for watcher in watchers:
        watcher.stop()
    assert sorted(body for body, _ in seen) == sorted(bodies)
    assert sorted(left(database, "r")) == sorted(bodies)
    assert sum(watcher.move_count for watcher in watchers) == 200


# --------------------------------------------------------------------------- ready-made handlers


def test_the_printers_print_to_the_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    message = 'a\nb é" \u2028'
    simple_print_handler(message, 123)
    json_print_handler(message, 123)
    assert capfdbinary.readouterr().out.decode() == (
        f"[123] {message}\n" + '{"message": "a\\nb é\\" \u2028", "timestamp": 123}\n'
    )


def test_the_logging_handler_logs_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "brokerrun")
    logger_handler("100 %s\nb", 123)
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("brokerrun", "INFO", "Message 123: 100 %s\nb")
    ]
