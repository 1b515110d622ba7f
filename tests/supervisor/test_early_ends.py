"""Templates that end before the first worker runs: once is bad luck, twice is their import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from supervised import Site, gone
from support import eventually

from brokerrun.supervisor.templates import Blank
from brokerrun.supervisor.wire import Setup

SLOW = """
    note("imported", os.getpid())
    await_file("go")

    def q(job):
        note("done", job.body)
"""
QUICK = """
    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_name == "_receive":  # it has said what it imported
            sys.setprofile(None)
            note("quick", os.getpid())

    sys.setprofile(watch)

    def handle(job):
        note("done", job.body)
"""
DEADLY = """
    note("imported", os.getpid())
    os._exit(3)
"""


def pid_of(site: Site, first: str, times: int = 1) -> int:
    """Wait until a module was imported so often; return where."""
    eventually(lambda: len(site.notes(first)) >= times, 10)
    return int(site.notes(first)[times - 1].split()[1])


def works(site: Site, *queues: str) -> None:
    for queue in queues:
        site.write(queue, queue)
        site.noted(f"done {queue}", 10)


def test_one_that_was_told_nothing_yet_goes_with_its_supervisor_and_says_nothing(
    site: Site,
) -> None:
    site.handlers("def q(job):\n    note('done', job.body)\n")
    site.configure(q={})
    for _ in range(5):
        site.start(ready=False)
        [template] = eventually(site.children, 10)
        site.supervisor.kill()
        site.supervisor.wait()
        eventually(gone([template.pid]))
    assert site.log() == ""
    site.start()
    works(site, "q")


def test_one_that_is_killed_before_it_is_told_anything_is_started_again(site: Site) -> None:
    site.handlers("def q(job):\n    note('done', job.body)\n")
    site.configure(q={})
    site.start(ready=False)
    [template] = eventually(site.children, 10)
    template.kill()
    works(site, "q")
    assert template.pid not in [child.pid for child in site.children()]
    assert site.stop() == 0


def test_who_started_us_with_the_ends_of_children_ignored_costs_no_template(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("waits", subprocess.run(["true"]).returncode)
            note("ignored", signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN)
    """)
    site.configure(q={"processes": 2})
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        site.start(ready=False)
    finally:
        signal.signal(signal.SIGCHLD, before)
    site.write("q", "m")
    site.noted("waits 0", 10)
    site.noted("ignored False")
    assert site.stop() == 0
    assert "template_failed" not in site.log()


@pytest.mark.parametrize("what", ["signal.SIG_IGN", "reap"])
def test_an_import_that_reaps_every_child_itself_costs_no_template(site: Site, what: str) -> None:
    site.handlers(f"""
        def reap(signum, frame):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        template = os.getpid()

        def slow_to_see_it():  # so that the child has ended when its signal is no more blocked
            if os.getpid() == template:
                time.sleep(0.2)

        signal.signal(signal.SIGCHLD, {what})
        os.register_at_fork(after_in_parent=slow_to_see_it)

        def q(job):
            note("done", job.body)
    """)
    site.configure(q={"processes": 2})
    site.start()
    works(site, "q")
    assert site.stop() == 0
    assert "template_failed" not in site.log()


def test_one_that_is_told_of_a_supervisor_that_is_gone_waits_for_nothing(tmp_path: Path) -> None:
    blank = Blank({})
    setup = Setup(
        supervisor=os.getppid(), cwd=str(tmp_path), path=[], preload=[], handlers=[],
        database="", log="auto", log_level="info", account=None,
    )  # fmt: skip
    with blank.link:
        blank.link.send(msgspec.json.encode(setup))
        assert eventually(lambda: os.waitpid(blank.pid, os.WNOHANG)[0], 2)
        assert blank.link.recv(100) == b""


def test_a_template_that_is_killed_while_it_imports_is_started_again(site: Site) -> None:
    site.handlers(SLOW)
    site.configure(q={})
    site.start(ready=False)
    os.kill(pid_of(site, "imported"), signal.SIGKILL)
    pid_of(site, "imported", 2)
    site.release("go")
    works(site, "q")
    assert site.stop() == 0


def test_a_template_that_is_killed_while_others_import_is_started_again(site: Site) -> None:
    site.handlers(SLOW)
    site.handlers(QUICK, "quick")
    site.configure(q={}, other={"handler": "quick:handle", "env": {"APART": "1"}})
    site.start(ready=False)
    quick = pid_of(site, "quick")
    pid_of(site, "imported")
    os.kill(quick, signal.SIGKILL)
    pid_of(site, "quick", 2)
    site.release("go")
    works(site, "q", "other")
    assert site.stop() == 0


def test_the_same_during_a_reload_costs_no_worker(site: Site) -> None:
    site.handlers(QUICK, "quick")
    site.handlers("def q(job):\n    note('done', job.body)\n")
    site.configure(q={}, other={"handler": "quick:handle", "env": {"APART": "1"}})
    site.start()
    site.handlers(SLOW)
    reload = site.begin("reload", "--code")
    pid_of(site, "imported")
    quick = pid_of(site, "quick", 2)
    os.kill(quick, signal.SIGKILL)
    pid_of(site, "quick", 3)
    site.release("go")
    eventually(lambda: reload.poll() is not None, 10)
    assert reload.returncode == 0
    works(site, "q", "other")
    assert site.stop() == 0


def test_an_import_that_ends_its_process_each_time_is_refused_by_the_second(site: Site) -> None:
    site.handlers(DEADLY)
    site.configure(q={})
    site.start(ready=False)
    assert site.ends() == 78
    assert "the import ended the process that imports handlers" in site.log()
    assert len(site.notes("imported")) == 2
