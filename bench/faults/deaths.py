"""Processes that are killed, hang or die: S1, S2, S5 to S10."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator

from supervised import Site
from support import eventually

from faults.figure import Figure
from faults.ground import (
    PATIENT,
    STAMP,
    measures,
    moment,
    open_site,
    seconds_until_gone,
    stamps,
)

SHORT = """
    def q(job):
        stamp("begun", job.body, os.getpid())
        time.sleep(0.002)
        stamp("done", job.body, os.getpid())
"""
HELD_ONCE = """
    def q(job):
        stamp("begun", job.body, os.getpid())
        if job.attempt == 1:
            time.sleep(60)
"""
HANGS_IN_THE_FORK = """
    main = os.getpid()

    def hang():
        if os.path.exists(HERE + "/slow") and os.getppid() != main:
            os.unlink(HERE + "/slow")
            stamp("hung", "fork", os.getpid())
            time.sleep(60)

    os.register_at_fork(after_in_child=hang)

    def q(job):
        stamp("begun", job.body)

    other = q
"""
POISON = """
    def q(job):
        if job.body == "innocent":
            note("done", job.body)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_supervisor(rounds: int) -> Iterator[Figure]:
    """A round: kill -9 at a random moment of 4 workers' work, then the next `up`."""
    draw, written, killed = random.Random(1), 0, []
    with open_site() as site:
        site.handlers(STAMP + SHORT)
        site.configure(q={"processes": 4, "max_attempts": 100})
        for _ in range(rounds):
            site.start()
            pids = [child.pid for child in site.children()]
            site.write("q", *[str(written + n) for n in range(200)])
            written += 200
            time.sleep(draw.random() * 0.1)
            killed.append(seconds_until_gone(pids, site.supervisor.kill))
            site.supervisor.wait(5)
        site.start()
        site.empty("q", 60)
        lost, again, excess = _accounts(site, written)
    yield Figure(
        "S1",
        "kill -9 of the supervisor, until template and 4 workers are gone",
        killed,
        "ms",
        {"p95": 0.05, "worst": 1},
    )
    yield Figure("S1", "messages lost", [lost], "", {"worst": 0}, rounds)
    yield Figure("S1", "done again because in hand at a kill", [again], "", {}, rounds)
    yield Figure("S1", "done again beyond that", [excess], "", {"worst": 0}, rounds)


def _accounts(site: Site, written: int) -> tuple[int, int, int]:
    """Count the messages that were lost, done again by a right to it, and without one.

    Right has who was killed with it in hand: it is the last that a process began.
    """
    done = Counter(words[1] for words in stamps(site, "done"))
    last = {words[2]: words[1] for words in stamps(site, "begun")}
    rights = Counter(last.values())
    twice = {body: times - 1 for body, times in done.items() if times > 1}
    excess = sum(max(0, more - rights[body]) for body, more in twice.items())
    return written - len(done), sum(twice.values()) - excess, excess


def kill_worker(rounds: int) -> Iterator[Figure]:
    """A round: kill -9 of the process that has the only message; another of two takes it, or,
    where there is one process, its successor: then a slot is ready again, too."""
    for processes, what, most in (
        (2, "until an idle worker has begun its message", 0.05),
        (1, "until its successor is ready and has begun it", 0.1),
    ):
        with open_site() as site:
            site.handlers(STAMP + HELD_ONCE)
            site.configure(instance=PATIENT, q={"processes": processes, "max_attempts": 9})
            site.start()
            taken = [_seconds_until_begun_again(site, str(n), processes) for n in range(rounds)]
        yield Figure("S2", f"kill -9 of a busy worker, {what}", taken, "ms", {"p95": most})


def _seconds_until_begun_again(site: Site, body: str, processes: int) -> float:
    eventually(lambda: [row["state"] for row in site.workers()] == ["idle"] * processes, 10)
    site.write("q", body)
    moment(site, "begun", body)
    pid = next(int(words[2]) for words in stamps(site, "begun") if words[1] == body)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return moment(site, "begun", body, times=2) - killed


def term_anytime(rounds: int) -> Iterator[Figure]:
    """A round: TERM to one of 4 workers; every tenth: one to a supervisor in its first second."""
    stopping = measures("supervisor/test_stopping")
    starts = max(rounds // 10, 1)
    with open_site() as site:
        worst = stopping.term_workers(site, rounds)
    yield Figure(
        "S5", "TERM to a worker at any moment (0 hung)", [worst], "ms", {"worst": 1}, rounds
    )
    with open_site() as site:
        worst = stopping.term_supervisor(site, starts)
    yield Figure("S5", "TERM to `up` at any moment (0 hung)", [worst], "ms", {"worst": 1}, starts)


def hung(rounds: int) -> Iterator[Figure]:
    """A round: a message that hangs in each of seven ways."""
    with open_site() as site:
        worst = measures("supervisor/test_timeouts").hanging(site, rounds)
    for kind, seconds in worst.items():
        what = f"hung handler ({kind}), killed after its timeout"
        yield Figure("S6", what, [seconds], "ms", {"worst": 0.5}, rounds)


def boot_hang(rounds: int) -> Iterator[Figure]:
    """A round: a worker that hangs before it is ready; another worker works meanwhile."""
    over, replaced, beside, boot = [], [], [], 1.0
    with open_site() as site:
        site.handlers(STAMP + HANGS_IN_THE_FORK)
        site.configure(instance=PATIENT, q={"boot_timeout": f"{boot:g}s"}, other={})
        site.start()
        for n in range(rounds):
            site.release("slow")
            os.kill(site.pids("q")[0], signal.SIGKILL)
            hung_at, pid = moment(site, "hung", "fork", n + 1), _hung(site)
            site.write("q", f"q{n}")
            begun = time.monotonic()
            site.write("other", f"other{n}")
            beside.append(moment(site, "begun", f"other{n}") - begun)
            over.append(time.monotonic() + seconds_until_gone([pid], lambda: None) - hung_at - boot)
            replaced.append(moment(site, "begun", f"q{n}") - hung_at - boot)
    yield Figure("S7", "boot hang: killed after boot_timeout", over, "ms", {"worst": 0.5})
    yield Figure("S7", "its successor at work after it", replaced, "ms", {"worst": 1})
    yield Figure("S7", "another worker meanwhile, write to begin", beside, "ms", {"worst": 0.1})


def _hung(site: Site) -> int:
    return int(stamps(site, "hung")[-1][2])


def poison(rounds: int) -> Iterator[Figure]:
    """A round: a message that kills each worker that takes it."""
    taken, others, wrong = [], [], 0
    with open_site() as site:
        site.handlers(POISON)
        site.configure(instance=PATIENT, q={"crashes": 3, "backoff": ["50ms"], "processes": 2})
        site.start()
        for n in range(rounds):
            (ident,) = site.write("q", "poison")
            begun = time.monotonic()
            site.write("q", "innocent")
            site.noted("done innocent", 10, n + 1)
            others.append(time.monotonic() - begun)
            last = site.last(ident, 10, 3)
            eventually(lambda: ident in site.ids("q.dlq"))  # noqa: B023
            history = site.broker.history(ident)
            wrong += [(a.outcome, a.signal, a.died) for a in history] != [
                ("died", 9, 0),
                ("died", 9, 0),
                ("died", 9, 1),
            ]
            taken.append(((last.ended_at or 0) - (history[0].started_at or 0)) / 1e9)
    yield Figure("S8", "poison: first run to buried, a wait of 50 ms in it", taken, "ms")
    yield Figure("S8", "buried otherwise than after 3 deaths", [wrong], "", {"worst": 0}, rounds)
    yield Figure("S8", "another message meanwhile, write to done", others, "ms", {"worst": 1})


def bad_handler(rounds: int) -> Iterator[Figure]:
    """A round: `up`, and a reload, with a module that cannot be imported."""
    up, reload, odd = [], [], 0
    for _ in range(rounds):
        with open_site() as site:
            site.handlers("1 / 0\n")
            site.configure(q={})
            begun = time.monotonic()
            done = site.run("up")
            up.append(time.monotonic() - begun)
            assert done.returncode == 78, done
            odd += done.stderr.count("Traceback") != 1
            site.handlers("def q(job): note('done', job.body)\n")
            site.start()
            pids = site.pids()
            site.handlers("1 / 0\n")
            begun = time.monotonic()
            done = site.run("reload")
            reload.append(time.monotonic() - begun)
            assert (done.returncode, site.pids()) == (70, pids), done
    yield Figure("S9", "bad handler: `up` exits 78", up, "ms", {"worst": 2})
    yield Figure("S9", "of them without one traceback", [odd], "", {"worst": 0}, rounds)
    yield Figure("S9", "`reload` exits 70, the fleet stays", reload, "ms", {"worst": 2})


def crash_loop(rounds: int) -> Iterator[Figure]:
    """A round: four processes that die at each start, for 15 s; then they are healed."""
    loops = measures("supervisor/test_crash_loops")
    shares, lines = [], []
    for _ in range(rounds):
        with open_site() as site:
            shares.append(loops.costs(site, 15))
            lines.append(len(site.log().splitlines()))
    yield Figure("S10", "crash loop of 15 s: the supervisor's CPU", shares, "%", {"worst": 0.01})
    yield Figure("S10", "lines of log, its end too (healed in <= 5 s)", lines, "", {"worst": 12})
