"""Messages and acks in the caller's own sqlite3 transaction."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from processes import EVERY
from support import Child, eventually

from brokerrun import (
    AliasError,
    ArgumentError,
    Queue,
    StoreBusy,
    StoreGone,
    StoreRefused,
    UsageError,
)
from brokerrun.errors import ForkUnsafe, IntegrityError


@pytest.fixture(params=[False, True], ids=["each call", "persistent"])
def queue(request: pytest.FixtureRequest, database: str) -> Iterator[Queue]:
    with Queue("q", database, persistent=request.param) as queue:
        queue.stats()  # makes the database
        yield queue


@pytest.fixture
def mine(queue: Queue, database: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, timeout=0.2)
    connection.execute("create table orders(number integer)")
    yield connection
    connection.close()


def bodies(queue: Queue) -> list[str]:
    return queue.peek_many(1000)


def orders(database: str) -> int:
    with sqlite3.connect(database) as connection:
        return int(connection.execute("select count(*) from orders").fetchone()[0])


# ------------------------------------------------------------------------------------- enqueue


def test_a_message_is_there_when_the_caller_commits(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    with mine:
        mine.execute("insert into orders values (1)")
        ident = queue.enqueue("a", within=mine)
        assert bodies(queue) == []
    assert queue.peek_one(with_timestamps=True) == ("a", ident)
    assert orders(database) == 1


def test_a_rollback_takes_the_message_with_it(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    with suppress(ZeroDivisionError), mine:
        mine.execute("insert into orders values (1)")
        queue.enqueue("a", within=mine)
        _ = 1 / 0
    assert (bodies(queue), orders(database)) == ([], 0)


def test_it_begins_the_transaction_where_the_connection_begins_by_itself(
    queue: Queue, mine: sqlite3.Connection
) -> None:
    queue.enqueue("a", within=mine)
    assert mine.in_transaction
    mine.rollback()
    assert bodies(queue) == []


def test_a_refused_message_leaves_the_rest_of_the_transaction(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    with mine:
        mine.execute("insert into orders values (1)")
        first = queue.enqueue("a", within=mine, priority=5)
        with pytest.raises(UsageError, match="delay"):
            queue.enqueue("b", within=mine, delay=-1)
        second = queue.enqueue("c", within=mine, delay=60)
    assert second > first
    assert (bodies(queue), orders(database)) == (["c", "a"], 1)


def test_what_fails_half_way_leaves_nothing_of_itself(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    mine.execute(
        "create trigger refuse before insert on message when new.body = 'bad' "
        "begin select raise(abort, 'no'); end"
    )
    with mine:
        mine.execute("insert into orders values (1)")
        with pytest.raises(IntegrityError, match="no"):
            Queue("fresh", database).enqueue("bad", within=mine)
        queue.enqueue("good", within=mine)
    assert mine.execute("select name from queue").fetchall() == [("q",)]
    assert (bodies(queue), orders(database)) == (["good"], 1)


def test_ids_go_on_from_what_others_wrote(queue: Queue, mine: sqlite3.Connection) -> None:
    before = queue.write("a")
    with mine:
        own = queue.enqueue("b", within=mine)
    assert before < own < queue.write("c")


def test_an_alias_is_resolved_inside_it(database: str, mine: sqlite3.Connection) -> None:
    target = Queue("real", database)
    with target.call() as broker:
        broker.store.add_alias("short", "real")
    with mine:
        Queue("@short", database).enqueue("a", within=mine)
    assert target.read() == "a"


@pytest.mark.parametrize("factory", [sqlite3.Row, lambda _cursor, row: dict(enumerate(row))])
def test_the_factories_of_the_connection_stay_and_do_no_harm(
    queue: Queue, mine: sqlite3.Connection, factory: object
) -> None:
    mine.row_factory, mine.text_factory = factory, bytes  # type: ignore[assignment]
    queue.write("before")
    with queue.claim() as leases, mine:
        for lease in leases:
            queue.enqueue("a", within=mine)
            assert lease.ack(within=mine)
    assert (mine.row_factory, mine.text_factory) == (factory, bytes)
    assert bodies(queue) == ["a"]


def test_a_watcher_in_another_process_wakes_on_the_commit(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    mine.close()

    def wait(talk: object) -> None:
        theirs = Queue("q", database, persistent=True)
        with theirs.call() as broker:
            talk.send("waits")  # type: ignore[attr-defined]
            broker.store.wait(["q"], 20)
            talk.send((theirs.read(), time.time()))  # type: ignore[attr-defined]

    child = Child(wait)
    assert child.hear() == "waits"
    connection = sqlite3.connect(database)
    queue.enqueue("a", within=connection)
    at = time.time()
    connection.commit()
    body, woke_at = child.hear()
    assert body == "a"
    assert woke_at - at < 1
    connection.close()
    child.ends_well()


def test_a_process_killed_before_the_commit_leaves_nothing(queue: Queue, database: str) -> None:
    queue.close()

    def work(talk: object) -> None:
        connection = sqlite3.connect(database)
        Queue("q", database).enqueue("a", within=connection)
        talk.send("open")  # type: ignore[attr-defined]
        threading.Event().wait(60)

    child = Child(work)
    assert child.hear() == "open"
    child.kill()
    assert bodies(queue) == []
    queue.write("b")
    assert bodies(queue) == ["b"]


def test_a_writer_that_waits_in_the_turnstile_is_not_waited_for(database: str) -> None:
    """The caller has SQLite's lock, another the turnstile: each would wait for the other."""
    queue = Queue("q", database)
    queue.write("a")
    connection = sqlite3.connect(database)
    connection.execute("begin immediate")
    other = threading.Thread(target=Queue("q", database).write, args=["b"])
    with Queue("q", database, persistent=True).call() as broker:
        lockfile = broker.store.connection.lockfile  # type: ignore[attr-defined]
        other.start()
        eventually(lockfile.mutex.locked)
        begun = time.monotonic()
        queue.enqueue("c", within=connection)
        connection.commit()
        assert time.monotonic() - begun < 2
        other.join()
    connection.close()
    assert sorted(bodies(queue)) == ["a", "b", "c"]


def test_several_processes_do_so_at_once(database: str) -> None:
    Queue("q", database).stats()

    def work(_: object) -> None:
        connection = sqlite3.connect(database)
        queue = Queue("q", database)
        for number in range(50):
            with connection:
                queue.enqueue(str(number), within=connection)
        connection.close()

    for child in [Child(work) for _ in range(4)]:
        child.ends_well()
    assert Queue("q", database).stats().pending == 200


# ----------------------------------------------------------------------------------------- ack


def test_an_ack_is_true_when_the_caller_commits(queue: Queue, mine: sqlite3.Connection) -> None:
    queue.write("a")
    with queue.claim() as leases:
        for lease in leases:
            with mine:
                mine.execute("insert into orders values (1)")
                assert lease.ack(within=mine)
                assert bodies(queue) == ["a"]
            assert bodies(queue) == []
    assert queue.claim().__len__() == 0


def test_an_ack_rolled_back_leaves_the_message_held(queue: Queue, mine: sqlite3.Connection) -> None:
    queue.write("a")
    with queue.claim() as leases:
        for lease in leases:
            lease.ack(within=mine)
            mine.rollback()
            assert queue.read() is None
            assert lease.nack("no", delay=0)
    again = next(queue.claim())
    assert (again.body, again.attempts, again.last_error) == ("a", 2, "no")


def test_an_exception_after_the_ack_rolls_it_back_and_is_the_reason_of_the_retry(
    queue: Queue, mine: sqlite3.Connection
) -> None:
    queue.write_many(["a", "b"])
    with suppress(ZeroDivisionError), queue.claim(2) as leases:
        for lease in leases:
            with mine:
                lease.ack(within=mine)
                _ = 1 / 0
    with queue.call() as broker:
        attempts = {m.body: m.attempts for m in broker.store.look("q", EVERY)}
        assert attempts == {"a": 1, "b": 0}
        error = broker.store.history(lease.id)[0].error
    assert "ZeroDivisionError" in (error or "")


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_transaction_may_outlast_the_block_of_its_leases(
    queue: Queue, mine: sqlite3.Connection, ends: str
) -> None:
    queue.write_many(["a", "b"])
    begun = time.monotonic()
    with queue.claim(2) as leases:
        next(leases).ack(within=mine)
    assert time.monotonic() - begun < 2
    getattr(mine, ends)()
    assert sorted(queue.read_many(10)) == (["b"] if ends == "commit" else ["a", "b"])


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_outside_a_block_no_life_is_left_over(
    queue: Queue, mine: sqlite3.Connection, ends: str
) -> None:
    queue.write("a")
    next(queue.claim()).ack(within=mine)
    getattr(mine, ends)()
    assert queue.read() == (None if ends == "commit" else "a")


def test_a_bare_ack_of_a_lost_lease_says_so(queue: Queue, mine: sqlite3.Connection) -> None:
    ident = queue.write("a")
    lease = next(queue.claim())
    queue.delete(message_id=ident)
    assert lease.ack(within=mine) is False


@pytest.mark.parametrize("again", [False, True], ids=["idle", "in its next transaction"])
def test_a_committed_ack_asks_nothing_more_of_the_connection(
    queue: Queue, mine: sqlite3.Connection, again: bool
) -> None:
    queue.write("a")
    with queue.claim() as leases:
        for lease in leases:
            lease.ack(within=mine)
            mine.commit()
            if again:
                mine.execute("begin immediate")
    assert mine.in_transaction is again
    mine.rollback()
    assert bodies(queue) == []


def test_a_connection_may_be_closed_after_its_ack(queue: Queue, database: str) -> None:
    queue.write_many(["a", "b", "c"])
    with queue.claim(3) as leases:
        for lease in leases:
            with closing(sqlite3.connect(database)) as own, own:
                if lease.body != "b":
                    lease.ack(within=own)
    assert queue.read_many(5) == ["b"]


# ------------------------------------------------------------------------------------- refused


def test_a_connection_without_a_transaction_is_refused(queue: Queue, database: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    with pytest.raises(UsageError, match="execute 'begin immediate' first"):
        queue.enqueue("a", within=connection)
    connection.execute("begin immediate")
    queue.enqueue("a", within=connection)
    connection.execute("commit")
    connection.close()
    assert bodies(queue) == ["a"]


def test_a_connection_to_another_database_is_refused(queue: Queue, tmp_path: Path) -> None:
    for place, named in (
        (str(tmp_path / "other.db"), "other.db"),
        (":memory:", "a database in memory"),
    ):
        connection = sqlite3.connect(place)
        with pytest.raises(UsageError, match=named):
            queue.enqueue("a", within=connection)
        assert not connection.in_transaction
        connection.close()


def test_a_link_to_the_database_is_the_database(
    queue: Queue, database: str, tmp_path: Path
) -> None:
    (tmp_path / "link.db").symlink_to(database)
    with sqlite3.connect(tmp_path / "link.db") as connection:
        queue.enqueue("a", within=connection)
    connection.close()
    assert bodies(queue) == ["a"]


def test_something_else_than_a_connection_is_refused(queue: Queue, mine: object) -> None:
    with pytest.raises(ArgumentError, match=r"within: expected an sqlite3.Connection, got str"):
        queue.enqueue("a", within="queue.db")


def test_a_database_that_is_none_of_ours_yet_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("create table orders(number integer)")
    with pytest.raises(StoreRefused, match="`broker init`"):
        Queue("q", tmp_path / "app.db").enqueue("a", within=connection)
    connection.close()


def test_a_lock_of_another_is_waited_for_and_then_named(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreBusy, match="stayed locked"):
        queue.enqueue("a", within=mine)
    other.execute("commit")
    other.close()


def test_a_transaction_that_read_what_is_outdated_is_told_so(queue: Queue, database: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("begin")
    connection.execute("select * from message").fetchall()
    queue.write("a")
    with pytest.raises(StoreBusy, match="begin immediate"):
        queue.enqueue("b", within=connection)
    connection.execute("rollback")
    connection.close()


def test_a_temporary_table_that_hides_ours_is_refused(
    queue: Queue, mine: sqlite3.Connection
) -> None:
    mine.execute("create temp table message(body)")
    with pytest.raises(UsageError, match="temporary table"):
        queue.enqueue("a", within=mine)


def test_a_database_that_was_replaced_is_refused(queue: Queue, database: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute("select * from message").fetchall()
    queue.close()
    for part in ("", "-wal", "-shm"):
        os.rename(database + part, database + ".old" + part)
    with pytest.raises(StoreGone, match="deleted"):
        Queue("q", database).enqueue("a", within=connection)
    Child(lambda _: Queue("q", database).write("b")).ends_well()
    with pytest.raises(StoreGone, match="replaced"):
        Queue("q", database).enqueue("a", within=connection)
    connection.close()


def test_a_refusal_leaves_no_transaction_behind(queue: Queue, mine: sqlite3.Connection) -> None:
    with pytest.raises(AliasError):
        Queue("@nope", queue.db_path).enqueue("a", within=mine)
    mine.execute(
        "create trigger refuse before insert on message begin select raise(abort, 'no'); end"
    )
    with pytest.raises(IntegrityError):
        queue.enqueue("a", within=mine)
    assert not mine.in_transaction


# --------------------------------------------------------------------------------------- harm


def test_writers_keep_their_share_beside_one_who_writes_on_and_on(database: str) -> None:
    queue = Queue("q", database, persistent=True, config={"BROKER_BUSY_TIMEOUT": 2000})
    queue.stats()

    def flood(talk: object) -> None:
        own, connection = Queue("own", database), sqlite3.connect(database)
        talk.send("floods")  # type: ignore[attr-defined]
        while not talk.poll():  # type: ignore[attr-defined]
            own.enqueue("x", within=connection)
            connection.commit()
        connection.close()

    child = Child(flood)
    assert child.hear() == "floods"
    worst = 0.0
    for _ in range(50):
        begun = time.monotonic()
        queue.write("a")
        worst = max(worst, time.monotonic() - begun)
    child.say("enough")
    child.ends_well()
    assert worst < 1


def test_a_child_is_refused_on_a_connection_that_it_inherited_unseen(database: str) -> None:
    queue = Queue("q", database)
    queue.stats()
    connection = sqlite3.connect(database)
    connection.execute("select * from message").fetchall()

    def work(talk: object) -> None:
        try:
            queue.enqueue("a", within=connection)
        except ForkUnsafe:
            talk.send("refused")  # type: ignore[attr-defined]

    assert Child(work).hear() == "refused"
    connection.close()


def test_the_connection_checkpoints_nothing_any_more(
    queue: Queue, mine: sqlite3.Connection
) -> None:
    queue.enqueue("a", within=mine)
    mine.commit()
    harmless = sqlite3.sqlite_version_info >= (3, 51, 3)
    assert mine.execute("pragma wal_autocheckpoint").fetchone() == (1000 if harmless else 0,)


def test_a_child_of_a_process_that_has_it_open_is_refused(
    queue: Queue, mine: sqlite3.Connection, database: str
) -> None:
    queue.enqueue("a", within=mine)
    mine.commit()

    def work(talk: object) -> None:
        try:
            Queue("q", database).write("b")
        except ForkUnsafe as error:
            talk.send(str(error))  # type: ignore[attr-defined]

    child = Child(work)
    assert database in child.hear()
    child.ends_well()
    mine.close()
    queue.write("c")
    Child(lambda _: Queue("q", database).write("d")).ends_well()
    assert bodies(queue) == ["a", "c", "d"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit came with Python 3.12")
def test_the_newer_kinds_of_transactions_are_known(queue: Queue, database: str) -> None:
    connection = sqlite3.connect(database, autocommit=False)
    queue.enqueue("a", within=connection)
    connection.commit()
    connection.close()
    connection = sqlite3.connect(database, autocommit=True)
    with pytest.raises(UsageError, match="begin immediate"):
        queue.enqueue("b", within=connection)
    connection.close()
    assert bodies(queue) == ["a"]
