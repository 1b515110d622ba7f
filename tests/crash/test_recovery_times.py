"""How long it takes until what a killed process held runs again."""

from __future__ import annotations

import os
import signal
import statistics
import time

import pytest
from supervised import Site, gone, lives
from support import eventually

HANDLER = """
    def q(job):
        note("begun", job.body, os.getpid(), job.attempt)
        await_file(job.body)
        note("done", job.body)

    def poison(job):
        note("struck", job.attempt)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def begun(site: Site, body: str, times: int) -> int:
    """Wait until the message was begun so often; return the pid that has it."""
    found = eventually(
        lambda: [line for line in site.notes("begun") if line.split()[1] == body][times - 1 :], 10
    )
    return int(found[0].split()[2])


def seconds_until_it_runs_again_after_a_worker_is_killed(site: Site, body: str) -> float:
    ident = site.write("q", body)[0]
    pid = begun(site, body, 1)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    begun(site, body, 2)
    seconds = time.monotonic() - killed
    site.release(body)
    site.empty("q")
    assert site.outcomes(ident) == ["died"]
    assert site.notes().count(f"done {body}") == 1
    return seconds


def seconds_until_it_runs_again_after_the_supervisor_is_killed(site: Site, body: str) -> float:
    ident = site.write("q", body)[0]
    pid = begun(site, body, 1)
    pids = [child.pid for child in site.children()]
    assert pid in pids
    site.supervisor.kill()
    site.supervisor.wait()
    eventually(gone(pids), 1)
    started = time.monotonic()
    site.start(ready=False)
    begun(site, body, 2)
    seconds = time.monotonic() - started
    site.release(body)
    site.empty("q")
    assert site.outcomes(ident) == ["lost"]
    return seconds


def tell(what: str, seconds: list[float]) -> None:
    print(
        f"\n{what}: {len(seconds)} rounds, "
        f"median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s"
    )


def test_a_message_of_a_killed_worker_runs_again_within_a_second(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(q={})
    site.start()
    for n in range(5):
        assert seconds_until_it_runs_again_after_a_worker_is_killed(site, f"m{n}") < 1


def test_after_a_killed_supervisor_its_workers_are_gone_and_the_message_runs(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(q={})
    site.start()
    for n in range(2):
        assert seconds_until_it_runs_again_after_the_supervisor_is_killed(site, f"m{n}") < 3


def test_two_kills_of_the_supervisor_bury_no_innocent_message(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(q={"max_attempts": 4, "crashes": 2})
    site.start()
    ident = site.write("q", "m")[0]
    for times in (1, 2, 3):
        begun(site, "m", times)
        site.supervisor.kill()
        site.supervisor.wait()
        site.start(ready=False)
    begun(site, "m", 4)
    site.release("m")
    site.empty("q")
    assert site.outcomes(ident) == ["lost"] * 3
    assert site.ids("q.dlq") == []


def test_a_poison_message_is_buried_after_its_crashes_and_the_fleet_lives_on(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(poison={"crashes": 3, "backoff": ["50ms"]}, q={})
    process = site.start()
    ident = site.write("poison", "m")[0]
    eventually(lambda: site.ids("poison.dlq") == [ident])
    history = site.broker.history(ident)
    assert [(a.outcome, a.signal, a.died) for a in history] == [
        ("died", signal.SIGKILL, 0),
        ("died", signal.SIGKILL, 0),
        ("died", signal.SIGKILL, 1),
    ]
    assert {a.error for a in history} == {"worker killed by SIGKILL"}
    assert site.notes("struck") == ["struck 1", "struck 2", "struck 3"]
    site.release("innocent")
    site.write("q", "innocent")
    site.noted("done innocent")
    assert process.poll() is None
    assert lives(process.pid)


@pytest.mark.slow
def test_over_twenty_kills_of_a_worker(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(q={})
    site.start()
    seconds = [
        seconds_until_it_runs_again_after_a_worker_is_killed(site, f"m{n}") for n in range(20)
    ]
    tell("killed worker to its message running again", seconds)
    assert max(seconds) < 1


@pytest.mark.slow
def test_over_ten_kills_of_the_supervisor(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(q={})
    site.start()
    seconds = [
        seconds_until_it_runs_again_after_the_supervisor_is_killed(site, f"m{n}") for n in range(10)
    ]
    tell("restart after a killed supervisor to its message running", seconds)
    assert max(seconds) < 3
