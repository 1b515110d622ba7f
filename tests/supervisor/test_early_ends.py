"""Templates that end before the first worker runs: once is bad luck, twice is their import."""

from __future__ import annotations

import os
import signal

from supervised import Site, gone
from support import eventually

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
