"""How it ends, and what is left: S11 to S13."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

from supervised import Site, lives
from support import eventually

from faults.figure import Figure
from faults.ground import STAMP, measures, moment, open_site, seconds_to_exit, seconds_until_gone

JOB = """
    def q(job):
        stamp("begun", job.body)
        time.sleep({seconds})
        stamp("done", job.body)
"""
JOB_SECONDS = 3


def stop(rounds: int) -> Iterator[Figure]:
    """A round: TERM in the middle of a job of 3 s, another message behind it; and a second TERM."""
    yield from _ends("S11", f"TERM during a job of {JOB_SECONDS} s", rounds, _term)
    stopping = measures("supervisor/test_stopping")
    with open_site() as site:
        site.handlers(stopping.HANDLERS)
        site.configure(waits={"processes": 2})
        taken = [stopping.hurry(site) for _ in range(rounds)]
    what = "second TERM, two workers deaf to it: until `up` has left with 0"
    yield Figure("S11", what, taken, "ms", {"worst": 0.2})


def group_term(rounds: int) -> Iterator[Figure]:
    """A round: TERM to the supervisor, the template and the worker, in the middle of its job."""
    yield from _ends("S12", "TERM to the whole process group", rounds, _term_group)


def _term(site: Site) -> None:
    site.supervisor.terminate()


def _term_group(site: Site) -> None:
    os.killpg(site.supervisor.pid, signal.SIGTERM)


def _ends(row: str, what: str, rounds: int, end: Callable[[Site], None]) -> Iterator[Figure]:
    after, faults = [], 0
    for _ in range(rounds):
        with open_site() as site:
            site.handlers(STAMP + JOB.format(seconds=JOB_SECONDS))
            site.configure(q={})
            site.start()
            site.write("q", "job")
            moment(site, "begun", "job")
            site.write("q", "never")
            time.sleep(0.2)
            begun = time.monotonic()
            left = begun + seconds_to_exit(site, lambda: end(site))
            after.append(left - moment(site, "done", "job"))
            faults += [(m.body, m.attempts) for m in site.there("q")] != [("never", 0)]
            faults += len(site.notes("begun")) != 1
    yield Figure(row, f"{what}: from the end of the job to exit 0", after, "ms", {"worst": 1})
    what = f"{what}: jobs not acknowledged, or claimed after it"
    yield Figure(row, what, [faults], "", {"worst": 0}, rounds)


def grandchildren(rounds: int) -> Iterator[Figure]:
    """A round: processes that handlers started in seven ways (setsid, daemons, trees), deaf to
    TERM; their worker is killed, or all is stopped."""
    strays = measures("supervisor/test_strays")
    killed, stopped, left = [], [], 0
    for _ in range(rounds):
        with open_site() as site:
            site.handlers(strays.ESCAPES)
            site.configure(q={"prefetch": 1, "crashes": 100, "max_attempts": 1})
            site.start()
            pids = strays.escape(site, *strays.WAYS, "daemon go")
            (worker,) = site.pids()
            killed.append(seconds_until_gone(pids, lambda: os.kill(worker, signal.SIGKILL)))  # noqa: B023
            eventually(lambda: site.pids() not in ([], [worker]), 10)  # noqa: B023
            (site.folder / "notes").unlink()
            pids = strays.escape(site, *strays.WAYS)
            stopped.append(seconds_to_exit(site, site.supervisor.terminate))
            left += sum(map(lives, pids))
    what = "kill -9 of a worker, until all that its handlers started is gone"
    yield Figure("S13", what, killed, "ms", {"worst": 2})
    yield Figure("S13", "TERM with as many alive, until exit 0", stopped, "ms", {"worst": 3})
    yield Figure("S13", "of them alive then", [left], "", {"worst": 0}, rounds)
