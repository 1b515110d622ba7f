"""The connection to the file: how the file comes to be, what is refused, and what is never lost."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from support import Child, eventually

from brokerrun.core.backends.sqlite.birth import APPLICATION_ID
from brokerrun.core.backends.sqlite.runner import Connection
from brokerrun.core.backends.sqlite.store import SqliteStore
from brokerrun.core.model import Selection
from brokerrun.errors import StoreBusy, StoreError, StoreGone, StoreMissing, StoreRefused

EVERY = Selection(limit=None)


@pytest.fixture
def store(database: str) -> Iterator[SqliteStore]:
    store = SqliteStore(database)
    yield store
    store.close()


def one_shot(database: str, body: str = "x") -> None:
    """Do what a command does: open, write one message, close."""
    store = SqliteStore(database)
    store.put("q", [body])
    store.close()


def bodies(database: str) -> list[str]:
    store = SqliteStore(database)
    found = [message.body for message in store.look("q", EVERY)]
    store.close()
    return found


def folder_of(database: str) -> dict[str, bytes]:
    """Read a folder's files; never that of a database which this process has open."""
    place = Path(database).parent
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


# ------------------------------------------------------------------------------------ the files


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_every_file_is_the_owners_alone(database: str, mask: int) -> None:
    with umask(mask):
        store = SqliteStore(database)
        store.put("q", ["x"])
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(database).parent.iterdir()
        }
        store.close()
    names = ["queue.db", "queue.db-shm", "queue.db-wal", "queue.db.lock"]
    assert modes == dict.fromkeys(names, 0o600)


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_every_file_is_the_owners_alone_from_the_first_byte(database: str, mask: int) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from brokerrun.core.backends.sqlite.store import SqliteStore\n"
        f"database = {database!r}\n"
        f"os.umask({mask})\n"
        "def look(frame, event, arg):\n"
        "    for path in Path(database).parent.iterdir():\n"
        "        try:\n"
        "            assert path.stat().st_mode & 0o777 == 0o600, path\n"
        "        except FileNotFoundError:\n"
        "            pass\n"
        "    return look\n"
        "sys.settrace(look)\n"
        "sys.setprofile(look)\n"
        "SqliteStore(database).put('q', ['x'])\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("use", ["write", "look", "take"])
def test_a_single_use_leaves_the_database_and_an_empty_lock_file(database: str, use: str) -> None:
    store = SqliteStore(database)
    if use == "write":
        store.put("q", ["x"])
    elif use == "look":
        store.look("q", EVERY)
    else:
        store.take("q", EVERY)
    store.close()
    left = folder_of(database)
    assert sorted(left) == ["queue.db", "queue.db.lock"]
    assert left["queue.db.lock"] == b""


def test_a_file_of_no_bytes_counts_as_none(database: str) -> None:
    Path(database).touch()
    with pytest.raises(StoreMissing):
        SqliteStore(database, create=False).look("q", EVERY)
    one_shot(database)
    assert bodies(database) == ["x"]


def test_where_none_is_asked_for_none_is_made(database: str) -> None:
    with pytest.raises(StoreMissing, match=re.escape(database)):
        SqliteStore(database, create=False).put("q", ["x"])
    assert folder_of(database) == {}


def test_a_store_is_the_same_through_a_link(database: str) -> None:
    one_shot(database, "a")
    link = database + ".link"
    os.symlink(database, link)
    one_shot(link, "b")
    assert bodies(database) == ["a", "b"]
    assert sorted(folder_of(database)) == ["queue.db", "queue.db.link", "queue.db.lock"]


# --------------------------------------------------------------------------------- what is refused


def a_foreign_database(path: str) -> None:
    db = sqlite3.connect(path)
    db.executescript("create table theirs(x); insert into theirs values (1)")
    db.close()


def a_foreign_database_with_a_log(path: str) -> None:
    def die_with_a_log(talk: Talk) -> None:
        db = sqlite3.connect(path)
        db.executescript("pragma journal_mode = wal; create table theirs(x)")
        os._exit(0)

    Child(die_with_a_log).ends_well()
    assert Path(path + "-wal").stat().st_size > 0


def a_text(path: str) -> None:
    Path(path).write_text("dear diary\n" * 100)


def a_few_bytes(path: str) -> None:
    Path(path).write_bytes(b"SQLite format 3\0")


def a_damaged_header(path: str) -> None:
    one_shot(path)
    overwrite(path, 0, b"\xff" * 40)


def a_newer_version(path: str) -> None:
    one_shot(path)
    overwrite(path, 60, (99).to_bytes(4, "big"))


def a_header_and_no_more(path: str) -> None:
    one_shot(path)
    os.truncate(path, 100)


def overwrite(path: str, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


STRANGERS: list[Callable[[str], None]] = [
    a_foreign_database,
    a_foreign_database_with_a_log,
    a_text,
    a_few_bytes,
    a_damaged_header,
    a_newer_version,
    a_header_and_no_more,
]


@pytest.mark.parametrize("make", STRANGERS)
def test_a_stranger_is_refused_in_one_sentence_and_left_as_it_was(
    database: str, make: Callable[[str], None]
) -> None:
    make(database)
    Path(database + ".lock").unlink(missing_ok=True)
    before = folder_of(database)
    begun = time.monotonic()
    with pytest.raises(StoreRefused) as refused:
        SqliteStore(database).put("q", ["x"])
    assert time.monotonic() - begun < 1
    assert str(refused.value).startswith(f"{database}: ")
    assert "\n" not in str(refused.value)
    assert folder_of(database) == before


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(database: str, make: Callable[[str], None]) -> None:
    make(database)
    begun = time.monotonic()
    with pytest.raises(StoreRefused, match="not a file"):
        SqliteStore(database).put("q", ["x"])
    assert time.monotonic() - begun < 1
    assert os.listdir(Path(database).parent) == ["queue.db"]


def test_an_old_sqlite_is_refused_by_its_version(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"SQLite .* is too old: brokerrun needs 3\.35\.0"):
        SqliteStore(database).put("q", ["x"])
    assert not os.path.exists(database)


def test_a_folder_that_is_not_there_is_named(database: str) -> None:
    with pytest.raises(StoreError, match="No such file"):
        SqliteStore(f"{database}/none/queue.db").put("q", ["x"])


@pytest.mark.parametrize("offset", range(100))
def test_a_header_with_one_wrong_byte_is_refused_unchanged_or_does_no_harm(
    database: str, offset: int, born: bytes
) -> None:
    damaged = bytearray(born)
    damaged[offset] ^= 0xFF
    Path(database).write_bytes(damaged)
    before = folder_of(database)
    try:
        one_shot(database, "after")
    except StoreError as refused:
        assert "\n" not in str(refused)  # noqa: PT017
        assert folder_of(database)["queue.db"] == before["queue.db"]
    else:
        assert bodies(database) == ["before", "after"]


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    database = tmp_path_factory.mktemp("born") / "queue.db"
    one_shot(str(database), "before")
    return database.read_bytes()


def test_damage_inside_is_refused_by_name(database: str) -> None:
    for number in range(50):
        one_shot(database, f"{number}" * 200)
    size = os.path.getsize(database)
    overwrite(database, 4096, b"\xa5" * (size - 4096))
    begun = time.monotonic()
    with pytest.raises(StoreRefused, match=r"damaged|not a brokerrun database"):
        SqliteStore(database).put("q", ["x"])
    assert time.monotonic() - begun < 1


# ------------------------------------------------------------------------------------------ birth


def dies_at(limit: int, work: Callable[[], None]) -> int:
    """Do the work in a child that the kernel kills where a file would grow beyond *limit*."""

    def limited(talk: Talk) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        work()

    return Child(limited).wait()


@pytest.mark.parametrize("exists", [False, True])
def test_a_kill_at_any_write_of_the_birth_leaves_a_path_that_can_be_used(
    tmp_path: Path, exists: bool
) -> None:
    limits = [0, 100, 512, *range(4096, 30 * 4096, 4096)]
    killed = []
    for limit in limits:
        database = str(tmp_path / f"{limit}.db")
        if exists:
            Path(database).touch()
        killed.append(dies_at(limit, lambda database=database: one_shot(database)))
        one_shot(database, "after")
        assert bodies(database)[-1] == "after", limit
        db = sqlite3.connect(database)
        assert db.execute("pragma auto_vacuum").fetchone() == (2,), limit
        assert db.execute("pragma application_id").fetchone() == (APPLICATION_ID,), limit
        db.close()
    assert killed[0] == -signal.SIGXFSZ
    assert killed.count(-signal.SIGXFSZ) >= 10
    assert killed[-1] == 0, "the last limit is beyond the birth"


def test_many_processes_may_make_one_database(database: str) -> None:
    def write(talk: Talk) -> None:
        talk.recv()
        one_shot(database)

    writers = [Child(write) for _ in range(16)]
    for writer in writers:
        writer.say("go")
    for writer in writers:
        writer.ends_well()
    assert bodies(database) == ["x"] * 16


# --------------------------------------------------------------------------- the file is the file


def unlink(database: str) -> None:
    os.unlink(database)


def unlink_all(database: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        os.unlink(database + suffix)


def rename(database: str) -> None:
    os.rename(database, database + ".old")


def replace(database: str) -> None:
    shutil.rmtree(database + ".new", ignore_errors=True)
    Path(database + ".new").write_bytes(b"")
    os.replace(database + ".new", database)


def unlink_log(database: str) -> None:
    os.unlink(database + "-wal")


def replace_log(database: str) -> None:
    os.unlink(database + "-wal")
    Path(database + "-wal").touch()


LOSSES = [unlink, unlink_all, rename, replace, unlink_log, replace_log]


@pytest.mark.parametrize("lose", LOSSES)
def test_nothing_is_written_into_a_file_that_is_gone(
    store: SqliteStore, database: str, lose: Callable[[str], None]
) -> None:
    store.put("q", ["before"])
    lose(database)
    for _ in range(3):
        with pytest.raises(StoreGone, match=re.escape(database)):
            store.put("q", ["after"])


def test_a_waiter_is_told_that_the_file_is_gone(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])

    def listen(talk: Talk) -> None:
        store.take("q", EVERY)
        talk.send("waits")
        with pytest.raises(StoreGone):
            wait_and_take(store)

    child = Child(listen)
    child.hear()
    unlink_all(database)
    one_shot(database)
    child.ends_well(within=10)


def wait_and_take(store: SqliteStore) -> None:
    while True:
        store.wait(["q"], 20)
        store.take("q", EVERY)


def test_to_close_what_is_gone_takes_nothing_from_the_new_database(database: str) -> None:
    def hold_on(talk: Talk) -> None:
        old = SqliteStore(database)
        old.put("q", ["old"])
        talk.send("holds")
        talk.recv()
        old.close()

    child = Child(hold_on)
    child.hear()
    unlink_all(database)
    new = SqliteStore(database)
    new.put("q", ["new"])
    child.say("close")
    child.ends_well()
    new.put("q", ["newer"])
    assert os.path.exists(database + "-wal")
    assert [message.body for message in new.look("q", EVERY)] == ["new", "newer"]
    new.close()
    assert bodies(database) == ["new", "newer"]


def test_to_close_what_lost_its_log_takes_nothing_from_the_new_log(database: str) -> None:
    def hold_on(talk: Talk) -> None:
        old = SqliteStore(database)
        old.put("q", ["old"])
        talk.send("holds")
        talk.recv()
        old.close()

    def write_and_stay(talk: Talk) -> None:
        store = SqliteStore(database)
        store.put("q", ["new"])
        talk.send("stays")
        talk.recv()

    one_shot(database, "before")
    child = Child(hold_on)
    child.hear()
    os.unlink(database + "-wal")
    os.unlink(database + "-shm")
    other = Child(write_and_stay)
    other.hear()
    other.kill()
    child.say("close")
    child.ends_well()
    assert bodies(database) == ["before", "new"]


# ------------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("pages", [0, 1, 20, 100])
def test_a_kill_in_the_middle_of_a_checkpoint_loses_nothing(database: str, pages: int) -> None:
    """The kernel kills it where the database grows: the header counts more than is there."""
    body = "x" * 100_000
    for _ in range(20):
        one_shot(database, body)

    def write_and_checkpoint() -> None:
        store = SqliteStore(database)
        store.put("q", [body] * 10)
        store.connection.checkpoint(0)

    limit = os.path.getsize(database) + pages * 4096
    assert dies_at(limit, write_and_checkpoint) == -signal.SIGXFSZ
    assert bodies(database) == [body] * 30
    db = sqlite3.connect(database)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    db.close()


def test_the_log_stays_bounded_where_one_process_writes_much(
    store: SqliteStore, database: str
) -> None:
    body, largest = "x" * 1_000_000, 0
    for number in range(60):
        [ident] = store.put("q", [body])
        if number % 2:
            store.delete("q", ident)
        largest = max(largest, os.stat(database + "-wal").st_size)
    assert largest < 16 * 1024 * 1024
    assert len(store.look("q", EVERY)) == 30


def test_upkeep_copies_a_long_log_and_the_next_writer_begins_a_short_one(
    store: SqliteStore, database: str
) -> None:
    store.attend()
    store.put("q", ["x" * 6_000_000])
    assert os.stat(database + "-wal").st_size > 6_000_000
    store.upkeep(history_before=0)
    store.put("q", ["y"])
    assert os.stat(database + "-wal").st_size < 4_000_000  # what it keeps is written over


def test_who_is_attended_leaves_the_checkpoints_to_the_supervisor(
    store: SqliteStore, database: str
) -> None:
    def supervise(talk: Talk) -> None:
        mine = SqliteStore(database)
        mine.queues()
        mine.attend()
        talk.send("attends")
        talk.recv()

    child = Child(supervise)
    child.hear()
    for _ in range(8):
        store.put("q", ["x" * 1_000_000])
    assert os.stat(database + "-wal").st_size > 8_000_000
    child.kill()
    store.put("q", ["x"])
    store.put("q", ["x"])
    assert os.stat(database + "-wal").st_size < 8_000_000


def test_nobody_writes_while_another_checkpoints(store: SqliteStore, database: str) -> None:
    store.put("q", ["x"])
    copying, entered = [], []

    def write(talk: Talk) -> None:
        mine = SqliteStore(database)
        mine.queues()
        talk.send("ready")
        talk.recv()
        mine.put("q", ["y"])
        talk.send(time.monotonic())

    child = Child(write)
    child.hear()
    connection = store.connection
    copy_log = connection._copy_log

    def slow_copy() -> bool:
        child.say("go")
        eventually(lambda: second_lock_is_awaited(database))
        entered.append(child._talk.poll(0.1))
        done = copy_log()
        copying.append(time.monotonic())
        return done

    connection._copy_log = slow_copy  # type: ignore[method-assign]
    connection.checkpoint(0)
    assert entered == [False]
    assert child.hear() > copying[0]


def second_lock_is_awaited(database: str) -> bool:
    """Tell whether a process stands in the turnstile: it holds the flock of the lock file."""
    inode = os.stat(database + ".lock").st_ino
    with open("/proc/locks", encoding="ascii") as locks:
        return any("FLOCK" in line and f":{inode} " in line for line in locks)


# ------------------------------------------------------------------------------------------ flush


def test_a_flush_that_fails_is_told_and_made_good_before_the_next_write(
    store: SqliteStore, database: str
) -> None:
    store.put("q", ["before"])
    connection = store.connection
    log = connection._wal
    reader, connection._wal = os.pipe()  # fdatasync of a pipe: EINVAL
    try:
        with pytest.raises(StoreError, match="unknown"):
            store.put("q", ["doubtful"])
    finally:
        os.close(connection._wal)
        os.close(reader)
        connection._wal = log
    epoch = log_epoch(database)
    assert "doubtful" not in bytes_of_main(database)
    store.put("q", ["after"])
    assert "doubtful" in bytes_of_main(database)
    assert log_epoch(database) == epoch + 1, "frames behind doubtful ones may never be found"
    assert [m.body for m in store.look("q", EVERY)] == ["before", "doubtful", "after"]


def test_while_a_reader_keeps_a_doubtful_log_nothing_more_is_promised(
    store: SqliteStore, database: str
) -> None:
    store.put("q", ["before"])

    def read(talk: Talk) -> None:
        mine = Connection(database)
        with mine.looking() as db:
            db.execute("select count(*) from message").fetchone()
            talk.send("reads")
            talk.recv()

    child = Child(read)
    child.hear()
    store.put("q", ["more"])
    store.connection._doubt = True
    with pytest.raises(StoreBusy, match="flush"):
        store.put("q", ["after"])
    child.say("done")
    child.ends_well()
    store.put("q", ["after"])
    assert [m.body for m in store.look("q", EVERY)] == ["before", "more", "after"]


def in_another_process(code: str, path: str) -> str:
    """Read a file where it drops no lock of ours."""
    script = f"import sys; content = open(sys.argv[1], 'rb').read(); {code}"
    done = subprocess.run(
        [sys.executable, "-c", script, path], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def log_epoch(database: str) -> int:
    """Return how often the log was begun anew."""
    code = "print(int.from_bytes(content[12:16], 'big'))"
    return int(in_another_process(code, database + "-wal"))


def bytes_of_main(database: str) -> str:
    return in_another_process("print(content.decode('latin1'))", database)


# ---------------------------------------------------------------------------------- transactions


def test_what_raises_inside_a_write_leaves_nothing(store: SqliteStore) -> None:
    store.put("q", ["x"])

    def delete_and_fail() -> None:
        with store.connection.writing() as db:
            db.execute("delete from message")
            raise KeyError

    with pytest.raises(KeyError):
        delete_and_fail()
    assert len(store.look("q", EVERY)) == 1
    store.put("q", ["y"])


def test_a_lock_of_a_stranger_is_waited_for_and_then_named(database: str) -> None:
    one_shot(database)
    store = SqliteStore(database)
    store.connection.busy_timeout = 0.2
    store.queues()

    def hold(talk: Talk) -> None:
        db = sqlite3.connect(database, isolation_level=None)
        db.execute("begin immediate")
        talk.send("holds")
        talk.recv()

    child = Child(hold)
    child.hear()
    with pytest.raises(StoreBusy, match=re.escape(database)):
        store.put("q", ["y"])
    child.kill()
    store.put("q", ["z"])
    assert [message.body for message in store.look("q", EVERY)] == ["x", "z"]
    store.close()
