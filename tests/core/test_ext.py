"""Runners that the caller brings, ids through them, and the errors of `brokerrun.ext`."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_runner import PlainRunner
from shell import Shell
from support import Child, eventually

import brokerrun
from brokerrun import (
    ArgumentError,
    Queue,
    QueueWatcher,
    StoreRefused,
    UsageError,
    create_activity_waiter_for_queues,
)
from brokerrun.errors import ForkUnsafe, StoreBusy, StoreGone
from brokerrun.ext import (
    BrokerError,
    DataError,
    IntegrityError,
    MessageError,
    OperationalError,
    QueueNameError,
    SetupPhase,
    SQLiteRunner,
    SQLRunner,
    TimestampError,
    TimestampGenerator,
)

Runner = SQLiteRunner | PlainRunner


@pytest.fixture(params=[SQLiteRunner, PlainRunner])
def runner(request: pytest.FixtureRequest, database: str) -> Iterator[Runner]:
    runner = request.param(database)
    yield runner
    runner.close()


class Wrapping(SQLRunner):
    """Wraps a runner and keeps what went through it, as the documents' logging runner does."""

    def __init__(self, inner: SQLRunner):
        self.inner = inner
        self.log: list[str] = []

    def run(
        self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False
    ) -> Iterable[tuple[Any, ...]]:
        self.log.append(sql)
        return self.inner.run(sql, params, fetch=fetch)

    def begin_immediate(self) -> None:
        self.log.append("begin")
        self.inner.begin_immediate()

    def commit(self) -> None:
        self.log.append("commit")
        self.inner.commit()

    def rollback(self) -> None:
        self.log.append("rollback")
        self.inner.rollback()

    def close(self) -> None:
        self.inner.close()


# --------------------------------------------------------------------------- queues on runners


def test_a_queue_works_on_a_runner_and_shares_its_database(runner: Runner, database: str) -> None:
    with Queue("q", runner=runner) as queue:
        ident = queue.write("a")
        assert Queue("q", database).peek_one(with_timestamps=True) == ("a", ident)
        Queue("q", database).write("b")
        assert queue.read_many(10) == ["a", "b"]
        assert queue.refresh_last_ts() > ident


def test_other_processes_take_the_database_for_ours(runner: Runner, database: str) -> None:
    Queue("q", runner=runner).write("a")
    shell = Shell(Path(database).parent)
    assert shell.ok("-f queue.db read q") == "a"


def test_a_database_that_the_runner_put_into_wal_mode_first_is_ours_too(database: str) -> None:
    runner = PlainRunner(database)
    runner.run("pragma journal_mode = wal")
    Queue("q", runner=runner).write("a")
    assert Queue("q", database).read() == "a"
    runner.close()


def test_every_statement_goes_through_the_runner(database: str) -> None:
    wrapping = Wrapping(PlainRunner(database))
    queue = Queue("q", runner=wrapping)
    queue.exists()
    wrapping.log.clear()
    queue.write("a")
    assert wrapping.log[0] == "begin"
    assert wrapping.log[-1] == "commit"
    assert any(sql.startswith("insert into message") for sql in wrapping.log)
    assert not any(":" in sql for sql in wrapping.log), "values are given by their places"
    wrapping.close()


def test_queues_of_a_runner_move_among_themselves_and_not_elsewhere(
    runner: Runner, tmp_path: Path
) -> None:
    queue, other = Queue("q", runner=runner), Queue("other", runner=runner)
    queue.write("a")
    moved = queue.move(other)
    assert moved is not None
    assert (moved["message"], other.read()) == ("a", "a")
    with pytest.raises(UsageError, match="another store"):
        queue.move(Queue("q2", runner=SQLiteRunner(tmp_path / "second.db")))


def test_a_queue_never_closes_its_runner(database: str) -> None:
    runner = PlainRunner(database)
    with Queue("q", runner=runner) as queue:
        queue.write("a")
    queue.close()
    assert runner.closed == 0
    assert queue.read() == "a"
    runner.close()


def test_leases_and_batches_work_on_a_runner(runner: Runner) -> None:
    queue = Queue("q", runner=runner)
    queue.write_many(["a", "b", "c"])
    with queue.claim(2) as leases:
        assert next(leases).ack()
        assert queue.read() == "c"
    reader = queue.read_generator(delivery_guarantee="at_least_once")
    assert next(reader) == "b"
    reader.close()
    assert queue.stats().pending == 1


def test_what_a_killed_process_held_through_a_runner_is_ready_again(database: str) -> None:
    Queue("q", database).write("a")

    def hold(talk: Any) -> None:
        leases = Queue("q", runner=PlainRunner(database)).claim()
        talk.send(len(leases))
        threading.Event().wait(60)

    child = Child(hold)
    assert child.hear() == 1
    assert Queue("q", database).read() is None
    child.kill()
    assert Queue("q", runner=SQLiteRunner(database)).read() == "a"


def test_a_database_in_memory_is_a_queue_for_one_process() -> None:
    queue = Queue("q", runner=PlainRunner(":memory:"))
    queue.write_many(["a", "b"])
    with queue.claim() as leases:
        assert next(leases).nack(delay=0)
    assert sorted(queue.read_generator(delivery_guarantee="at_least_once")) == ["a", "b"]


def test_watchers_and_waiters_work_on_a_runner(runner: Runner, database: str) -> None:
    queue = Queue("q", runner=runner)
    got: list[str] = []
    with QueueWatcher(queue, lambda body, _: got.append(body)):
        queue.write("from here")
        eventually(lambda: got == ["from here"])
        Queue("q", database).write("from there")
        eventually(lambda: got == ["from here", "from there"])
    waiter = create_activity_waiter_for_queues([queue, Queue("other", runner=runner)])
    assert waiter is not None
    assert not waiter.wait(0.01)
    queue.write("x")
    assert waiter.wait(5)
    waiter.close()


def test_threads_take_turns_on_a_runner(runner: Runner) -> None:
    def write(name: str) -> None:
        queue = Queue(name, runner=runner)
        for number in range(50):
            queue.write(str(number))

    threads = [threading.Thread(target=write, args=[f"q{n}"]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert Queue(f"q{n}", runner=runner).read_many(100) == [str(i) for i in range(50)]


def test_processes_write_beside_each_other_through_runners(database: str) -> None:
    def write(_: Any) -> None:
        queue = Queue("q", runner=PlainRunner(database))
        for number in range(100):
            queue.write(str(number))

    for child in [Child(write) for _ in range(4)]:
        child.ends_well()
    assert Queue("q", database).stats().pending == 400


def test_a_message_goes_into_the_callers_transaction_beside_a_runner(
    runner: Runner, database: str
) -> None:
    queue = Queue("q", runner=runner)
    queue.stats()
    connection = sqlite3.connect(database)
    queue.enqueue("a", within=connection)
    connection.rollback()
    queue.enqueue("b", within=connection)
    connection.commit()
    connection.close()
    assert queue.read_many(5) == ["b"]


# ------------------------------------------------------------------------------ what can happen


def test_what_raises_inside_is_rolled_back(database: str) -> None:
    class Failing(Wrapping):
        def run(self, sql: str, params: tuple[Any, ...] = (), *, fetch: bool = False) -> Any:
            if sql.startswith("insert into message") and "bad" in params:
                raise IntegrityError("not this one")
            return super().run(sql, params, fetch=fetch)

    queue = Queue("q", runner=Failing(PlainRunner(database)))
    with pytest.raises(IntegrityError, match="not this one"):
        queue.write_many(["good", "bad"])
    assert queue.peek_many(5) == []
    queue.write("after")
    assert queue.read() == "after"


@pytest.mark.parametrize("error", [OperationalError("busy"), sqlite3.OperationalError("busy")])
def test_a_beginning_that_fails_for_now_is_tried_again(database: str, error: Exception) -> None:
    class Shy(Wrapping):
        left = 3

        def begin_immediate(self) -> None:
            self.left -= 1
            if self.left > 0:
                raise error
            super().begin_immediate()

    queue = Queue("q", runner=Shy(PlainRunner(database)))
    queue.write("a")
    assert queue.read() == "a"


def test_a_commit_that_fails_is_rolled_back_and_holds_nobody_up(database: str) -> None:
    class Failing(Wrapping):
        left = 1

        def commit(self) -> None:
            if self.left and "insert into message" in " ".join(self.log):
                self.left = 0
                raise sqlite3.OperationalError("disk is on fire")
            super().commit()

    queue = Queue("q", runner=Failing(PlainRunner(database)))
    with pytest.raises(OperationalError, match="on fire"):
        queue.write("a")
    Queue("q", database).write("b")
    assert queue.read_many(5) == ["b"]


def test_a_checkpoint_that_fails_takes_nothing_back(database: str) -> None:
    config = {"BROKER_WAL_AUTOCHECKPOINT": 4, "BROKER_BUSY_TIMEOUT": 50}
    queue = Queue("q", runner=PlainRunner(database), config=config)
    queue.write("x" * 50_000)
    other = sqlite3.connect(database, isolation_level=None)
    with Queue("q", database, persistent=True).call() as broker:
        lockfile = broker.store.connection.lockfile  # type: ignore[attr-defined]
        lockfile.enter(1)
        try:
            idents = [queue.write("y" * 50_000) for _ in range(3)]
        finally:
            lockfile.leave()
    assert len(set(idents)) == 3
    other.close()
    assert queue.stats().pending == 4


def test_rows_that_are_no_texts_are_refused(database: str) -> None:
    runner = PlainRunner(database)
    runner.connection.text_factory = bytes
    with pytest.raises(UsageError, match="expected rows with texts"):
        Queue("q", runner=runner).write("a")
    runner.close()


def test_an_application_that_opened_the_empty_file_first_loses_nothing(database: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute("select * from sqlite_master").fetchall()
    queue = Queue("q", database)
    queue.write_many(["a", "b", "c"])
    connection.execute("select count(*) from message").fetchone()
    queue.write("d")
    connection.close()
    assert queue.read_many(9) == ["a", "b", "c", "d"]


def test_many_make_one_database_at_once_by_runner_and_by_path(database: str) -> None:
    def write(number: int) -> None:
        runner = PlainRunner(database) if number % 2 else None
        queue = Queue("q", runner=runner) if runner else Queue("q", database)
        for each in range(5):
            queue.write(f"{number}.{each}")

    for child in [Child(lambda _, n=n: write(n)) for n in range(6)]:  # type: ignore[misc]
        child.ends_well()
    assert Queue("q", database).stats().pending == 30


def test_a_statement_that_begins_with_with_may_write(database: str) -> None:
    runner = SQLiteRunner(database)
    runner.run("create table orders(number)")
    runner.run("with one(n) as (values (1)) insert into orders select n from one")
    assert list(runner.run("select * from orders", fetch=True)) == [(1,)]
    runner.close()


def test_dropped_queues_that_waited_leave_no_descriptor(database: str) -> None:
    def wait() -> None:
        queue = Queue("q", database, persistent=True, config={"BROKER_MAX_INTERVAL": 0.3})
        queue.broker.store.wait(["q"], 0.001)

    wait()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        wait()
    gc.collect()
    Queue("q", database).stats()  # closes what was dropped while open
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_beginning_that_keeps_failing_is_given_up(database: str) -> None:
    class Never(Wrapping):
        def begin_immediate(self) -> None:
            raise OperationalError("the server is away")

    runner = Never(PlainRunner(database))
    queue = Queue("q", runner=runner, config={"BROKER_BUSY_TIMEOUT": 100})
    with pytest.raises(OperationalError, match="the server is away"):
        queue.write("a")


def test_a_lock_of_another_program_is_a_retryable_error(database: str) -> None:
    Queue("q", database).write("a")
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("begin immediate")
    runner = SQLiteRunner(database, config={"BROKER_BUSY_TIMEOUT": 50})
    with pytest.raises(OperationalError, match="locked"):
        runner.begin_immediate()
    with pytest.raises(OperationalError):
        Queue("q", database, config={"BROKER_BUSY_TIMEOUT": 50}).write("b")
    other.close()


def test_a_database_of_a_stranger_is_refused_and_left(runner: Runner, database: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("create table mine(x)")
    connection.close()
    before = Path(database).read_bytes()
    with pytest.raises(StoreRefused, match="not brokerrun's"):
        Queue("q", runner=runner).write("a")
    runner.close()
    assert Path(database).read_bytes() == before
    assert os.listdir(Path(database).parent) == ["queue.db"]


def test_a_database_that_was_replaced_is_not_written_to(database: str) -> None:
    runner = PlainRunner(database)
    queue = Queue("q", runner=runner)
    queue.write("a")
    for part in ("", "-wal", "-shm"):
        os.rename(database + part, database + ".old" + part)
    Queue("q", database).write("b")
    with pytest.raises(StoreGone):
        queue.write("c")
    runner.close()
    assert Queue("q", database).peek_many(5) == ["b"]


def test_the_log_of_a_database_that_only_runners_write_stays_bounded(database: str) -> None:
    runner = PlainRunner(database)
    queue = Queue("q", runner=runner, config={"BROKER_WAL_AUTOCHECKPOINT": 10})
    longest = 0
    for _ in range(200):
        queue.write("x" * 1000)
        longest = max(longest, os.path.getsize(database + "-wal"))
    assert longest < 100_000
    assert queue.stats().pending == 200
    runner.close()


def test_a_child_beside_an_open_runner_is_refused(database: str) -> None:
    class Open(PlainRunner):
        def let_go(self) -> None:
            """Stay open over forks."""

    queue = Queue("q", runner=Open(database))
    queue.write("a")

    def use(talk: Any) -> None:
        for use in (queue, Queue("q", database)):
            with pytest.raises(ForkUnsafe, match="forked while a connection"):
                use.write("b")
        talk.send("refused")

    child = Child(use)
    assert child.hear() == "refused"
    queue.write("c")
    assert queue.read_many(5) == ["a", "c"]


def test_a_runner_that_closes_before_a_fork_works_in_the_child(
    runner: Runner, database: str
) -> None:
    queue = Queue("q", runner=runner)
    queue.write("a")
    Child(lambda _: queue.write("b")).ends_well()
    assert queue.read_many(5) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"runner": object()}, ArgumentError, r"runner: .*it has no run\(\)"),
        ({"runner": PlainRunner(":memory:"), "db_path": "a.db"}, UsageError, "leave db_path out"),
    ],
)
def test_what_is_no_runner_is_refused(
    arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        Queue("q", **arguments)


# -------------------------------------------------------------------------- the built-in runner


def test_the_runner_carries_out_statements_of_the_caller(database: str) -> None:
    runner = SQLiteRunner(database)
    runner.run("create table orders(number integer primary key)")
    runner.begin_immediate()
    runner.run("insert into orders values (?)", (1,))
    runner.rollback()
    runner.begin_immediate()
    runner.run("insert into orders values (?)", (2,))
    runner.commit()
    assert list(runner.run("select number from orders", fetch=True)) == [(2,)]
    with pytest.raises(IntegrityError, match="UNIQUE"):
        runner.run("insert into orders values (2)")
    with pytest.raises(BrokerError, match="no such table"):
        runner.run("select * from missing", fetch=True)
    runner.close()


def test_a_transaction_is_of_its_thread_and_others_wait(database: str) -> None:
    runner = SQLiteRunner(database)
    runner.begin_immediate()
    with pytest.raises(UsageError, match="in a transaction already"):
        runner.begin_immediate()
    order: list[str] = []

    def other() -> None:
        runner.begin_immediate()
        order.append("other")
        runner.commit()

    thread = threading.Thread(target=other)
    thread.start()
    order.append("first")
    runner.commit()
    thread.join()
    assert order == ["first", "other"]
    runner.rollback()
    with pytest.raises(UsageError, match="no transaction"):
        runner.commit()


def test_a_child_leaves_the_transaction_of_its_parent_alone(database: str) -> None:
    runner = SQLiteRunner(database)
    runner.run("create table orders(number)")
    runner.begin_immediate()
    runner.run("insert into orders values (1)")

    def use(talk: Any) -> None:
        runner.rollback()
        with pytest.raises(ForkUnsafe):
            runner.run("insert into orders values (2)")
        talk.send("refused")

    assert Child(use).hear() == "refused"
    runner.commit()
    assert list(runner.run("select * from orders", fetch=True)) == [(1,)]


def test_a_child_leaves_the_transaction_of_another_thread_alone(database: str) -> None:
    runner = SQLiteRunner(database)
    runner.run("create table orders(number)")
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        runner.begin_immediate()
        runner.run("insert into orders values (1)")
        begun.set()
        over.wait(20)
        runner.commit()

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait(20)
    seen, write_end = os.pipe()
    runner._connection._db.set_trace_callback(  # type: ignore[union-attr]
        lambda sql: os.write(write_end, f"{os.getpid()} {sql}\n".encode())
    )
    child = Child(lambda _: None)
    child.ends_well()
    over.set()
    thread.join()
    traced = os.read(seen, 65536).decode()
    assert f"{child.pid} " not in traced
    assert f"{os.getpid()} " in traced
    assert list(runner.run("select * from orders", fetch=True)) == [(1,)]


def test_the_phases_of_the_peer_are_one_opening(database: str) -> None:
    runner = SQLiteRunner(database)
    assert not runner.is_setup_complete(SetupPhase.SCHEMA)
    runner.setup(SetupPhase.CONNECTION)
    assert all(runner.is_setup_complete(phase) for phase in SetupPhase)
    assert runner.db_path == os.path.realpath(database)
    runner.close()


# ---------------------------------------------------------------------------------- ids, errors


def test_ids_through_a_runner_grow_with_those_of_messages(runner: Runner, database: str) -> None:
    ids = TimestampGenerator(runner)
    assert ids.get_cached_last_ts() == 0
    first = ids.generate()
    second = Queue("q", database).write("a")
    assert first < second
    assert ids.get_cached_last_ts() == first
    assert ids.refresh_last_ts() == second == ids.get_cached_last_ts()
    assert ids.generate() > second


@pytest.mark.parametrize(
    ("text", "exact", "found"),
    [
        (" 1837025672140161024 ", True, 1837025672140161024),
        ("1970-01-01T00:00:02Z", False, 2_000_000_000),
        ("1705329000s", False, 1705329000 * 10**9),
        ("1705329000", True, None),
        ("yesterday", False, None),
        ("", False, None),
    ],
)
def test_a_time_is_read_as_the_command_line_reads_it(
    text: str, exact: bool, found: int | None
) -> None:
    if found is None:
        with pytest.raises(TimestampError):
            TimestampGenerator.validate(text, exact)
    else:
        assert TimestampGenerator.validate(text, exact) == found


def test_the_errors_are_those_that_queues_raise(database: str) -> None:
    cases: list[tuple[type[Exception], Callable[[], object]]] = [
        (QueueNameError, lambda: Queue("a b", database)),
        (MessageError, lambda: Queue("q", database).write(b"x")),  # type: ignore[arg-type]
        (TimestampError, lambda: Queue("q", database).read(message_id="17")),
        (TimestampError, lambda: Queue("q", database).peek(after_timestamp="soon")),
    ]
    for kind, case in cases:
        with pytest.raises(kind):
            case()
        assert issubclass(kind, BrokerError)
    assert issubclass(StoreBusy, OperationalError)
    assert issubclass(DataError, BrokerError)
    assert BrokerError is brokerrun.BrokerrunError
