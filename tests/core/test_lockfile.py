"""The turnstile and the lives of owners, between real processes."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from support import Child, eventually

from brokerrun.core.backends import open_store
from brokerrun.core.backends.sqlite.lockfile import Lockfile, lockfile_of
from brokerrun.core.backends.sqlite.runner import Connection
from brokerrun.core.broker import Broker
from brokerrun.core.owners import new_guardian
from brokerrun.errors import StoreBusy, StoreError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db.lock")


@pytest.fixture
def lockfile(path: str) -> Iterator[Lockfile]:
    """Give the lock file of this process; children make their own."""
    lockfile = Lockfile(path, path.removesuffix(".lock"))
    yield lockfile
    lockfile.forget()


def another(lockfile: Lockfile) -> Lockfile:
    return Lockfile(lockfile.path, lockfile.database)


def insider(lockfile: Lockfile) -> Child:
    """Start a process that stays inside the turnstile until it is told to leave."""

    def stay(talk: Talk) -> None:
        mine = another(lockfile)
        mine.enter(10)
        talk.send("inside")
        talk.recv()
        mine.leave()
        talk.send("left")
        talk.recv()

    child = Child(stay)
    assert child.hear() == "inside"
    return child


def owner(lockfile: Lockfile, number: int) -> Child:
    def live(talk: Talk) -> None:
        another(lockfile).begin_life(number)
        talk.send("lives")
        talk.recv()

    child = Child(live)
    child.hear()
    return child


def first_lock_is_held(path: str) -> bool:
    """Tell whether somebody waits in the turnstile, or passes it."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


# ----------------------------------------------------------------------------------- the turnstile


def test_while_one_process_is_inside_another_is_not(lockfile: Lockfile) -> None:
    child = insider(lockfile)
    with pytest.raises(StoreBusy):
        lockfile.enter(0.1)
    child.say("leave")
    assert child.hear() == "left"
    lockfile.enter(0.1)
    lockfile.leave()


def test_processes_that_count_together_lose_nothing(lockfile: Lockfile, tmp_path: Path) -> None:
    shared = tmp_path / "count"
    shared.write_text("0")

    def count(talk: Talk) -> None:
        mine = another(lockfile)
        talk.recv()
        for _ in range(200):
            mine.enter(20)
            number = int(shared.read_text())
            os.sched_yield()
            shared.write_text(str(number + 1))
            mine.leave()

    children = [Child(count) for _ in range(4)]
    for child in children:
        child.say("go")
    for child in children:
        child.ends_well()
    assert shared.read_text() == "800"


def test_threads_of_one_process_are_not_inside_together(lockfile: Lockfile) -> None:
    inside, most = 0, 0

    def pass_through() -> None:
        nonlocal inside, most
        for _ in range(100):
            lockfile.enter(20)
            inside += 1
            most = max(most, inside)
            time.sleep(0)
            inside -= 1
            lockfile.leave()

    threads = [threading.Thread(target=pass_through) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_threads_that_meet_a_database_for_the_first_time_leave_no_lock(path: str) -> None:
    for _ in range(100):
        mine = Lockfile(path, path.removesuffix(".lock"))
        barrier = threading.Barrier(6)

        def live(lockfile: Lockfile, barrier: threading.Barrier) -> None:
            owner = new_guardian()
            barrier.wait()
            lockfile.begin_life(owner)
            lockfile.end_life(owner)

        def pass_through(lockfile: Lockfile, barrier: threading.Barrier) -> None:
            barrier.wait()
            lockfile.enter(5)
            lockfile.leave()

        both = [live, pass_through] * 3
        threads = [threading.Thread(target=each, args=(mine, barrier)) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        theirs = another(mine)
        theirs.enter(0.5)
        theirs.leave()


def test_two_names_of_one_database_are_one_turnstile(tmp_path: Path) -> None:
    (tmp_path / "queue.db").touch()
    os.symlink(tmp_path / "queue.db", tmp_path / "link.db")
    assert lockfile_of(str(tmp_path / "queue.db")) is lockfile_of(str(tmp_path / "link.db"))


@pytest.mark.parametrize("place", ["inside", "at the second lock"])
def test_who_stops_in_the_turnstile_keeps_others_only_until_their_timeout(
    lockfile: Lockfile, place: str
) -> None:
    child = insider(lockfile)
    stopped = child
    if place == "at the second lock":
        stopped = waiter(lockfile, "never")
        eventually(lambda: first_lock_is_held(lockfile.path))
    stopped.kill(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(StoreBusy, match=r"0\.2 s"):
        lockfile.enter(0.2)
    assert 0.15 < time.monotonic() - begun < 2
    assert not lockfile.mutex.locked()
    stopped.kill(signal.SIGCONT)


def test_a_thread_that_stays_inside_keeps_others_only_until_their_timeout(
    lockfile: Lockfile,
) -> None:
    lockfile.enter(1)
    with pytest.raises(StoreBusy):
        lockfile.enter(0.05)
    lockfile.leave()
    lockfile.enter(0.05)
    lockfile.leave()


def test_a_fork_is_kept_only_until_its_deadline_by_all_threads_together(
    lockfile: Lockfile,
) -> None:
    began = time.monotonic()
    with lockfile.mutex, lockfile._opening:
        threading.Timer(0.3, lockfile.mutex.release).start()
        assert not lockfile.hold(began + 0.4)
        assert 0.4 <= time.monotonic() - began < 0.6
        assert lockfile.mutex.acquire(timeout=1)


def test_who_is_killed_inside_lets_the_next_one_in(lockfile: Lockfile) -> None:
    child = insider(lockfile)
    child.kill()
    lockfile.enter(1)
    lockfile.leave()


def waiter(lockfile: Lockfile, mark: str) -> Child:
    """Start a process that waits for the turnstile, passes, and leaves a mark."""

    def wait(talk: Talk) -> None:
        mine = another(lockfile)
        mine.enter(20)
        Path(mark).touch()
        mine.leave()

    return Child(wait)


def test_who_lets_go_never_passes_the_one_that_waits(lockfile: Lockfile, tmp_path: Path) -> None:
    for number in range(20):
        mark = tmp_path / str(number)
        lockfile.enter(1)
        child = waiter(lockfile, str(mark))
        eventually(lambda: first_lock_is_held(lockfile.path))
        lockfile.leave()
        lockfile.enter(5)
        assert mark.exists(), f"round {number}: the one that waited was passed"
        lockfile.leave()
        child.ends_well()


def test_a_lock_file_that_was_deleted_keeps_nobody_apart_from_the_new_one(
    lockfile: Lockfile,
) -> None:
    lockfile.enter(1)
    lockfile.leave()
    os.unlink(lockfile.path)
    child = insider(lockfile)
    with pytest.raises(StoreBusy):
        lockfile.enter(0.1)
    child.say("leave")
    child.hear()
    lockfile.enter(1)
    lockfile.leave()


def test_a_lock_file_deleted_while_one_waits_is_noticed_after_the_second_lock(
    lockfile: Lockfile, tmp_path: Path
) -> None:
    """Compared after the first lock only, it would be inside together with who has the new file."""
    lockfile.enter(1)
    mark = tmp_path / "mark"
    child = waiter(lockfile, str(mark))
    eventually(lambda: first_lock_is_held(lockfile.path))
    os.unlink(lockfile.path)
    newcomer = insider(lockfile)
    old = lockfile._fd
    assert old is not None
    lockfile.leave()
    eventually(lambda: waits_at(lockfile.path, child.pid))
    assert not mark.exists()
    newcomer.say("leave")
    child.ends_well()
    assert mark.exists()


def waits_at(path: str, pid: int) -> bool:
    """Tell whether that process has that very file open."""
    ours = os.stat(path)
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            theirs = os.stat(f"/proc/{pid}/fd/{number}")
            if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
                return True
    return False


def test_the_lock_file_is_empty_and_the_owners_alone(lockfile: Lockfile) -> None:
    before = os.umask(0)
    try:
        lockfile.enter(1)
    finally:
        os.umask(before)
    lockfile.leave()
    status = os.stat(lockfile.path)
    assert (status.st_size, status.st_mode & 0o777) == (0, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_lock_file_that_root_makes_belongs_to_the_owner_of_the_database(
    lockfile: Lockfile,
) -> None:
    Path(lockfile.database).touch()
    os.chown(lockfile.database, 12345, 54321)
    lockfile.enter(1)
    lockfile.leave()
    status = os.stat(lockfile.path)
    assert (status.st_uid, status.st_gid) == (12345, 54321)


def test_a_link_in_place_of_the_lock_file_is_not_followed(
    lockfile: Lockfile, tmp_path: Path
) -> None:
    os.symlink(tmp_path / "elsewhere", lockfile.path)
    with pytest.raises(StoreError, match="lock file"):
        lockfile.enter(1)
    assert not (tmp_path / "elsewhere").exists()
    assert not lockfile.mutex.locked()


# -------------------------------------------------------------------------------------- the lives


def test_an_owner_lives_as_long_as_its_process(lockfile: Lockfile) -> None:
    number = new_guardian()
    assert not lockfile.alive(number)
    child = owner(lockfile, number)
    assert lockfile.alive(number)
    assert not lockfile.alive(number + 1)
    assert not lockfile.alive(number - 1)
    child.kill(signal.SIGSTOP)
    assert lockfile.alive(number)
    child.kill()
    assert not lockfile.alive(number)


def test_an_owner_knows_its_own_life_and_can_end_it(lockfile: Lockfile) -> None:
    number = new_guardian()
    other = another(lockfile)
    lockfile.begin_life(number)
    lockfile.begin_life(number)
    assert lockfile.alive(number)
    assert other.alive(number)
    lockfile.end_life(number)
    lockfile.end_life(number)
    assert not lockfile.alive(number)
    assert not other.alive(number)
    other.forget()


def test_to_pass_the_turnstile_is_not_to_die(lockfile: Lockfile) -> None:
    number = new_guardian()
    other = another(lockfile)
    lockfile.begin_life(number)
    lockfile.enter(1)
    lockfile.leave()
    assert other.alive(number)
    other.forget()


def test_a_forked_child_neither_inherits_nor_ends_a_life(tmp_path: Path) -> None:
    database = str(tmp_path / "queue.db")
    mine, number = Connection(database).lockfile, new_guardian()
    mine.begin_life(number)

    def look(talk: Talk) -> None:
        talk.send(mine._fd)
        talk.send(number in mine._owners)
        talk.send(mine.alive(number))  # of the parent
        talk.recv()
        talk.send(mine.alive(number))

    child = Child(look)
    assert child.hear() is None
    assert child.hear() is False
    assert child.hear() is True
    mine.end_life(number)
    child.say("look again")
    assert child.hear() is False
    child.ends_well()
    mine.begin_life(number)
    Child(lambda talk: None).ends_well()
    other = another(mine)
    assert other.alive(number), "the exit of a child ended its parent's life"
    other.forget()


def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(tmp_path: Path) -> None:
    database, number = str(tmp_path / "queue.db"), new_guardian()

    def live_and_fork(talk: Talk) -> None:
        Connection(database).lockfile.begin_life(number)
        Child(lambda inner: inner.recv())
        executed = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
        talk.send(executed.pid)
        talk.recv()

    child = Child(live_and_fork)
    executed = child.hear()
    ours = Lockfile(database + ".lock", database)
    assert ours.alive(number)
    child.kill()
    # The grandchild lets go of its copy in its fork hook, which may run after all of this.
    eventually(lambda: not ours.alive(number), within=2)
    os.kill(executed, signal.SIGKILL)
    ours.forget()


def test_no_other_descriptors_close_ends_a_life(lockfile: Lockfile) -> None:
    number = new_guardian()
    other = another(lockfile)
    lockfile.begin_life(number)
    Path(lockfile.path).read_bytes()
    os.close(os.open(lockfile.path, os.O_RDWR))
    assert other.alive(number)
    other.forget()


def test_a_life_goes_over_to_the_new_lock_file_when_the_old_one_was_deleted(
    lockfile: Lockfile,
) -> None:
    number = new_guardian()
    lockfile.begin_life(number)
    lockfile.attend()
    os.unlink(lockfile.path)
    lockfile.enter(1)
    lockfile.leave()
    other = another(lockfile)
    assert other.alive(number)
    assert other.attended()
    other.forget()


def test_a_thousand_owners_are_asked_in_microseconds_each(lockfile: Lockfile) -> None:
    numbers = [new_guardian() for _ in range(1000)]

    def live(talk: Talk) -> None:
        mine = another(lockfile)
        for number in numbers:
            mine.begin_life(number)
        talk.send("live")
        talk.recv()

    child = Child(live)
    child.hear()
    begun = time.perf_counter()
    assert all(lockfile.alive(number) for number in numbers)
    assert (time.perf_counter() - begun) / 1000 < 500e-6
    child.kill()
    assert not any(lockfile.alive(number) for number in numbers)


def test_supervisors_attend_side_by_side(lockfile: Lockfile) -> None:
    def attend(talk: Talk) -> None:
        another(lockfile).attend()
        talk.send("attends")
        talk.recv()

    assert not lockfile.attended()
    children = [Child(attend) for _ in range(2)]
    for child in children:
        child.hear()
    assert lockfile.attended()
    children[0].kill()
    assert lockfile.attended()
    children[1].kill()
    assert not lockfile.attended()


# ------------------------------------------------------------------------------------ descriptors


def test_a_process_keeps_no_descriptor_of_a_database_that_it_let_go(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        with Broker(str(tmp_path / f"{number}.db")) as broker:
            broker.write("q", "m")
    del broker
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_owner_lives_on_when_all_that_named_its_database_is_gone(tmp_path: Path) -> None:
    path, owner = str(tmp_path / "queue.db"), new_guardian()
    store = open_store(path)
    store.begin_life(owner)
    store.close()
    del store
    gc.collect()

    def ask(talk: Talk) -> None:
        talk.send(open_store(path).alive(owner))

    assert Child(ask).hear() is True
    lockfile_of(path).end_life(owner)
    gc.collect()
    assert Child(ask).hear() is False
