"""The guards themselves, where their results alone would not show that one is missing."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection as Talk

from supervised import Site, gone, open_files
from support import Child, eventually

from brokerrun.supervisor.processes import die_with

# Runs in the template just before it forks a worker, which is when the guards have to stand.
AT_FORK = """
    def look():
        supervisor = os.getppid()
        for who, pid in ("supervisor", supervisor), ("template", os.getpid()):
            for name in os.listdir(f"/proc/{pid}/fd"):
                try:
                    note(who, os.readlink(f"/proc/{pid}/fd/{name}"))
                except OSError:
                    pass
        note("threads", len(os.listdir("/proc/self/task")))
        note("fork")

    main = os.getpid()
    os.register_at_fork(before=lambda: os.getpid() == main and look())

    def q(job):
        death = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(death))  # PR_GET_PDEATHSIG
        note("parent", os.getppid(), death.value)
        note("group", os.getpgrp() == os.getpid())
        note("ignored", signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
        note("blocked", len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
"""


def test_the_supervisor_guards_the_file_before_the_first_worker_is_forked(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={"processes": 2})
    site.start()
    notes = site.notes()
    before_the_first = notes[: notes.index("fork")]
    assert f"supervisor {site.database}" in before_the_first
    # A connection that read no table guards nothing; one that did has the log open.
    assert f"supervisor {site.database}-wal" in before_the_first


def test_the_one_that_forks_never_has_the_store_open_and_has_one_thread(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={"processes": 2})
    site.start()
    for n in range(4):
        pid = site.pids()[0]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(site.pids()) == 2 and pid not in site.pids())  # noqa: B023
        site.write("q", f"m{n}")
    assert site.notes().count("fork") >= 6
    # The slots it hands to a worker; they have no lock of its own, and no store.
    assert {note for note in site.notes("template") if ".broker.db" in note} <= {
        f"template {site.database}.default.slots"
    }
    assert set(site.notes("threads")) == {"threads 1"}
    # The slots too are let go, if not before the worker is ready.
    eventually(lambda: not any(".broker.db" in path for path in open_files(site.templates()[0])))


def test_a_worker_shares_all_modules_with_the_one_that_forked_it(site: Site) -> None:
    site.handlers(
        """
        shared = set()
        os.register_at_fork(after_in_child=lambda: shared.update(sys.modules))

        def q(job):
            note("imported", *sorted(set(sys.modules) - shared))
            raise ValueError(job.body)
        """
    )
    site.configure(q={})
    site.start()
    site.write("q", "fails", "finds what that brought with it")
    eventually(lambda: len(site.notes("imported")) == 2)
    assert site.notes("imported") == ["imported"] * 2


def test_a_worker_has_open_what_is_its_own_and_nothing_else(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={"processes": 4})
    site.start()
    os.kill(site.pids()[0], signal.SIGKILL)  # one that is forked later must not have more
    eventually(lambda: len(site.pids()) == 4 and all(r["state"] == "idle" for r in site.workers()))
    site.write("q", *[f"m{n}" for n in range(40)])
    site.empty("q")
    database = [f"{site.database}{suffix}" for suffix in ("", "-shm", ".lock", ".default.slots")]
    expected = Counter(
        {
            **dict.fromkeys(database, 1),
            f"{site.database}-wal": 2,  # SQLite's, and the one that is flushed
            "/dev/null": 1,
            str(site.folder / "log"): 2,
            "anon_inode:inotify": 1,
            "/memfd:dump (deleted)": 1,
            "pipe": 2,
            "socket": 1,
        }
    )
    sockets: Counter[str] = Counter()
    for pid in site.pids():
        eventually(lambda: "anon_inode:inotify" in open_files(pid))  # noqa: B023
        found = open_files(pid)
        sockets.update(path for path in found if path.startswith("socket:"))
        assert Counter(path.partition(":[")[0] for path in found) == expected
    assert set(sockets.values()) == {1}  # nobody has another one's channel


def test_only_the_supervisor_has_the_lock_of_the_slots(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={"processes": 2})
    process = site.start()
    assert "FLOCK" in _locks(process.pid, f"{site.database}.default.slots")
    for child in site.children():
        assert not _locks(child.pid, f"{site.database}.default.slots")


def _locks(pid: int, path: str) -> str:
    """Show the locks that lie on a process's own openings of a file."""
    found = ""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{name}") == path:
                with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                    found += "".join(line for line in file if line.startswith("lock:"))
    return found


def test_a_worker_is_its_supervisors_child_and_dies_with_it_and_hears_signals(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={})
    process = site.start()
    site.write("q", "m")
    site.noted(f"parent {process.pid} {signal.SIGKILL.value}")
    site.noted("group True")
    site.noted("ignored False")
    site.noted("blocked 0")


def test_who_was_forked_for_a_supervisor_that_is_gone_leaves_at_once() -> None:
    def be_supervisor(talk: Talk) -> None:
        first, between = os.getpid(), os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork() == 0:
                eventually(lambda: os.getppid() not in (first, between))
                began = time.monotonic()
                talk.send((die_with(first, after=between), time.monotonic() - began))
            os._exit(0)
        os.waitpid(between, 0)

    (belongs, seconds) = Child(be_supervisor).hear()
    assert not belongs
    assert seconds < 1


def test_templates_and_workers_are_gone_with_a_supervisor_that_was_killed(site: Site) -> None:
    site.handlers(AT_FORK)
    site.configure(q={"processes": 3})
    process = site.start()
    pids = [child.pid for child in site.children()]
    assert len(pids) == 4
    process.kill()
    eventually(gone(pids), 1)


def test_a_worker_waits_for_the_go_before_it_claims(site: Site) -> None:
    """The supervisor is stopped while workers boot: none of them may take a message."""
    site.handlers("""
        def slowly():
            note("forked", os.getpid())
            if os.path.exists(HERE + "/slow"):
                time.sleep(0.2)

        os.register_at_fork(after_in_child=slowly)

        def q(job):
            note("done")
        """)
    site.configure(q={})
    site.start()
    site.release("slow")
    known = len(site.notes("forked"))
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: len(site.notes("forked")) == known + 2)
    site.halt(site.supervisor.pid)
    worker = int(site.notes("forked")[-1].split()[1])
    eventually(lambda: any(path.endswith(".lock") for path in open_files(worker)))
    site.write("q", "m")
    eventually(lambda: _idle_for_long(worker))
    assert site.notes("done") == []
    assert [m.attempts for m in site.there("q")] == [0]
    site.supervisor.send_signal(signal.SIGCONT)
    site.noted("done")


def _idle_for_long(pid: int) -> bool:
    """Tell whether it has slept without a turn of the processor for a while."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        turns = int(file.read().split()[2])
    last = _turns.setdefault(pid, [turns])
    last.append(turns)
    return len(last) > 100 and len(set(last[-100:])) == 1


_turns: dict[int, list[int]] = {}


def test_no_worker_is_forked_with_signals_that_it_cannot_hear(site: Site) -> None:
    """A TERM that comes between the fork and the worker's handlers waits, and is heard then."""
    site.handlers("""
        def slowly():
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            note("forked", os.getpid(), signal.SIGTERM in blocked)
            if os.path.exists(HERE + "/slow"):
                time.sleep(0.2)

        os.register_at_fork(after_in_child=slowly)

        def q(job):
            note("done")
        """)
    site.configure(q={})
    site.start()
    assert {line.split()[2] for line in site.notes("forked")} == {"True"}
    site.release("slow")
    known = len(site.notes("forked"))
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: len(site.notes("forked")) == known + 2)
    worker = int(site.notes("forked")[-1].split()[1])
    os.kill(worker, signal.SIGTERM)
    (site.folder / "slow").unlink()
    eventually(gone([worker]), 3)
    site.write("q", "m")
    site.noted("done")


def test_the_engine_is_there_before_the_first_line_of_user_code(site: Site) -> None:
    # By then it may be a user who cannot read ours, and a module of that folder may hide another.
    (site.folder / "sqlite3.py").write_text("raise ImportError('not that one')\n")
    site.handlers("def q(job):\n    note('done', job.body)\n")
    site.configure(q={})
    site.write("q", "m")
    site.start(ready=False, PYTHONSAFEPATH="1")
    site.noted("done m", 10)
    assert site.stop() == 0
