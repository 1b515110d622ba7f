"""Processes that hang where nothing looks: in a fork, or in a call that TERM cuts short."""

from __future__ import annotations

import os
import signal

from supervised import Site, gone
from support import eventually

HANGS_IN_THE_FORK = """
    main = os.getpid()

    def slowly():
        note("forked", os.getpid())
        if os.path.exists(HERE + "/slow") and os.getppid() != main:
            time.sleep(20)

    os.register_at_fork(after_in_child=slowly)

    def q(job):
        note("done", job.body)
"""
HANGS_BEFORE_THE_WORKER = HANGS_IN_THE_FORK.replace("os.getppid() != main", "os.getppid() == main")
CUT_SHORT = """
    def q(job):
        left = ctypes.PyDLL(None).sleep(60)
        note("returned", left)
"""


def forked(site: Site) -> list[int]:
    return [int(line.split()[1]) for line in site.notes("forked")]


def test_a_worker_that_hangs_before_its_hello_is_killed_at_boot_timeout(site: Site) -> None:
    site.handlers(HANGS_IN_THE_FORK)
    site.configure(q={"boot_timeout": "2s"})  # a healthy start on a busy machine stays below it
    site.start()
    before = forked(site)
    site.release("slow")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: "worker_boot_timeout" in site.log(), 10)
    hung = [pid for pid in forked(site) if pid not in before]
    eventually(gone(hung), 5)


def test_a_template_that_hangs_in_a_fork_is_replaced(site: Site) -> None:
    site.handlers(HANGS_BEFORE_THE_WORKER)
    site.configure(q={"boot_timeout": "1s"})
    site.start()
    (before,) = site.templates()
    site.release("slow")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: "template_failed" in site.log(), 5)
    os.unlink(site.folder / "slow")
    eventually(lambda: before not in site.templates() and site.pids(), 10)


def test_a_stop_leaves_nobody_that_hangs_before_its_hello(site: Site) -> None:
    site.handlers(HANGS_IN_THE_FORK)
    site.configure(q={})
    site.release("slow")
    site.start(ready=False)
    eventually(lambda: len(forked(site)) == 2, 10)
    assert site.stop() == 0
    eventually(gone(forked(site)), 2)


def test_a_call_that_is_cut_short_by_the_timeout_is_no_success(site: Site) -> None:
    site.handlers(CUT_SHORT)
    site.configure(q={"timeout": "500ms", "max_attempts": 1})
    (ident,) = site.write("q", "m")
    site.start(ready=False)
    site.empty("q", 10)
    assert site.outcomes(ident) == ["timeout"]
    assert site.ids("q.dlq") == [ident]
