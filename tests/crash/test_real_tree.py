"""The main job on real files, while its processes are killed: nothing lost, repeats bounded."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from support import eventually

from brokerrun import Broker
from brokerrun.core.model import Selection

HANDLERS = Path(__file__).parents[2] / "examples" / "handlers"
WORKERS = """
[brokerrun]
database = "queue.db"
crash_limit = "1000/1s"

[workers.files]
handler = "noted:index"
cwd = "handlers"
processes = 2
mode = "{mode}"
max_attempts = 8
crashes = 8
backoff = "50ms..200ms"
"""
NOTED = """
import os, time
from index_files import index as inner

def index(message, timestamp):
    with open(os.environ["STARTS"], "ab", buffering=0) as file:
        file.write(f"{timestamp} {os.getpid()}\\n".encode())
    time.sleep(0.002)
    inner(message, timestamp)
"""


def real_files(count: int) -> list[str]:
    found: list[str] = []
    for place in (sysconfig.get_paths()["stdlib"], "/usr/share/doc", "/usr/lib", "/usr/share"):
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                with suppress(OSError):
                    small = os.path.isfile(path) and os.stat(path).st_size < 500_000
                    if small and path.isprintable() and os.access(path, os.R_OK):
                        found.append(path)
                if len(found) == count:
                    return found
    return found


class Site:
    """A folder with the workers, and a supervisor that is started again when it was killed."""

    def __init__(self, folder: Path, mode: str):
        self.folder, self.starts, self.struck = folder, folder / "starts", set[int]()
        (folder / "handlers").mkdir()
        (folder / "handlers" / "noted.py").write_text(NOTED)
        for name in ("index_files.py",):
            (folder / "handlers" / name).write_text((HANDLERS / name).read_text())
        (folder / "workers.toml").write_text(WORKERS.format(mode=mode))
        self.starts.touch()
        self.up()

    def up(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-m", "brokerrun", "up"],
                cwd=self.folder,
                env=os.environ
                | {"STARTS": str(self.starts), "INDEX_RESULTS": str(self.folder / "results.db")},
                stdout=log,
                stderr=log,
            )

    def begun(self) -> list[tuple[int, int]]:
        lines = self.starts.read_text().splitlines()
        return [(int(ident), int(pid)) for ident, pid in (line.split() for line in lines)]

    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            children = psutil.Process(self.supervisor.pid).children()
            known = {pid for _, pid in self.begun()[-400:]}
            return [child for child in children if child.pid in known]
        return []

    def strike_worker(self, rng: random.Random) -> None:
        if workers := self.workers():
            victim = rng.choice(workers)
            self.struck.add(victim.pid)
            with suppress(psutil.Error):
                victim.kill()

    def strike_supervisor(self) -> None:
        fleet = self.workers()
        self.struck |= {worker.pid for worker in fleet}
        self.supervisor.kill()
        self.supervisor.wait()
        eventually(lambda: not any(lives(worker) for worker in fleet), within=1)
        self.up()

    def stop(self) -> int:
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(20)


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def fire(site: Site, broker: Broker, every: float, supervisor_after: list[float]) -> float:
    """Kill a worker every so many seconds, until the queues are empty; return the seconds."""
    rng, begun, due = random.Random(1), time.monotonic(), list(supervisor_after)
    kills = 0
    while any(stats.pending for stats in broker.queues() if not stats.queue.endswith(".dlq")):
        kills += 1
        eventually(lambda: time.monotonic() >= begun + kills * every, within=10)  # noqa: B023
        if due and time.monotonic() - begun > due[0]:
            due.pop(0)
            site.strike_supervisor()
        else:
            site.strike_worker(rng)
        assert time.monotonic() - begun < 300
    assert not due, "the supervisor was to be killed more often"
    return time.monotonic() - begun


def judge(site: Site, broker: Broker, wanted: dict[int, str]) -> str:
    """Hold the results against sha256sum, and count repeats for each struck process."""
    paths = list(wanted.values())
    said = subprocess.run(["sha256sum", "-z", *paths], capture_output=True, check=False)
    digests = {}
    for record in said.stdout.decode().split("\0")[:-1]:
        digest, _, path = record.partition("  ")
        digests[path] = digest
    with closing(sqlite3.connect(site.folder / "results.db")) as results:
        rows = dict(results.execute("select id, sha256 from file"))
    dead = {m.id for m in broker.peek("files.dlq", Selection(limit=None))}
    assert set(rows) | dead == set(wanted), "lost"
    assert not set(rows) & dead, "both indexed and dead"
    wrong = [
        path for ident, path in wanted.items() if ident in rows and rows[ident] != digests[path]
    ]
    assert not wrong, wrong[:3]
    assert all(broker.history(ident) for ident in dead), "dead without a reason"
    begun = [(ident, pid) for ident, pid in site.begun() if ident not in dead]
    runs = Counter(ident for ident, _ in begun)
    first: dict[int, list[int]] = {}
    for ident, pid in begun:
        first.setdefault(ident, []).append(pid)
    cut = Counter(pid for pids in first.values() for pid in pids[:-1])
    assert set(cut) <= site.struck, "a message ran again although nobody struck its process"
    assert max(cut.values(), default=0) <= 1, "a struck process repeated more than one message"
    repeats = sum(count - 1 for count in runs.values())
    return (
        f"{len(rows)} indexed + {len(dead)} dead of {len(wanted)}, "
        f"{len(site.struck)} processes struck, {repeats} repeats"
    )


def run(folder: Path, mode: str, files: int, every: float, supervisor_after: list[float]) -> str:
    paths = real_files(files)
    assert len(paths) == files
    site = Site(folder, mode)
    with Broker(str(folder / "queue.db")) as broker:
        ids = broker.write_many("files", paths)
        seconds = fire(site, broker, every, supervisor_after)
        assert site.stop() == 0
        return f"{mode}: {judge(site, broker, dict(zip(ids, paths, strict=True)))}, {seconds:.1f} s"


@pytest.mark.parametrize("mode", ["peek", "move"])
def test_killed_processes_lose_no_file(tmp_path: Path, mode: str) -> None:
    print(run(tmp_path, mode, 600, 0.3, [1.0]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["peek", "move"])
def test_five_thousand_files_survive_a_kill_each_300_ms(tmp_path: Path, mode: str) -> None:
    print(run(tmp_path, mode, 5000, 0.3, [3.0, 8.0]))
