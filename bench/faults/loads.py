"""What goes on while it works: reloads, replacements and growth (S15, S25, S30)."""

from __future__ import annotations

import signal
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import psutil
from supervised import Site, open_files

from brokerrun import Broker
from faults.figure import Figure
from faults.ground import PATIENT, STAMP, all_ready, events, open_site, slowly, stamps

CODE = """
    VERSION = {version}

    def q(job):
        stamp("done", job.body, VERSION)
"""
RATE = 500
STEP_SECONDS = 0.02


class Writer(threading.Thread):
    """Writes messages 0, 1, 2 … to q, RATE a second, until it is told to stop."""

    def __init__(self, database: str):
        super().__init__(daemon=True)
        self._database, self._stop_asked = database, threading.Event()
        self.written = 0

    def run(self) -> None:
        begun = time.monotonic()
        with Broker(self._database) as broker:
            while not self._stop_asked.wait(STEP_SECONDS):
                due = int((time.monotonic() - begun) * RATE)
                broker.write_many("q", [str(n) for n in range(self.written, due)])
                self.written = due

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(30)
        assert not self.is_alive(), "the writer does not end"


@contextmanager
def writing(site: Site) -> Iterator[Writer]:
    """Write all the while; whatever happens, the writer ends."""
    writer = Writer(site.database)
    writer.start()
    try:
        yield writer
    finally:
        writer.finish()


def reload(rounds: int) -> Iterator[Figure]:
    """A round: new code for 4 processes by SIGHUP, each as soon as the last one is carried out,
    at 500 messages a second; the process of another worker stays."""
    taken = []
    with open_site() as site:
        site.handlers("def handle(job): ...\n", "still")
        (site.folder / "apart").mkdir()
        _version(site, 0)
        site.configure(q={"processes": 4}, still={"handler": "still:handle", "cwd": "apart"})
        site.start()
        unchanged = site.pids("still")
        with writing(site) as writer:
            for n in range(1, rounds + 1):
                _version(site, n)
                begun = time.monotonic()
                site.supervisor.send_signal(signal.SIGHUP)
                slowly(lambda: len(events(site, "reloaded")) >= n, 30, 0.02)  # noqa: B023
                taken.append(time.monotonic() - begun)
        site.empty("q", 30)
        faults = [site.pids("still") != unchanged, bool(events(site, "worker_died"))]
        done = stamps(site, "done")
    times = Counter(words[1] for words in done)
    lost = writer.written - len(times)
    versions = len({words[2] for words in done})
    yield Figure("S15", f"reload at {RATE}/s, SIGHUP to carried out", taken, "ms")
    what = f"of {writer.written} messages, by {versions} versions of the code: lost"
    yield Figure("S15", what, [lost], "", {"worst": 0}, rounds)
    yield Figure("S15", "done twice", [len(done) - len(times)], "", {"worst": 0}, rounds)
    moments = sorted(int(words[0]) / 1e9 for words in done)
    pauses = [later - sooner for sooner, later in pairwise(moments)]
    what = f"from one done to the next (least in any half second: {_least(moments)})"
    yield Figure("S15", what, pauses, "ms", {"worst": 0.5})
    what = "pids that changed without need, workers that died"
    yield Figure("S15", what, [sum(faults)], "", {"worst": 0}, rounds)


def _drained(site: Site) -> bool:
    """Tell whether nothing waits in q, and nothing is in hand."""
    return site.broker.stats("q").pending == 0


def _version(site: Site, number: int) -> None:
    site.handlers(STAMP + CODE.format(version=number))


def _least(moments: list[float]) -> int:
    """Count the moments of the half second, wherever it begins, that has the fewest."""
    begins = [moment for moment in moments if moment + 0.5 < moments[-1]]
    return min(bisect(moments, begin + 0.5) - bisect(moments, begin) for begin in begins)


def soak(rounds: int) -> Iterator[Figure]:
    """A round: a process that is replaced after its only message."""
    warm = max(rounds // 10, 200)
    with open_site() as site:
        site.handlers("def q(job): ...\n")
        site.configure(instance=PATIENT, q={"max_messages": 1, "processes": 2})
        site.start()
        _handle(site, warm)
        before, begun = _holds(site), time.monotonic()
        _handle(site, rounds)
        seconds, after = time.monotonic() - begun, _holds(site)
        worn = site.log().count("event=worker_worn")
        assert worn >= rounds, f"only {worn} were replaced"
    print(f"     {rounds / seconds:.0f} a second; before {before}, after {after}")
    for name, most, unit in (
        ("files", 0, ""),
        ("threads", 0, ""),
        ("rss", 1e6, "MB"),
        ("template files", 0, ""),
        ("template rss", 1e6, "MB"),
    ):
        what = f"growth over {rounds} replaced processes: {name}"
        yield Figure("S25", what, [after[name] - before[name]], unit, {"worst": most}, rounds)


def _handle(site: Site, count: int) -> None:
    """Have so many messages handled, and wait until the fleet is at rest."""
    site.write("q", *map(str, range(count)))
    slowly(lambda: _drained(site), 10 + count, 0.2)
    slowly(lambda: [row["state"] for row in site.workers()] == ["idle"] * 2, 10, 0.2)


def _holds(site: Site) -> dict[str, int]:
    """Count what the supervisor and its template hold, when nobody asks it anything any more."""
    time.sleep(1)
    supervisor, template = psutil.Process(site.supervisor.pid), site.templates()[0]
    return {
        "files": len(open_files(supervisor.pid)),
        "threads": supervisor.num_threads(),
        "rss": supervisor.memory_info().rss,
        "template files": len(open_files(template)),
        "template rss": psutil.Process(template).memory_info().rss,
    }


ELASTIC = {"min": 1, "max": 8, "backlog": 50, "up": "1s", "down": "4s"}
UP, DOWN, LOOK = 1.0, 4.0, 1.0
WAITS = """
    def q(job):
        if job.body == "wait":
            await_file("go")
        else:
            time.sleep(0.01)
"""


def autoscale(rounds: int) -> Iterator[Figure]:
    """A round: a backlog of 400 for 1 process that may become 8, then none; then a sawtooth
    load of 3 teeth, 0 to 400 messages."""
    grown, shrunk, flaps = [], [], []
    for _ in range(rounds):
        with open_site() as site:
            site.handlers(WAITS)
            site.configure(q={"processes": ELASTIC, "prefetch": 1})
            site.start()
            begun = time.time()
            site.write("q", *["wait"] * 400)
            all_ready(site, 8)
            grown.append(events(site, "worker_ready")[7].at / 1e9 - begun)
            flaps.append(_sawtooth(site))
            empty = time.monotonic()
            slowly(lambda: len(site.pids()) == 1, 30)
            shrunk.append(time.monotonic() - empty)
    yield Figure("S30", "1 to 8 processes, up = 1 s", grown, "s", {"worst": 3 * UP})
    yield Figure("S30", "back to 1, down = 4 s", shrunk, "s", {"worst": DOWN + LOOK})
    yield Figure("S30", "processes that came in a sawtooth of 3 teeth", flaps, "", {"worst": 0})


def _sawtooth(site: Site) -> int:
    """Let the queue run empty three times; return how many processes came meanwhile."""
    before = len(events(site, "worker_ready"))
    site.release("go")
    for _ in range(3):
        slowly(lambda: _drained(site), 30)
        site.write("q", *["short"] * 400)
    slowly(lambda: _drained(site), 30)
    return len(events(site, "worker_ready")) - before
