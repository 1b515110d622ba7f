"""A stop is heard at any moment, by workers and supervisor, and costs no message anything."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from supervised import Site, gone
from support import eventually

HANDLERS = """
    def q(job):
        note("done", job.body, job.attempt)

    def waits(job):
        note("begun", job.body)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await_file("never", 60)
"""
END_SECONDS = 1.0
HURRY_SECONDS = 0.2


def term_workers(site: Site, rounds: int) -> float:
    """Send TERM to workers at any moment of theirs; return the longest that one took to end."""
    site.handlers(HANDLERS)
    site.configure(instance={"crash_limit": "100000/1s"}, q={"processes": 4})
    site.start()
    draw, worst, written = random.Random(11), 0.0, 0
    for _ in range(rounds):
        victim = eventually(lambda: draw.choice(site.pids() or [0]), 5)
        site.write("q", *[f"m{written + n}" for n in range(4)])
        written += 4
        pause = time.monotonic() + draw.random() * 0.005
        eventually(lambda: time.monotonic() > pause)  # noqa: B023
        begun = time.monotonic()
        try:
            os.kill(victim, signal.SIGTERM)
        except ProcessLookupError:
            continue
        eventually(gone([victim]), 5)
        worst = max(worst, time.monotonic() - begun)
    site.empty("q", 10)
    assert sorted(site.notes()) == sorted(f"done m{n} 1" for n in range(written))
    assert site.stop() == 0
    return worst


def test_a_worker_hears_term_at_any_moment_and_burns_nothing(site: Site) -> None:
    assert term_workers(site, 50) < END_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_hear_five_thousand_terms(site: Site) -> None:
    worst = term_workers(site, 5000)
    print(f"worst {worst:.3f} s")
    assert worst < END_SECONDS


def term_supervisor(site: Site, rounds: int) -> float:
    """Send TERM to a supervisor at any moment of its first second; return the longest end."""
    site.handlers(HANDLERS)
    site.configure(q={"processes": 4})
    draw, worst = random.Random(13), 0.0
    for _ in range(rounds):
        site.start(ready=False)
        # Before its handlers are set, a TERM ends Python as it ends any program.
        pause = time.monotonic() + draw.random()
        eventually(lambda: time.monotonic() > pause, 3)  # noqa: B023
        children = [child.pid for child in site.children()]
        begun = time.monotonic()
        assert site.stop(within=10) in (0, -signal.SIGTERM)
        worst = max(worst, time.monotonic() - begun)
        eventually(gone(children), 1)
    return worst


def test_a_supervisor_hears_term_at_any_moment_of_its_start(site: Site) -> None:
    assert term_supervisor(site, 3) < END_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_supervisor_hears_term_at_two_hundred_moments_of_its_start(site: Site) -> None:
    worst = term_supervisor(site, 200)
    print(f"worst {worst:.3f} s")
    assert worst < END_SECONDS


def hurry(site: Site) -> float:
    """Return how long a supervisor takes to be gone after its second TERM, its workers deaf."""
    site.write("waits", "a", "b")
    process = site.start(ready=False)
    site.noted("begun a", 10)
    site.noted("begun b", 10)
    (site.folder / "notes").unlink()
    children = [child.pid for child in site.children()]
    process.terminate()
    eventually(lambda: (site.status() or {}).get("state") == "stopping")
    begun = time.monotonic()
    assert site.stop(within=5) == 0
    taken = time.monotonic() - begun
    eventually(gone(children), 0.5)
    assert [m.attempts for m in site.there("waits")] == [0, 0]
    site.broker.delete("waits")
    return taken


def hurried(site: Site, rounds: int) -> float:
    site.handlers(HANDLERS)
    site.configure(waits={"processes": 2})
    return max(hurry(site) for _ in range(rounds))


def test_a_second_term_ends_deaf_workers_at_once(site: Site) -> None:
    assert hurried(site, 1) < 5 * HURRY_SECONDS  # a busy machine has its own time


@pytest.mark.slow
def test_a_second_term_ends_deaf_workers_in_time_twenty_times(site: Site) -> None:
    worst = hurried(site, 20)
    print(f"worst {worst:.3f} s")
    assert worst < HURRY_SECONDS


# Signals its own process when Python takes it down: its handlers are gone by then.
LATE = """
import os, signal, sys
from brokerrun.cli.run import main

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), signum=int(sys.argv.pop())):
        kill(pid, signum)

late = Late()
main()
"""
EARLY = """
import os, signal, sys
from brokerrun.cli.run import main
from brokerrun.supervisor import supervisor

adopt = supervisor.adopt_orphans

def early():  # before it hears signals
    os.kill(os.getpid(), signal.SIGHUP)
    adopt()

supervisor.adopt_orphans = early
main()
"""


def up_by(site: Site, program: str, *arguments: str) -> None:
    with open(site.folder / "log", "ab") as log:
        site.adopted(
            subprocess.Popen(
                [sys.executable, "-c", program, "up", "-c", site.config, *arguments],
                stdout=log,
                stderr=log,
            )
        )
    eventually(lambda: "supervisor_started" in site.log(), 10)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_all_is_done_does_not_change_the_exit_status(
    site: Site, signum: signal.Signals
) -> None:
    site.handlers(HANDLERS)
    site.configure(q={})
    up_by(site, LATE, str(int(signum)))
    assert site.stop() == 0
    assert "supervisor_stopped" in site.log()


def test_a_hang_up_during_the_start_does_not_end_it(site: Site) -> None:
    site.handlers(HANDLERS)
    site.configure(q={})
    up_by(site, EARLY)
    site.write("q", "m")
    site.noted("done m 1")
    assert site.stop() == 0
