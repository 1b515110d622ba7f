"""How many processes a backlog asks for: pure, and with a real fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby

import pytest
from supervised import Site
from support import eventually

from brokerrun.supervisor.scaling import Elastic, Scaler

RULE = Elastic(min=1, max=8, backlog=50, up=5.0, down=120.0)
IDLE = Elastic(min=0, max=8, backlog=50, up=5.0, down=120.0)


def run(
    rule: Elastic, load: Callable[[float], tuple[int, int]], seconds: float, wanted: int
) -> list[tuple[float, int]]:
    """Return when the number was set to what, one look a second."""
    scaler, found, now = Scaler(rule), [(0.0, wanted)], 0.0
    while now <= seconds:
        ready, busy = load(now)
        wanted = scaler.decide(now, wanted, ready, min(busy, wanted))
        found.append((now, wanted))
        now += 1.0
    return [(next(group)[0], number) for number, group in groupby(found, key=lambda e: e[1])]


def test_a_large_backlog_is_met_within_three_times_up() -> None:
    steps = run(RULE, lambda now: (4000, 8), 60, 1)
    assert [number for _, number in steps] == [1, 2, 4, 8]
    assert steps[-1][0] <= 3 * RULE.up


@pytest.mark.parametrize(
    ("ready", "processes"), [(0, 1), (1, 1), (50, 1), (51, 2), (399, 8), (10**6, 8)]
)
def test_there_is_one_process_for_so_many_ready_messages(ready: int, processes: int) -> None:
    assert run(RULE, lambda now: (ready, 0), 60, 1)[-1][1] == processes


def test_a_load_that_ends_leaves_the_least_within_down() -> None:
    steps = run(RULE, lambda now: (4000, 8) if now < 30 else (0, 0), 300, 1)
    assert steps[-1][1] == 1
    assert steps[-1][0] <= 30 + RULE.down + 1
    assert [number for _, number in steps] == [1, 2, 4, 8, 1]


def test_a_sawtooth_makes_no_process_come_and_go() -> None:
    steps = run(RULE, lambda now: (400 - int(now * 10) % 400, 3), 3600, 1)
    numbers = [number for _, number in steps]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 8


def test_processes_that_have_a_message_in_hand_are_kept() -> None:
    steps = run(RULE, lambda now: (4000, 8) if now < 30 else (0, 6), 600, 1)
    assert steps[-1][1] == 6


def test_from_none_the_first_comes_at_once_and_the_last_goes_after_down() -> None:
    steps = run(IDLE, lambda now: (1, 1) if 100 <= now < 103 else (0, 0), 600, 0)
    assert [number for _, number in steps] == [0, 1, 0]
    assert steps[1][0] == 100
    assert 102 + IDLE.down <= steps[2][0] <= 104 + IDLE.down


def test_a_number_set_by_hand_holds_for_down() -> None:
    scaler = Scaler(RULE)
    for now in range(300):
        assert scaler.decide(now, 1, 0, 0) == 1
    for now in range(300, 300 + int(RULE.down)):
        assert scaler.decide(now, 5, 0, 0) == 5
    assert scaler.decide(301 + RULE.down, 5, 0, 0) == 1


# ------------------------------------------------------------------------------------ a real fleet

WAITS = """
    def q(job):
        await_file("go")
        note("done", job.body)
"""
ELASTIC = {"min": 0, "max": 4, "backlog": 2, "up": "400ms", "down": "1s"}


def alive(site: Site) -> int:
    return len(site.pids("q"))


def test_processes_come_with_the_backlog_and_go_when_it_is_gone(site: Site) -> None:
    site.handlers(WAITS)
    site.configure(q={"processes": ELASTIC, "prefetch": 1})
    site.start(ready=False)
    eventually(lambda: site.status() and site.status()["state"] == "up", 10)
    assert alive(site) == 0
    site.write("q", *[f"m{n}" for n in range(20)])
    begun = time.monotonic()
    eventually(lambda: alive(site) == 4, 10)
    assert time.monotonic() - begun < 3 * 0.4 + 2  # and the time of four forks, on a busy machine
    site.release("go")
    site.empty("q")
    eventually(lambda: alive(site) == 0, 5)
    assert len(site.notes("done")) == 20
    assert "worker_died" not in site.log()
    assert site.run("scale", "q=3").returncode == 0
    assert site.run("scale", "q=9").returncode == 64
    assert site.run("scale", "q=2", "--save").returncode == 78


def test_a_drain_wakes_a_worker_that_has_no_process(site: Site) -> None:
    site.handlers("def q(job): note('done', job.body)\n")
    site.configure(q={"processes": ELASTIC})
    site.write("q", "m")
    site.start("--drain", ready=False)
    assert site.ends(10) == 0
    assert site.notes() == ["done m"]
