"""`brokerrun up --drain` where nobody looks: silence is success."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from supervised import Site

ONE = """
    def q(job):
        note("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
        if job.body == "dead":
            raise Dead("no")
        if job.body == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.body == "again" and job.attempt == 1:
            raise ValueError("once")
        if job.body == "mortal" and job.attempt == 1:
            os._exit(3)
    """


def test_success_is_silent_though_messages_failed_and_a_worker_died_on_the_way(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"backoff": ["10ms"]})
    site.write("q", "a", "again", "mortal")
    done = site.run("up", "--drain")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not site.there("q")
    assert site.notes().count("begun again") == site.notes().count("begun mortal") == 2


def test_death_is_one_line(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"backoff": ["10ms"]})
    site.write("q", "dead", "a", "killer")
    done = site.run("up", "--drain")
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert "level=error event=drained dead=2" in line


def test_what_the_file_says_is_logged_for_who_asks_and_on_a_terminal(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    assert "event=supervisor_started" in site.run("up", "--drain", "--verbose").stderr
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "brokerrun", "up", "--drain", "-c", site.config]
    assert subprocess.run(command, stderr=terminal, timeout=30).returncode == 0
    assert b"supervisor_started" in os.read(ours, 65536)
    os.close(ours)
    os.close(terminal)


def test_overlap_is_75_or_at_wish_no_fault_and_soon_said(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.write("q", "wait-a")
    first = site.start("--drain", ready=False)
    site.noted("begun wait-a", 10)
    refused = site.run("up", "--drain")
    assert refused.returncode == 75
    assert len(refused.stderr.splitlines()) == 1
    before = _children_seconds()
    passed = site.run("up", "--drain", "--if-not-running")
    assert (passed.returncode, passed.stdout, passed.stderr) == (0, "", "")
    # Of the processor: on a machine with nothing else to do it is what the clock says, too.
    assert _children_seconds() - before < 0.3
    site.release("wait-a")
    assert first.wait(10) == 0


def test_the_line_of_a_crontab_runs_where_a_shell_knows_nothing(tmp_path: Path) -> None:
    odd = tmp_path / "it's 100% a $HOME"
    odd.mkdir()
    site = Site(odd)
    site.handlers(ONE)
    site.configure(q={})
    site.write("q", "a", "b")
    said = site.run("export", "cron", BROKERRUN_NAME="nightly")
    assert said.returncode == 0
    when, command = said.stdout[:10], said.stdout[10:].rstrip("\n")
    assert when == "* * * * * "
    assert "%" not in command.replace("\\%", "")
    script = command.replace("\\%", "%")  # as cron hands it to the shell
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, env=path, cwd="/", timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert site.notes() == ["begun a", "begun b"]
    assert (odd / ".broker.db.nightly.slots").exists()
    site.close()


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
