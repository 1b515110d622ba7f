"""A handler that reads the database's own files, beside one-shot writers.

Reading them drops every POSIX lock of the worker's process. Then the next writer that closes last
takes itself for the only user and deletes the log under the worker, unless somebody else has the
file open: the supervisor does.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress

import pytest
from supervised import Site
from support import eventually

HANDLER = """
    import shutil, tempfile

    def q(message, timestamp):
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(HERE):
                if name.startswith(".broker.db"):
                    try:
                        shutil.copy(HERE + "/" + name, folder)
                    except FileNotFoundError:
                        pass
        note("done", message)
"""
WRITER = """
import sys
from brokerrun import Broker
for body in sys.argv[2:]:
    with Broker(sys.argv[1]) as broker:
        broker.write("q", body)
"""
# The product without its guard: the keeper closes its store after each job and each upkeep.
UNGUARDED = """
import sys, time
from queue import Empty
from brokerrun.supervisor import keeper
from brokerrun.cli.run import main

def serve(self, store):
    while True:
        try:
            asked = self._jobs.get(timeout=keeper.UPKEEP_SECONDS)
        except Empty:
            self._upkeep(store)
            store.close()
            continue
        if asked is None:
            return
        job, then = asked
        self._answers.append(keeper.Answer(then, keeper._until_done(job, store)))
        store.close()
        self._wake()

keeper.Keeper._serve = serve
sys.argv = ["brokerrun", *sys.argv[1:]]
main()
"""


def write_from_outside(site: Site, bodies: list[str]) -> None:
    """Write each by a store that is opened and closed for it, in a process of its own."""
    for first in range(0, len(bodies), 10):
        subprocess.run(
            [sys.executable, "-c", WRITER, site.database, *bodies[first : first + 10]], check=True
        )


def all_come_through(site: Site, count: int) -> None:
    bodies = [f"m{n}" for n in range(count)]
    site.broker.close()  # nobody but the supervisor keeps the file
    write_from_outside(site, bodies)
    eventually(lambda: len(set(site.notes("done"))) == count, 20)
    assert Counter(site.notes("done")) == Counter(f"done {body}" for body in bodies)
    site.empty("q", 10)
    assert [row["restarts"] for row in site.workers()] == [0, 0]
    assert site.stop() == 0


@pytest.fixture
def copying(site: Site) -> Site:
    site.handlers(HANDLER)
    site.configure(q={"processes": 2})
    return site


def test_a_handler_that_copies_the_database_loses_strands_and_doubles_nothing(
    copying: Site,
) -> None:
    copying.start()
    all_come_through(copying, 60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_handler_that_copies_the_database_three_hundred_times(copying: Site) -> None:
    copying.start()
    all_come_through(copying, 300)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_without_the_guard_fails(copying: Site) -> None:
    with open(copying.folder / "log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", UNGUARDED, "up", "-c", copying.config],
            stdout=log,
            stderr=log,
            cwd=copying.folder,
        )
    try:
        eventually(lambda: "supervisor_started" in copying.log(), 20)
        bodies = [f"m{n}" for n in range(300)]
        copying.broker.close()
        written = _write_while_it_works(copying, bodies)
        with suppress(AssertionError):  # it may well come to nothing
            eventually(lambda: len(set(copying.notes("done"))) == len(bodies), 15)
        done = Counter(copying.notes("done"))
        text = copying.log()
        lost = [body for body in bodies if not done[f"done {body}"]]
        doubled = [body for body in bodies if done[f"done {body}"] > 1]
        broken = [w for w in ("worker_died", "worker_failed", "store_failed") if w in text]
        print(
            f"\nwritten {written}, lost or stranded {len(lost)}, doubled {len(doubled)}, {broken}"
        )
        assert lost or doubled or broken or written < len(bodies)
    finally:
        process.kill()
        process.wait()


def _write_while_it_works(site: Site, bodies: list[str]) -> int:
    """Write what can be written; a writer may be refused once the file is damaged."""
    written = 0
    for body in bodies:
        done = subprocess.run(
            [sys.executable, "-c", WRITER, site.database, body], capture_output=True
        )
        written += done.returncode == 0
    return written
