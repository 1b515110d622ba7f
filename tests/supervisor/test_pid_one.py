"""The supervisor as the first process of a container: everybody's parent, and nobody above it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from supervised import Site, gone
from support import eventually

ONE = """
    def q(job):
        if job.body == "orphan":
            subprocess.run(["sh", "-c", "(sleep 0.1; exit 3) &"])
        if job.body.startswith("wait"):
            note("begun", job.body)
            await_file(job.body)
        note("done", job.body)
    """
_ALONE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _may_be_alone() -> bool:
    try:
        return subprocess.run([*_ALONE, "true"], capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _may_be_alone(), reason="no pid namespace can be made here")


class Container:
    """A pid namespace of its own, whose first process is `brokerrun up`."""

    def __init__(self, site: Site):
        self.site = site
        command = [*_ALONE, sys.executable, "-m", "brokerrun", "up", "-c", site.config]
        with open(site.folder / "log", "ab") as log:
            self._outer = site.adopted(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    @property
    def first(self) -> int:
        """Find the pid out here of the first process in there."""
        return eventually(lambda: [c.pid for c in psutil.Process(self._outer.pid).children()])[0]

    def ready(self) -> None:
        eventually(lambda: {row["state"] for row in self.site.workers()} == {"idle"}, 20)

    def enter(self, script: str) -> None:
        """Run a script in there, as `docker exec` does; who it leaves behind is an orphan."""
        inside = ["nsenter", "--user", "--preserve-credentials", "--pid", "--mount"]
        target = ["--target", str(self.first)]
        subprocess.run([*inside, *target, "sh", "-c", script], check=True, timeout=10)

    def children(self) -> dict[int, str]:
        """Map the pid of each of its children to its state."""
        found = {}
        for child in psutil.Process(self.first).children():
            with suppress(psutil.NoSuchProcess):  # it was reaped meanwhile
                found[child.pid] = child.status()
        return found

    def ends(self, within: float = 10) -> int:
        eventually(lambda: self._outer.poll() is not None, within)
        return int(self._outer.returncode)


def test_strangers_are_reaped_and_change_nothing(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"processes": 2})
    container = Container(site)
    container.ready()
    family = set(container.children())
    assert len(family) == 3  # two workers and their template
    site.write("q", "orphan")
    site.noted("done orphan")
    container.enter("(sleep 0.6; exit 3) & sh -c 'sleep 0.6; kill -9 $$' & true")
    eventually(lambda: set(container.children()) != family)  # they are its own now,
    eventually(lambda: set(container.children()) == family)  # and no zombies later
    assert psutil.STATUS_ZOMBIE not in container.children().values()
    site.write("q", "m")
    site.noted("done m")
    assert site.status()["state"] == "up"
    assert [row["restarts"] for row in site.workers()] == [0, 0]
    os.kill(container.first, signal.SIGTERM)
    assert container.ends() == 0


def test_a_killed_worker_is_no_zombie_and_term_finishes_what_is_in_hand(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    container = Container(site)
    container.ready()
    worker = next(
        child
        for child in psutil.Process(container.first).children()
        if "brokerrun: q.1" in " ".join(child.cmdline())
    )
    worker.kill()
    eventually(lambda: worker.pid not in container.children())
    container.ready()
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    inside = list(container.children())
    os.kill(container.first, signal.SIGTERM)
    eventually(lambda: "supervisor_stopping" in site.log())
    site.release("wait-a")
    assert container.ends() == 0
    assert site.notes("done") == ["done wait-a"]
    assert gone(inside)()


def test_a_term_that_comes_during_the_start_is_not_lost(site: Site) -> None:
    """The kernel drops what the first process of a namespace has no handler for."""
    site.handlers("time.sleep(5)\n" + "def q(job): ...\n")
    site.configure(q={})
    container = Container(site)
    first = container.first
    # It has its lock and nothing else: what hears signals is not even imported.
    eventually((site.folder / ".broker.db.default.slots").exists, 10)
    os.kill(first, signal.SIGTERM)
    assert container.ends(4) == 0
