"""Queue: the forms of read, peek and move, and what a handle is."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import Child

from brokerrun import (
    MessageError,
    Queue,
    QueueNameError,
    QueueStats,
    UsageError,
    open_broker,
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture(params=[False, True], ids=["each call", "persistent"])
def queue(request: pytest.FixtureRequest, db: Path) -> Iterator[Queue]:
    with Queue("q", db, persistent=request.param) as queue:
        yield queue


def bodies(queue: Queue) -> list[str]:
    return list(queue.peek_generator())


# ---------------------------------------------------------------------------------- the forms


def test_what_is_written_comes_out_in_order(queue: Queue) -> None:
    ids = [queue.write(body) for body in "abc"]
    assert ids == sorted(ids)
    assert queue.peek() == "a"
    assert queue.read(with_timestamps=True) == ("a", ids[0])
    assert [queue.read(), queue.read(), queue.read()] == ["b", "c", None]


def test_one_many_and_a_generator_take_the_same(queue: Queue) -> None:
    ids = queue.write_many(list("abcdefgh"))
    assert queue.read_one() == "a"
    assert queue.read_one(exact_timestamp=ids[2], with_timestamps=True) == ("c", ids[2])
    assert queue.read_many(2) == ["b", "d"]
    assert queue.read_many(1, with_timestamps=True) == [("e", ids[4])]
    assert list(queue.read_generator(with_timestamps=True)) == list(
        zip("fgh", ids[5:], strict=True)
    )
    assert queue.read_many(5) == []


def test_peeks_leave_what_they_show(queue: Queue) -> None:
    ids = queue.write_many(list("abcd"))
    assert queue.peek_one(exact_timestamp=ids[1]) == "b"
    assert queue.peek_many() == queue.peek_many(4) == list("abcd")
    assert queue.peek_many(2, with_timestamps=True) == [("a", ids[0]), ("b", ids[1])]
    assert list(queue.peek(all_messages=True)) == list("abcd")
    assert queue.stats().pending == 4


def test_moves_keep_the_ids(queue: Queue, db: Path) -> None:
    ids = queue.write_many(list("abcdefg"))
    assert queue.move("to") == {"message": "a", "timestamp": ids[0]}
    assert queue.move("to", message_id=ids[2]) == {"message": "c", "timestamp": ids[2]}
    assert queue.move_one("to", with_timestamps=True) == ("b", ids[1])
    assert queue.move_many("to", 2) == ["d", "e"]
    assert list(queue.move_generator(Queue("to", db))) == ["f", "g"]
    assert [ident for _, ident in Queue("to", db).peek_many(with_timestamps=True)] == ids
    assert queue.move("to") is None
    assert list(queue.move("to", all_messages=True)) == []


def test_a_move_by_id_brings_back_what_was_read_where_it_may(queue: Queue) -> None:
    ident = queue.write("a")
    queue.read()
    assert queue.move_one("to", exact_timestamp=ident) is None
    assert queue.move_one("to", exact_timestamp=ident, require_unclaimed=False) == "a"
    queue.move_one("to")


def test_filters_are_open_bounds_of_ids_or_times(queue: Queue) -> None:
    ids = queue.write_many(list("abcde"))
    assert queue.peek_many(after_timestamp=ids[1], before_timestamp=ids[4]) == ["c", "d"]
    assert queue.peek(after_timestamp=str(ids[2])) == "d"
    assert queue.peek(after_timestamp="2100-01-01") is None
    assert queue.read(before_timestamp=ids[1]) == "a"
    assert queue.read_many(9, after_timestamp=ids[3]) == ["e"]
    assert queue.move("to", after_timestamp=ids[2]) == {"message": "d", "timestamp": ids[3]}
    assert list(queue.move("to", all_messages=True, before_timestamp=2**80)) == [
        {"message": "b", "timestamp": ids[1]},
        {"message": "c", "timestamp": ids[2]},
    ]


def test_an_id_may_be_text(queue: Queue) -> None:
    a, b = queue.write_many(list("ab"))
    assert queue.peek(message_id=str(b)) == "b"
    assert queue.delete(message_id=str(a))
    assert not queue.delete(message_id=a)
    assert bodies(queue) == ["b"]


def test_delete_without_an_id_empties_the_queue(queue: Queue, db: Path) -> None:
    Queue("other", db).write("kept")
    queue.write_many(list("ab"))
    assert queue.delete()
    assert not queue.delete()
    assert Queue("other", db).peek() == "kept"


def test_streams_give_bodies_with_ids(queue: Queue) -> None:
    ids = queue.write_many(list("abc"))
    both = list(zip("abc", ids, strict=True))
    assert list(queue.stream_messages(peek=True)) == both
    assert list(queue.stream_messages(all_messages=False)) == both[:1]
    assert list(queue.stream_messages(batch_processing=True, commit_interval=2)) == both[1:]
    assert not list(queue.stream_messages())


def test_priorities_and_delays_are_what_the_command_line_writes(queue: Queue) -> None:
    queue.write("later", delay=60)
    queue.write("second")
    queue.write("first", priority=-1)
    assert list(queue.read_generator()) == ["first", "second"]
    assert queue.peek() == "later"
    assert queue.stats().delayed == 1


def test_an_alias_names_its_queue(queue: Queue, db: Path) -> None:
    queue.broker.store.add_alias("inbox", "q")
    alias = Queue("@inbox", db)
    ident = alias.write("a")
    assert queue.peek(with_timestamps=True) == ("a", ident)
    assert (alias.stats().queue, alias.exists()) == ("q", True)
    assert alias.move("to") == {"message": "a", "timestamp": ident}


def test_a_move_between_two_stores_is_refused(queue: Queue, tmp_path: Path) -> None:
    queue.write("a")
    with pytest.raises(UsageError, match="is in another store"):
        queue.move(Queue("to", tmp_path / "other.db"))
    assert bodies(queue) == ["a"]


# ------------------------------------------------------------------------------ the guarantees


def test_exactly_once_is_gone_before_the_caller_has_it(queue: Queue) -> None:
    queue.write_many(list("abc"))
    messages = queue.read_generator()
    assert next(messages) == "a"
    assert bodies(queue) == ["b", "c"]
    messages.close()
    assert bodies(queue) == ["b", "c"]


def small(db: Path, size: int = 3) -> Queue:
    return Queue("q", db, config={"BROKER_GENERATOR_BATCH_SIZE": size})


@pytest.mark.parametrize("target", [None, "to"])
def test_at_least_once_ends_a_batch_when_all_of_it_was_taken(db: Path, target: str | None) -> None:
    def generator() -> Iterator[str]:
        if target is None:
            return queue.read_generator(delivery_guarantee="at_least_once")
        return queue.move_generator(target, delivery_guarantee="at_least_once")

    queue = small(db)
    queue.write_many(list("abcde"))
    messages = generator()
    assert [next(messages) for _ in range(4)] == list("abcd")
    with open_broker(db) as broker:
        assert broker.get_queue_stat("q").pending == 2
        assert broker.get_queue_stat("q").running == 2
    assert queue.read() is None, "the second batch is held"
    del messages  # stopped in the middle
    gc.collect()
    assert bodies(queue) == ["d", "e"]
    assert list(generator()) == ["d", "e"]
    assert Queue("to", db).peek_many() == ([] if target is None else list("abcde"))


def test_an_error_in_the_middle_gives_the_batch_back_unburned(db: Path) -> None:
    queue = small(db)
    queue.write_many(list("abc"))

    def fail() -> None:
        for message in queue.read_generator(delivery_guarantee="at_least_once"):
            raise LookupError(message)

    for _ in range(5):
        with pytest.raises(LookupError):
            fail()
        gc.collect()
    with queue.claim(3) as leases:
        assert [(lease.body, lease.attempts) for lease in leases] == [("a", 1), ("b", 1), ("c", 1)]


@pytest.mark.parametrize("target", [None, "to"])
def test_a_killed_reader_leaves_its_batch_ready_at_once(db: Path, target: str | None) -> None:
    small(db).write_many(list("abcde"))

    def die(talk: Any) -> None:
        queue = small(db)
        options: Any = {"delivery_guarantee": "at_least_once"}
        reader = queue.read_generator(**options)
        if target is not None:
            reader = queue.move_generator(target, **options)
        talk.send([next(reader) for _ in range(4)])
        talk.recv()

    child = Child(die)
    assert child.hear() == list("abcd")
    assert small(db).read() is None
    child.kill()
    assert sorted(small(db).read_generator()) == ["d", "e"]
    assert Queue("to", db).peek_many() == ([] if target is None else list("abc"))


def test_a_forked_child_does_not_end_the_batch_of_its_parent(db: Path) -> None:
    queue = small(db)
    queue.write_many(list("abcd"))
    messages = queue.read_generator(delivery_guarantee="at_least_once")
    next(messages)

    def leave(talk: Any) -> None:
        messages.close()  # as the end of the interpreter would
        talk.send(None)

    Child(leave).hear()
    assert queue.read() == "d", "a, b and c are the parent's still"
    assert list(messages) == ["b", "c"]
    assert queue.stats().pending == 0


def test_many_are_committed_before_they_are_returned(queue: Queue) -> None:
    queue.write_many(list("abcd"))
    assert queue.read_many(2, delivery_guarantee="at_least_once") == ["a", "b"]
    assert queue.move_many("to", 1, delivery_guarantee="at_least_once") == ["c"]
    assert bodies(queue) == ["d"]


def test_no_transaction_is_open_while_the_caller_has_a_message(db: Path) -> None:
    queue = small(db)
    queue.write_many(list("abcd"))
    for message in queue.read_generator(delivery_guarantee="at_least_once"):
        Queue("seen", db, config={"BROKER_BUSY_TIMEOUT": 100}).write(message)
    assert Queue("seen", db).peek_many() == list("abcd")


# ------------------------------------------------------------------------------------ the facts


def test_stats_and_exists_count_what_was_read(queue: Queue) -> None:
    assert not queue.exists()
    assert queue.stats() == QueueStats("q", 0, 0, 0)
    first, _ = queue.write_many(list("ab"))
    queue.read()
    stats = queue.stats()
    assert (stats.pending, stats.claimed, stats.total, stats.exists) == (1, 1, 2, True)
    assert (queue.exists(), queue.has_pending(), queue.has_pending(2**62)) == (True, True, False)
    assert queue.has_pending(first)


def test_an_id_without_a_message_is_between_those_of_messages(queue: Queue) -> None:
    before = queue.write("a")
    first, second = queue.generate_timestamp(), queue.get_ts()
    assert before < first < second < queue.write("b")
    assert queue.stats().total == 2


def test_last_ts_follows_what_this_handle_saw(queue: Queue, db: Path) -> None:
    assert queue.last_ts == 0
    ident = queue.write("a")
    assert queue.last_ts == ident
    stamp = queue.generate_timestamp()
    assert queue.last_ts == stamp
    foreign = Queue("other", db).write("b")
    assert queue.last_ts == stamp
    assert queue.refresh_last_ts() == foreign == queue.last_ts
    assert Queue("fresh", db).last_ts == foreign, "the first look fetches it"


def test_a_handle_shows_its_name_and_database(queue: Queue, db: Path) -> None:
    assert str(queue) == "q"
    assert repr(queue) == f"Queue('q', db_path={str(db)!r})"


def test_without_a_path_it_is_the_database_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    queue = Queue("q")
    queue.write("a")
    assert (tmp_path / ".broker.db").exists()
    monkeypatch.setenv("BROKER_DEFAULT_DB_NAME", "other.db")
    assert Queue("q").db_path == str(tmp_path / "other.db")
    monkeypatch.delenv("BROKER_DEFAULT_DB_NAME")
    (tmp_path / ".broker.toml").write_text('version = 1\nbackend = "sqlite"\ntarget = "p.db"\n')
    assert Queue("q").db_path == str(tmp_path / "p.db")
    monkeypatch.chdir("/")
    assert queue.peek() == "a", "the path was taken at the making"


# ------------------------------------------------------------------------- configuration of one


def test_a_configuration_is_for_its_handle_alone(db: Path) -> None:
    narrow = Queue("q", db, config={"BROKER_MAX_MESSAGE_SIZE": 10})
    with pytest.raises(MessageError, match="11 bytes: at most 10"):
        narrow.write("x" * 11)
    Queue("q", db).write("x" * 11)


def test_each_handle_vacuums_by_its_own_settings(db: Path) -> None:
    keep = Queue("q", db, persistent=True, config={"BROKER_AUTO_VACUUM": 0})
    keep.write_many(map(str, range(300)))
    keep.read_many(300)
    for _ in range(101):
        keep.write("x")
    assert keep.stats().claimed == 300
    drop = Queue(
        "q",
        db,
        persistent=True,
        config={"BROKER_AUTO_VACUUM_INTERVAL": 1, "BROKER_VACUUM_THRESHOLD": "10"},
    )
    drop.write("x")
    assert drop.stats().claimed == 0


def test_the_environment_is_read_and_the_configuration_goes_before_it(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_MAX_MESSAGE_SIZE", "3")
    with pytest.raises(MessageError):
        Queue("q", db).write("abcd")
    Queue("q", db, config={"BROKER_MAX_MESSAGE_SIZE": "4"}).write("abcd")


# --------------------------------------------------------------------------------- what is wrong

Make: Any = Queue


@pytest.mark.parametrize("name", ["", "a b", "-x", "jobs\n", "x" * 513, "@", "@-"])
def test_a_name_outside_the_grammar_is_refused(name: str, db: Path) -> None:
    with pytest.raises(QueueNameError, match="invalid queue name"):
        Make(name, db)
    with pytest.raises(ValueError, match="invalid queue name"):
        Queue("q", db).move(name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda db: Make(None, db), "queue: expected a name, got NoneType"),
        (lambda db: Make(b"q", db), "queue: expected a name, got bytes"),
        (lambda db: Make("q", 5), "db_path: expected a path or a BrokerTarget, got int"),
        (lambda db: Make("q", db, config=5), "config: expected a mapping of BROKER_"),
        (lambda db: Make("q", db).read_many("3"), "limit: expected a number"),
        (lambda db: Make("q", db).read_many(True), "limit: expected a number"),
        (lambda db: Make("q", db).peek(message_id=1.5), "message id: expected a number"),
        (lambda db: Make("q", db).peek(after_timestamp=b"1"), "after_timestamp: expected"),
        (lambda db: Make("q", db).move(7), "destination: expected a queue or its name, got int"),
        (lambda db: Make("q", db).write_many("ab"), "messages: expected several texts"),
        (lambda db: Make("q", db).write("x", delay="5"), "delay: expected seconds, got str"),
        (lambda db: Make("q", db).write("x", priority=0.5), "priority: expected a whole number"),
    ],
)
def test_a_wrong_kind_says_what_was_wanted(make: Any, said: str, db: Path) -> None:
    with pytest.raises(TypeError, match=said):
        make(db)
    assert Queue("q", db).stats().total == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda q: q.read_many(0), "limit: expected at least 1, got 0"),
        (lambda q: q.peek(message_id=-1), "message id -1"),
        (lambda q: q.peek(message_id=2**63), "message id 9223372036854775808"),
        (lambda q: q.read(message_id="12"), "invalid message id '12'"),
        (lambda q: q.peek(after_timestamp="soon"), "invalid time 'soon'"),
        (lambda q: q.read(message_id=1, all_messages=True), "leave all_messages out"),
        (lambda q: q.peek(message_id=1, before_timestamp=2), "cannot be used with"),
        (lambda q: q.read_generator(delivery_guarantee="twice"), "'twice': expected one of"),
        (lambda q: q.move("q"), "cannot go to itself"),
        (lambda q: q.write("x", delay=-1), "delay: expected 0 to"),
        (lambda q: q.write("x", delay=float("nan")), "delay: expected 0 to"),
        (lambda q: q.write("x", delay=float("inf")), "delay: expected 0 to"),
        (lambda q: q.write("x", priority=2**31), "priority: expected at most"),
        (lambda q: q.claim(0), "limit: expected at least 1"),
        (lambda q: q.claim(lease=0), "lease: expected seconds above 0"),
        (lambda q: q.claim(lease=float("inf")), "lease: expected seconds above 0"),
        (lambda q: q.claim(lease="5"), "lease: expected seconds, got str"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    call: Any, said: str, queue: Queue
) -> None:
    queue.write("kept")
    with pytest.raises(ValueError, match=said):
        call(queue)
    assert bodies(queue) == ["kept"]


@pytest.mark.parametrize("body", [None, 5, b"bytes", "lone \ud800"])
def test_a_body_that_is_no_text_is_refused(body: Any, queue: Queue) -> None:
    with pytest.raises(MessageError, match="invalid message"):
        queue.write_many(["fine", body])
    assert queue.peek() is None
    assert queue.write_many([]) == []


# ------------------------------------------------------------------------------ threads and forks


def test_a_thread_pool_reads_each_message_once(queue: Queue) -> None:
    queue.write_many(map(str, range(200)))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: queue.read(), range(220)))
    assert sorted(int(body) for body in read if body is not None) == list(range(200))


def test_threads_write_while_others_read_and_close(db: Path) -> None:
    taken: list[str] = []
    handles = [Queue("q", db, persistent=number % 2 == 0) for number in range(4)]
    done = threading.Event()

    def read() -> None:
        while True:
            over = done.is_set()
            if (body := handles[1].read()) is not None:
                taken.append(body)
            elif over:
                return

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(4) as pool:

        def write(number: int) -> None:
            handles[number % 4].write(str(number))
            handles[(number + 1) % 4].close()

        list(pool.map(write, range(100)))
    done.set()
    reader.join(20)
    assert sorted(map(int, taken)) == list(range(100))


def test_persistent_handles_of_a_store_share_a_connection(db: Path) -> None:
    first, second = (Queue(name, db, persistent=True) for name in "ab")
    apart = Queue("c", db, persistent=True, config={"BROKER_CACHE_MB": 1})
    assert first.broker is second.broker
    assert first.broker is not apart.broker
    first.write("x")
    first.close()
    second.write("y")
    assert first.peek() == "x"
    second.close()
    assert not list(db.parent.glob("*-wal")), "what was closed is closed"


@pytest.mark.parametrize("persistent", [False, True])
def test_a_handle_works_in_a_forked_child_and_in_its_parent(db: Path, persistent: bool) -> None:
    queue = Queue("q", db, persistent=persistent)
    queue.write("before")

    def go_on(talk: Any) -> None:
        for number in range(20):
            queue.write(f"child {number}")
        talk.send(queue.last_ts)

    child = Child(go_on)
    for number in range(20):
        queue.write(f"parent {number}")
    assert child.hear() > 0
    assert child.wait() == 0
    assert sorted(queue.read_generator()) == sorted(
        ["before", *(f"{who} {n}" for who in ("child", "parent") for n in range(20))]
    )
    queue.close()


def test_a_child_of_a_child_writes_too(db: Path) -> None:
    queue = Queue("q", db, persistent=True)
    queue.write("0")

    def fork_again(talk: Any) -> None:
        queue.write("1")
        if (pid := os.fork()) == 0:
            queue.write("2")
            os._exit(0)
        os.waitpid(pid, 0)
        queue.write("3")
        talk.send(None)

    Child(fork_again).hear()
    assert list(queue.read_generator()) == list("0123")
    queue.close()
