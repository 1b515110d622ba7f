"""What handlers start ends with its worker at the latest, however it tries to escape."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from supervised import Site, gone, lives, says
from support import eventually

from brokerrun.supervisor.processes import is_stopped
from brokerrun.supervisor.strays import owner_mark

# Each way starts a process that is deaf to TERM, and notes its pid.
ESCAPES = """
    def q(job):
        way, _, stay = job.body.partition(" ")
        globals()[way]()
        note("begun", job.body)
        if stay:
            await_file(stay)
        note("done", job.body)

    other = q

    DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"

    def child(**more):
        process = subprocess.Popen([sys.executable, "-c", DEAF], **more)
        note("started", process.pid)

    def session():
        child(start_new_session=True)

    def cleared():
        child(start_new_session=True, env={})

    def forked(name="started"):
        pid = os.fork()
        if pid:
            note(name, pid)
            return
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        os._exit(0)

    def daemon_of(work):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return
        os.setsid()
        work()
        os._exit(0)

    def daemon():
        daemon_of(session)

    def forked_daemon():
        daemon_of(forked)

    def tree():
        code = (
            "import os, subprocess, sys, time; "
            "print(*[subprocess.Popen(['sleep', '60'], start_new_session=True).pid "
            "for _ in range(5)], flush=True); os.setsid(); time.sleep(60)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        for pid in [process.pid, *process.stdout.readline().split()]:
            note("started", pid)
"""
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
WAYS = ["child", "session", "cleared", "forked", "daemon", "forked_daemon", "tree"]


def started(site: Site) -> list[int]:
    return [int(note.split()[1]) for note in site.notes("started")]


def escape(site: Site, *bodies: str, queue: str = "q") -> list[int]:
    """Let handlers start what they start; return its pids."""
    known = len(started(site))
    for body in bodies:
        before = site.notes().count(f"begun {body}")
        site.write(queue, body)
        site.noted(f"begun {body}", times=before + 1)
    found = started(site)[known:]
    assert found
    assert all(map(lives, found))
    return found


def test_what_a_worker_started_is_gone_when_it_is_killed(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={"processes": 1, "prefetch": 1, "crashes": 100, "max_attempts": 1})
    site.start()
    pids = escape(site, *WAYS, "daemon go")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(gone(pids), 2)
    eventually(lambda: len(site.children()) == 2)  # the template and the next worker


def test_what_a_worker_started_is_gone_when_it_is_over_its_timeout(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={"timeout": "500ms", "max_attempts": 1})
    site.start()
    pids = escape(site, *WAYS, "session never")
    eventually(gone(pids), 3)


def test_a_stop_leaves_nothing_that_handlers_started(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={}, other={})
    site.start()
    pids = [*escape(site, *WAYS), *escape(site, *WAYS, queue="other")]
    assert site.stop(within=5) == 0
    assert gone(pids)()
    assert "lives_on" not in site.log()


def test_what_another_worker_started_lives_on(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={}, other={})
    site.start()
    mine = escape(site, *WAYS, queue="q")
    others = escape(site, *WAYS, queue="other")
    os.kill(site.pids("q")[0], signal.SIGKILL)
    eventually(gone(mine), 2)
    assert all(map(lives, others))
    assert site.stop() == 0
    assert gone(others)()


def test_the_next_start_ends_what_a_killed_supervisor_left(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={})
    site.start()
    pids = escape(site, "session", "daemon", "tree")
    site.supervisor.kill()
    site.supervisor.wait()
    assert any(map(lives, pids))
    site.start()
    assert gone(pids)()


def test_a_supervisor_that_a_handler_started_has_its_own(site: Site, tmp_path: Path) -> None:
    """What the outer worker is called does not make the inner ones its strays."""
    inner = Site(tmp_path / "inner")
    inner.folder.mkdir()
    inner.handlers(ESCAPES)
    inner.configure(q={})
    site.handlers(f"""
        def q(job):
            command = [sys.executable, "-m", "brokerrun", "up", "-c", {inner.config!r}]
            child = subprocess.Popen(command, start_new_session=True)
            note("started", child.pid)
    """)
    site.configure(q={})
    site.start()
    site.write("q", "m")
    supervisor = eventually(lambda: started(site), 10)
    eventually(lambda: inner.workers() and inner.workers()[0]["state"] == "idle", 10)
    os.kill(inner.pids()[0], signal.SIGKILL)
    eventually(lambda: inner.workers()[0]["restarts"] == 1, 5)
    inner.write("q", "session")
    inner.noted("begun session")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(gone(supervisor), 3)
    inner.close()


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs unshare")
def test_as_the_first_process_it_reaps_strangers_and_leaves_them_alone(site: Site) -> None:
    site.handlers(ESCAPES)
    site.configure(q={"crashes": 100})
    with open(site.folder / "log", "ab") as log:
        outer = subprocess.Popen(
            [*UNSHARE, sys.executable, "-m", "brokerrun", "up", "-c", site.config],
            stdout=log,
            stderr=log,
            cwd=site.folder,
        )
    try:
        eventually(lambda: site.workers() and site.workers()[0]["state"] == "idle", 20)
        first = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        inside = ["nsenter", "-t", str(first), "-p", "-m"]
        site.write("q", "session", "forked_daemon")
        site.noted("begun forked_daemon")
        eventually(lambda: len(below(first)) == 4, 5)
        worker = str(site.pids()[0])
        os.kill(first, signal.SIGSTOP)  # it hears of the stranger and of the death at once
        eventually(lambda: is_stopped(first))
        subprocess.run([*inside, "sh", "-c", "sleep 77 & sleep 78 & sleep 0.01 &"], check=True)
        # Until it is alone: the shell that starts it is called like its line.
        eventually(lambda: len(below(first, "sleep 77")) == 1, 5)
        (stranger,) = below(first, "sleep 77")
        subprocess.run([*inside, "kill", "-9", worker], check=True)
        eventually(lambda: len(below(first, "brokerrun: q.1")) == 1)  # the forked daemon
        os.kill(first, signal.SIGCONT)
        # The template, the next worker, and the strangers.
        eventually(lambda: site.workers()[0]["restarts"] == 1 and len(below(first)) == 4, 5)
        assert lives(stranger)
        os.kill(stranger, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{stranger}"), 2)  # no zombie either
        os.kill(first, signal.SIGTERM)
        assert outer.wait(10) == 0
        assert "stray_lives_on" not in site.log()
    finally:
        outer.kill()
        outer.wait()


def below(first: int, words: str = "") -> list[int]:
    """List who lives below the first process and has the words in its command line."""
    found = psutil.Process(first).children(recursive=True)
    return [p.pid for p in found if lives(p.pid) and says(p, words)]


def test_a_worker_that_is_started_by_exec_is_no_stray_before_it_says_who_it_is(site: Site) -> None:
    site.handlers("def q(job): ...\n")
    site.handlers("time.sleep(1.5)\n\ndef slow(job): ...\n", module="slow")
    site.configure(instance={"start": "spawn"}, q={}, slow={"handler": "slow:slow"})
    site.start(ready=False)
    eventually(lambda: [row["state"] for row in site.workers("q")] == ["idle"], 10)
    assert [row["state"] for row in site.workers("slow")] == ["booting"]
    assert owner_mark(eventually(lambda: site.pids("slow"))[0]) is not None
    os.kill(site.pids("q")[0], signal.SIGKILL)
    eventually(lambda: [row["restarts"] for row in site.workers("q")] == [1], 10)
    eventually(lambda: [row["state"] for row in site.workers("slow")] == ["idle"], 10)
    assert [row["restarts"] for row in site.workers("slow")] == [0]
    assert site.stop() == 0
