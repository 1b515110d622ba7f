"""No connection is open in a process while it forks, and nothing is lost whoever ends first."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection as Talk

import pytest
from support import Child, eventually

from brokerrun.core.backends.sqlite import forks
from brokerrun.core.backends.sqlite.runner import Connection
from brokerrun.core.backends.sqlite.store import SqliteStore
from brokerrun.core.model import Selection
from brokerrun.core.queue import Queue
from brokerrun.errors import ForkUnsafe, StoreError

EVERY = Selection(limit=None)
SUFFIXES = ("", "-wal", "-shm", ".lock")

# Python 3.12 and later say it where a process with threads forks: here that is the subject.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def store(database: str) -> Iterator[SqliteStore]:
    store = SqliteStore(database)
    yield store
    store.close()


def one_shot(database: str, body: str) -> None:
    store = SqliteStore(database)
    store.put("q", [body])
    store.close()


def bodies(database: str) -> list[str]:
    """Read what is there as a process of its own sees it."""
    ours, theirs = Pipe()

    def look(talk: Talk) -> None:
        theirs.send([message.body for message in SqliteStore(database).look("q", EVERY)])

    Child(look).ends_well()
    assert ours.poll(5)
    found: list[str] = ours.recv()
    return found


def open_files(database: str) -> list[str]:
    """List what this process has open of a database, by its suffix."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{number}").removesuffix(" (deleted)")
            found += [suffix for suffix in SUFFIXES if path == database + suffix]
    return sorted(found)


def locks_of(pid: int, database: str) -> int:
    """Count the POSIX locks of a process on the database and its shared memory."""
    inodes = [os.stat(database + suffix).st_ino for suffix in ("", "-shm")]
    with open("/proc/locks", encoding="ascii") as file:
        held = [line.split() for line in file if "->" not in line]
    return sum(
        line[1] == "POSIX" and line[4] == str(pid) and int(line[5].split(":")[2]) in inodes
        for line in held
    )


# ----------------------------------------------------------------------------------- the mechanism


def test_a_child_begins_without_a_connection(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])
    store.begin_life(1 << 40)
    assert open_files(database) == ["", "-shm", "-wal", "-wal", ".lock"]

    def look(talk: Talk) -> None:
        talk.send((store.connection._db, store.connection._wal, open_files(database)))

    child = Child(look)
    assert child.hear() == (None, -1, [])
    assert [message.body for message in store.look("q", EVERY)] == ["x"]


def test_nothing_of_the_database_is_open_at_the_moment_of_the_fork(database: str) -> None:
    """A hook that was registered before ours runs after it, at the last moment."""
    script = f"""
import os
found = []
def look():
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
os.register_at_fork(before=look)
from brokerrun import Queue
queue = Queue("q", {database!r}, persistent=True)
queue.write("x")
if os.fork() == 0:
    os._exit(0)
os.wait()
assert any("/fd" in path or "pipe" in path for path in found), found
print([path for path in found if "queue.db" in path and not path.endswith(".lock")])
assert queue.read() == "x"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_a_child_has_locks_of_its_own_while_it_uses_the_file(
    store: SqliteStore, database: str
) -> None:
    store.put("q", ["x"])

    def use(talk: Talk) -> None:
        store.put("q", ["y"])
        talk.send("uses it")
        talk.recv()

    child = Child(use)
    child.hear()
    store.put("q", ["z"])
    assert locks_of(child.pid, database) >= 2
    assert locks_of(os.getpid(), database) >= 2


def test_a_file_that_the_child_never_uses_is_not_opened(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])

    def idle(talk: Talk) -> None:
        assert open_files(database) == []

    Child(idle).ends_well()


def test_a_fork_that_executes_at_once_inherits_nothing(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])
    store.begin_life(1 << 40)
    script = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(3, 64) \
if os.path.exists(f'/proc/self/fd/{n}')])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        close_fds=False,
        timeout=60,
    )
    assert "queue.db" not in done.stdout


# -------------------------------------------------------------------------------------- the result


def closes_first(store: SqliteStore, talk: Talk) -> None:
    talk.recv()
    store.close()
    talk.send("closed")
    talk.recv()


def is_killed(store: SqliteStore, talk: Talk) -> None:
    talk.recv()
    os.kill(os.getpid(), 9)


def goes_on(store: SqliteStore, talk: Talk) -> None:
    talk.recv()
    for number in range(5):
        store.put("q", [f"parent {number}"])
    talk.send("wrote")
    talk.recv()


@pytest.mark.parametrize("order", [closes_first, is_killed, goes_on])
def test_no_commit_is_lost_whoever_ends_first(
    database: str, order: Callable[[SqliteStore, Talk], None]
) -> None:
    for number in range(10):
        lose_nothing(f"{database}.{number}", order)


def lose_nothing(database: str, order: Callable[[SqliteStore, Talk], None]) -> None:
    ours, theirs = Pipe()

    def parent(talk: Talk) -> None:
        store = SqliteStore(database)
        store.put("q", ["first"])

        def child(_: Talk) -> None:
            for half in ("a", "b"):
                for number in range(5):
                    store.put("q", [f"child {half}{number}"])
                theirs.send("half done")
                theirs.recv()
            store.close()

        Child(child)
        order(store, talk)

    process = Child(parent)
    assert ours.poll(20)
    ours.recv()
    process.say("now")
    if order is is_killed:
        process.wait()
    else:
        process.hear()
    Child(lambda talk: one_shot(database, "third")).ends_well()
    ours.send("go on")
    assert ours.poll(20)
    ours.recv()
    Child(lambda talk: one_shot(database, "fourth")).ends_well()
    ours.send("end")
    process.close()
    expected = ["first", "third", "fourth"]
    expected += [f"child {half}{number}" for half in ("a", "b") for number in range(5)]
    if order is goes_on:
        expected += [f"parent {number}" for number in range(5)]
    assert sorted(bodies(database)) == sorted(expected)


def test_children_and_their_parent_write_side_by_side(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])

    def write(talk: Talk) -> None:
        for _ in range(30):
            store.put("q", ["x"])

    children = [Child(write) for _ in range(4)]
    for _ in range(30):
        store.put("q", ["x"])
    for child in children:
        child.ends_well()
    assert len(bodies(database)) == 151


# ---------------------------------------------------------------- a thread in the way of the fork


def in_transaction(store: SqliteStore) -> tuple[threading.Thread, threading.Event]:
    """Start a thread that is inside a write transaction until the event is set."""
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with store.connection.writing() as db:
            db.execute("insert into queue(name) values ('of the thread')")
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(10)
    return thread, leave


def refusals(stores: list[SqliteStore]) -> list[str]:
    """Use each store twice and name what it raises."""
    found = []
    for store in stores:
        for use in (lambda store=store: store.put("q", ["lost"]), store.queues):
            try:
                use()
                found.append("nothing")
            except StoreError as error:
                found.append(type(error).__name__)
    return found


def test_a_child_forked_in_the_middle_of_a_threads_transaction_may_not_use_the_file(
    database: str,
) -> None:
    """Nor may its children, by old handles or new ones; the parent goes on unharmed."""

    def parent(talk: Talk) -> None:
        forks.HOOK_SECONDS = 0.3  # type: ignore[misc]
        faults: list[object] = []
        sys.unraisablehook = faults.append
        store, other = SqliteStore(database), SqliteStore(database + ".other")
        second = SqliteStore(database)
        second.queues()
        thread, leave = in_transaction(store)
        begun = time.monotonic()

        def child(inner: Talk) -> None:
            assert refusals([store, second, SqliteStore(database)]) == ["ForkUnsafe"] * 6
            grandchild = Child(
                lambda _: (
                    refusals([store, second, SqliteStore(database)]) == ["ForkUnsafe"] * 6
                    or os._exit(3)
                )
            )
            grandchild.ends_well()
            other.put("q", ["from the child"])
            inner.send("refused")

        process = Child(child)
        talk.send(time.monotonic() - begun)
        assert process.hear() == "refused"
        process.ends_well()
        leave.set()
        thread.join(10)
        store.put("q", ["from the parent"])
        second.put("q", ["from its other handle"])
        Child(lambda _: store.put("q", ["from a later child"])).ends_well()
        store.put("q", ["still here"])
        talk.send([str(fault) for fault in faults])
        store.close()
        second.close()

    process = Child(parent)
    assert process.hear() < 1.5, "the wait of the hook is bounded"
    assert process.hear() == []
    process.ends_well()
    assert bodies(database)[:2] == ["from the parent", "from its other handle"]
    assert bodies(database)[-1] == "still here"
    assert bodies(database + ".other") == ["from the child"]


def test_the_wait_of_the_hook_does_not_grow_with_the_handles(database: str) -> None:
    def parent(talk: Talk) -> None:
        forks.HOOK_SECONDS = 0.3  # type: ignore[misc]
        stores = [SqliteStore(database) for _ in range(10)]
        for store in stores:
            store.queues()
        _, leave = in_transaction(stores[0])
        begun = time.monotonic()
        Child(lambda _: None).ends_well()
        talk.send(time.monotonic() - begun)
        leave.set()

    process = Child(parent)
    assert process.hear() < 1.5
    process.ends_well()


def test_a_fork_while_a_thread_opens_the_file_is_as_unsafe(database: str) -> None:
    def parent(talk: Talk) -> None:
        forks.HOOK_SECONDS = 0.2  # type: ignore[misc]
        opening, go_on = threading.Event(), threading.Event()

        class Slow(Connection):
            def _connect(self):  # type: ignore[no-untyped-def]
                db = super()._connect()
                db.execute("select count(*) from message").fetchone()
                opening.set()
                go_on.wait(30)
                return db

        slow = SqliteStore(database)
        slow.connection = Slow(database)
        thread = threading.Thread(target=slow.queues)
        thread.start()
        assert opening.wait(10)

        def child(_: Talk) -> None:
            assert refusals([slow, SqliteStore(database)]) == ["ForkUnsafe"] * 4

        Child(child).ends_well()
        go_on.set()
        thread.join(10)
        slow.put("q", ["from the parent"])

    Child(parent).ends_well()
    assert bodies(database) == ["from the parent"]


def test_what_was_refused_is_told_and_not_raised_in_the_hook(database: str) -> None:
    def parent(talk: Talk) -> None:
        forks.HOOK_SECONDS = 0.2  # type: ignore[misc]
        store = SqliteStore(database)
        store.queues()
        _, leave = in_transaction(store)

        def child(_: Talk) -> None:
            with pytest.raises(ForkUnsafe, match="forked while"):
                store.put("q", ["x"])

        Child(child).ends_well()
        leave.set()

    Child(parent).ends_well()


def test_two_threads_may_fork_at_once(database: str) -> None:
    def parent(talk: Talk) -> None:
        store = SqliteStore(database)
        store.put("q", ["x"])
        statuses: list[int] = []

        def fork_often() -> None:
            for _ in range(25):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    with suppress(BaseException):
                        store.put("q", ["x"])
                        status = 0
                    os._exit(status)
                statuses.append(os.waitpid(pid, 0)[1])

        threads = [threading.Thread(target=fork_often) for _ in range(3)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        store.put("q", ["x"])
        talk.send((statuses, time.monotonic() - begun))

    process = Child(parent)
    statuses, seconds = process.hear(60)
    assert statuses == [0] * 75
    assert seconds < 20
    process.ends_well()
    assert len(bodies(database)) == 77


def test_a_fork_waits_for_a_thread_that_is_about_to_commit(database: str) -> None:
    def parent(talk: Talk) -> None:
        store = SqliteStore(database)
        thread, leave = in_transaction(store)
        threading.Timer(0.1, leave.set).start()
        Child(lambda _: store.put("q", ["child"])).ends_well()
        thread.join(10)
        store.put("q", ["parent"])

    Child(parent).ends_well()
    assert bodies(database) == ["child", "parent"]


# ------------------------------------------------------------------------------------------ queues


@pytest.mark.parametrize("persistent", [False, True])
def test_a_queue_in_a_forked_child_opens_its_own(database: str, persistent: bool) -> None:
    queue = Queue("q", database, persistent=persistent)
    queue.write("parent")
    Child(lambda talk: queue.write("child")).ends_well()
    queue.write("parent again")
    assert bodies(database) == ["parent", "child", "parent again"]
    queue.close()


def _write(queue: Queue, number: int) -> None:
    queue.write(str(number))


def test_processes_of_multiprocessing_share_a_queue(database: str) -> None:
    queue = Queue("q", database, persistent=True)
    queue.write("parent")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_write, args=(queue, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(bodies(database)) == ["0", "1", "2", "3", "parent"]
    queue.close()


def test_a_child_that_leaves_by_its_own_exit_takes_nothing_from_its_parent(
    store: SqliteStore, database: str
) -> None:
    """With atexit and destructors, as `multiprocessing` does not leave."""
    store.put("q", ["before"])
    pid = os.fork()
    if pid == 0:
        try:
            store.put("q", ["child"])
            forks._close_all()
        finally:
            os._exit(0)
    eventually(lambda: os.waitpid(pid, os.WNOHANG)[0])
    store.put("q", ["after"])
    assert bodies(database) == ["before", "child", "after"]
