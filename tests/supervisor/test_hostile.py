"""Handlers that do what handlers do: seed, fork, signal, daemonise; and a busy store."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Process

import psutil
from supervised import Site, gone, lives
from support import eventually


@contextmanager
def in_the_turnstile(site: Site) -> Iterator[None]:
    """Keep everybody out, as a stopped process inside does."""
    with open(f"{site.database}.lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cpu_of(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses, over some seconds."""
    process = psutil.Process(pid)
    before, end = sum(process.cpu_times()[:2]), time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, within=seconds + 1)
    return (sum(process.cpu_times()[:2]) - before) / seconds


def test_a_handler_that_seeds_the_generator_repeats_no_receipt(site: Site) -> None:
    site.handlers("""
        import random

        def q(message):
            random.seed(42)
            note("begun", message, os.getpid())
            time.sleep(float(message.split()[1]))
            note("done", message)
    """)
    site.configure(q={"processes": 2, "prefetch": 2})
    site.start()
    with site.broker as broker:
        broker.write_many("q", ["m1 0.1", "m2 0.1", "m3 0.5", "m4 1.5", "slow 3", "victim 3"])
    site.empty("q", 20)
    assert len(site.notes("begun")) == 6


def test_a_store_that_is_busy_burns_no_verdict(site: Site) -> None:
    site.handlers("""
        def q(message):
            note("begun", message)
            await_file("go")
            raise Snooze(3600)
    """)
    site.configure(q={})
    (ident,) = site.write("q", "m")
    site.start(ready=False)
    site.noted("begun m", 10)
    with in_the_turnstile(site):
        site.release("go")
        eventually(lambda: "store_waited_for" in site.log(), 10)
    eventually(lambda: site.outcomes(ident) == ["snooze"], 10)
    assert site.there("q")[0].attempts == 0
    assert len(site.notes("begun")) == 1


def test_a_signal_of_user_code_leaves_an_idle_worker_idle(site: Site) -> None:
    site.handlers("""
        def q(message):
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            note("done", message)
    """)
    site.configure(q={})
    site.start()
    site.write("q", "m")
    site.noted("done m")
    assert cpu_of(site.pids()[0], 1.0) < 0.3


def test_a_process_that_a_handler_starts_obeys_term(site: Site) -> None:
    site.handlers("""
        import multiprocessing

        def q(message):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(5)
            note("ended", child.exitcode)
    """)
    site.configure(q={})
    site.write("q", "m")
    site.start(ready=False)
    site.noted("ended -15", 10)
    assert cpu_of(site.pids()[0], 1.0) < 0.3


def test_a_delay_that_is_none_is_the_handlers_fault(site: Site) -> None:
    site.handlers("""
        from datetime import timedelta

        def q(message):
            raise Snooze(timedelta(hours=1)) if message == "ok" else Retry(after=float("inf"))
    """)
    site.configure(q={"max_attempts": 1})
    good, bad = site.write("q", "ok", "bad")
    pids = site.start() and site.pids()
    assert site.last(good).outcome == "snooze"
    attempt = site.last(bad)
    assert (attempt.outcome, attempt.died) == ("failed", 1)
    assert "ValueError" in (attempt.error or "")
    assert site.pids() == pids


def test_who_finds_nothing_left_after_it_was_asked_is_idle(site: Site) -> None:
    site.handlers("""
        def q(message):
            note("begun", message)
            time.sleep(float(message))
    """)
    site.configure(q={"processes": 2, "prefetch": 4, "timeout": "4s"})
    site.write("q", "2.5", "0.1", "0.2", "0.3")
    site.start(ready=False)
    site.empty("q", 10)
    eventually(lambda: {row["state"] for row in site.workers()} == {"idle"}, 1)


def test_what_a_handler_left_behind_is_gone_before_its_message_runs_again(site: Site) -> None:
    site.handlers("""
        def q(message):
            child = subprocess.Popen(["sleep", "77"])
            note("child", child.pid)
            await_file("go")
    """)
    site.configure(q={})
    site.write("q", "m")
    site.start(ready=False)
    (child,) = eventually(lambda: site.notes("child"), 10)
    site.supervisor.kill()
    site.supervisor.wait()
    site.start(ready=False)
    eventually(lambda: len(site.notes("child")) == 2, 10)
    assert not lives(int(child.split()[1]))
    site.release("go")
    site.empty("q")


def test_a_daemon_that_a_handler_starts_lives_on(site: Site) -> None:
    site.handlers("""
        def q(message):
            code = (
                "import os, time; os.fork() and os._exit(0); os.setsid(); "
                "os.fork() and os._exit(0); "
                f"open({HERE + '/daemon'!r}, 'w').write(str(os.getpid())); time.sleep(60)"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
            note("done", message)
    """)
    site.configure(q={})
    site.write("q", "m")
    site.start(ready=False)
    site.noted("done m", 10)
    eventually(lambda: (site.folder / "daemon").exists(), 5)
    daemon = int(eventually((site.folder / "daemon").read_text, 5))
    site.write("q", "n")
    site.noted("done n", 10)
    try:
        assert lives(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_upkeep_goes_on_while_it_drains(site: Site) -> None:
    """A stranger's messages come back, and the log stays bounded, though the keeper is asked."""
    site.handlers("""
        def q(message):
            note("done", len(message))
    """)
    site.configure(q={})
    holder = Process(target=hold, args=(site.database,))
    site.write("q", "x")
    holder.start()
    eventually(lambda: [m.attempts for m in site.there("q")] == [1], 5)
    site.start("--drain", "--verbose", ready=False)
    eventually(lambda: "supervisor_started" in site.log(), 10)
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    assert site.ends(10) == 0
    assert site.notes("done") == ["done 1"]


def hold(database: str) -> None:
    from brokerrun.core.backends import open_store
    from brokerrun.core.model import Wanted
    from brokerrun.core.owners import new_guardian

    store, owner = open_store(database), new_guardian()
    store.begin_life(owner)
    store.work([], Wanted("q", owner))
    signal.pause()


def test_down_is_heard_while_handlers_are_imported(site: Site) -> None:
    site.handlers("""
        time.sleep(3)

        def q(message):
            pass
    """)
    site.configure(q={})
    process = site.start(ready=False)
    eventually(lambda: site.run("status").returncode == 0, 5)
    assert site.run("down").returncode == 0
    assert process.wait(1) == 0
    eventually(gone([process.pid]))
