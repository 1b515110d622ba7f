"""Processes are replaced between messages, a bounded share at once, and no work waits for it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest
from supervised import Site, spec_of
from support import eventually

from brokerrun.supervisor.wear import Wear, due

BY_PID = """
    def q(job):
        note("by", os.getpid(), job.body)
"""
LEAK = """
    kept = []

    def size():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def q(job):
        before = size()
        kept.append(bytearray(os.urandom(1)) * 8_000_000)
        note("size", os.getpid(), before, size())
"""


def counts(site: Site) -> Counter[str]:
    return Counter(line.split()[1] for line in site.notes("by"))


# --------------------------------------------------------------------------------------- decided


@pytest.mark.parametrize(
    ("done", "age", "rss", "why", "patience"),
    [
        (9, 59.0, 100, None, 0),
        (10, 0.0, 0, "max_messages: 10", 30.0),
        (0, 60.0, 0, "max_age: 60.0 s", 0.0),
        (0, 0.0, 101, "max_rss: 101 bytes", float("inf")),
        (10, 60.0, 101, "max_rss: 101 bytes", float("inf")),
        (10, 60.0, 0, "max_messages: 10", 30.0),
    ],
)
def test_the_firmest_reason_decides(
    done: int, age: float, rss: int, why: str | None, patience: float
) -> None:
    spec = spec_of(max_messages=10, max_age=60.0, max_rss=100, boot_timeout=30.0)
    found = due(spec, done, age, rss)
    assert (found.why if found else None) == why
    if found:
        assert found.patience == patience
    assert due(spec_of(), done, age, rss) is None


def test_no_more_is_claimed_than_may_still_be_begun() -> None:
    wear = Wear(spec_of(max_messages=3), ask=print)
    assert wear.room(64) == 3
    wear.count()
    assert (wear.room(64), wear.room(1)) == (2, 1)
    for _ in range(4):
        wear.count()
    assert wear.room(64) == 1  # no successor came up: it works on
    assert Wear(spec_of(), ask=print).room(64) == 64


# -------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("most", [1, 5])
def test_a_process_is_replaced_after_exactly_so_many_messages(site: Site, most: int) -> None:
    site.handlers(BY_PID)
    site.configure(q={"max_messages": most})
    site.start()
    site.write("q", *map(str, range(4 * most)))
    site.empty("q", 15)
    assert list(counts(site).values()) == [most] * 4
    assert site.notes("by")[-1].split()[2] == str(4 * most - 1)
    eventually(lambda: [row["handled"] for row in site.workers()] == [4 * most])
    assert [(row["failed"], row["reason"]) for row in site.workers()] == [(0, None)]
    assert site.log().count("event=worker_worn") == 4
    assert "worker_died" not in site.log()
    assert site.stop() == 0


def test_what_was_claimed_beyond_it_goes_back_unburned(site: Site) -> None:
    site.handlers("def q(job):\n    note('by', os.getpid(), job.body, job.attempt)")
    site.configure(q={"max_messages": 3, "prefetch": 64})
    site.start()
    site.write("q", *map(str, range(10)))
    site.empty("q", 15)
    assert [line.split()[2:] for line in site.notes("by")] == [[str(n), "1"] for n in range(10)]


def test_of_16_never_more_than_a_quarter_is_away_though_all_are_due_at_once(site: Site) -> None:
    site.handlers("def q(job):\n    note('by', os.getpid(), job.body)\n    time.sleep(0.02)")
    site.configure(q={"processes": 16, "max_messages": 6, "prefetch": 1})
    site.start()
    first = set(site.pids())
    site.write("q", *map(str, range(16 * 12)))
    fewest, most = 16, 0
    while site.there("q"):
        states = [row["state"] for row in site.workers()]
        fewest = min(fewest, sum(state in ("idle", "busy") for state in states))
        most = max(most, states.count("booting"))
    eventually(lambda: not first & set(site.pids()), 15)
    assert fewest >= 12
    assert most <= 4
    assert sum(counts(site).values()) == 16 * 12
    assert max(counts(site).values()) <= 6
    assert site.stop() == 0


def test_a_successor_that_does_not_come_up_costs_patience_but_no_standstill(site: Site) -> None:
    site.handlers(
        """
        os.register_at_fork(after_in_child=lambda: os.path.exists(HERE + "/broken") and os._exit(1))

        def q(job):
            note("by", os.getpid(), job.body)
        """
    )
    site.configure(q={"max_messages": 2, "boot_timeout": "3s"})
    site.start()
    site.release("broken")
    site.write("q", *"abcd")
    site.empty("q", 10)
    assert len(counts(site)) == 1
    (site.folder / "broken").unlink()
    eventually(lambda: site.pids() and str(site.pids()[-1]) not in counts(site), 20)
    assert site.stop() == 0


# ----------------------------------------------------------------------------------- age and size


def test_an_idle_process_is_replaced_when_it_is_old(site: Site) -> None:
    site.handlers(BY_PID)
    site.configure(q={"max_age": "1s"})
    site.start()
    (first,) = site.pids()
    begun = time.monotonic()
    eventually(lambda: site.pids() and first not in site.pids(), 5)
    assert time.monotonic() - begun < 3
    assert "why=max_age: " in site.log().replace('"', "")
    assert site.stop() == 0


def test_a_size_is_exceeded_by_one_message_at_most(site: Site) -> None:
    limit = 80_000_000
    site.handlers(LEAK)
    site.configure(q={"max_rss": "80MB", "processes": 2})
    site.start()
    site.write("q", *map(str, range(40)))
    site.empty("q", 30)
    sizes = [[int(word) for word in line.split()[2:]] for line in site.notes("size")]
    assert len(sizes) == 40
    assert all(before <= limit for before, _ in sizes)
    assert max(after for _, after in sizes) > limit
    assert len({line.split()[1] for line in site.notes("size")}) >= 4
    assert site.stop() == 0


def test_a_worn_process_that_is_killed_is_replaced_and_its_message_not_lost(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            note("by", os.getpid(), job.body)
            if job.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    site.configure(q={"max_messages": 1})
    site.start()
    (message,) = site.write("q", "a")
    site.empty("q", 10)
    assert site.outcomes(message) == ["died"]
    assert site.stop() == 0


def test_a_stopped_supervisor_lets_worn_processes_work_on(site: Site) -> None:
    site.handlers(BY_PID)
    site.configure(q={"max_messages": 2, "boot_timeout": "3s"})
    site.start()
    site.halt(site.supervisor.pid)
    try:
        site.write("q", *"abcd")
        site.empty("q", 10)
    finally:
        site.supervisor.send_signal(signal.SIGCONT)
    (pid,) = counts(site)
    eventually(lambda: site.pids() and int(pid) not in site.pids(), 10)
    assert site.stop() == 0
    assert os.path.exists(site.database)
