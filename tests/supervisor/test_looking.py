"""What `brokerrun ps` and `stack` show of a running fleet, and that it goes on unharmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from supervised import Site

HANGS = """
    import re

    def q(job):
        note("begun", job.body)
        kind, _, seconds = job.body.partition(" ")
        end = time.monotonic() + float(seconds or 60)
        while time.monotonic() < end:
            globals()[kind]()
        note("done", job.body)

    def loop():
        for _ in range(1_000_000): pass  # long beside the step between two calls

    def sleep():
        time.sleep(0.2)

    def regex():
        re.match("(a+)+b", "a" * 24)

    def keeps_gil():
        ctypes.PyDLL(None).usleep(200_000)

    def gives_gil():
        ctypes.CDLL(None).usleep(200_000)
"""
KINDS = ["loop", "sleep", "regex", "keeps_gil", "gives_gil"]


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one fleet for those that only ask."""
    site = Site(tmp_path_factory.mktemp("common"))
    site.handlers(HANGS)
    site.configure(q={})
    site.start()
    yield site
    assert site.stop() == 0
    site.close()


def json_lines(site: Site, *arguments: str) -> list[Any]:
    done = site.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def timed_stack(site: Site, worker: str) -> tuple[float, Any]:
    """Ask over the socket: what a command costs to start is not the supervisor's."""
    begun = time.monotonic()
    (row,) = site.ask({"do": "stack", "worker": worker})["stacks"]
    return time.monotonic() - begun, row


def test_ps_shows_each_process_and_what_it_has_in_hand(site: Site) -> None:
    site.handlers(HANGS)
    site.configure(q={"processes": 2, "output": "prefix"})
    site.start()
    (ident,) = site.write("q", "sleep 5")
    site.noted("begun sleep 5")
    rows = {row["process"]: row for row in json_lines(site, "ps")}
    assert set(rows) == {"supervisor", "template", "scribe", "q.1", "q.2"}
    assert rows["supervisor"]["pid"] == site.supervisor.pid
    assert [rows["template"]["pid"]] == site.templates()
    busy = next(row for row in rows.values() if row["message"])
    assert (busy["message"], busy["phase"], busy["restarts"]) == (str(ident), "busy", 0)
    assert 0 <= busy["seconds"] <= busy["age"] < 60
    assert all(row["rss_bytes"] > 1_000_000 for row in rows.values())
    shown = site.run("ps").stdout.splitlines()
    assert len(shown) == 6
    assert shown[0].split()[:4] == ["PROCESS", "PID", "PHASE", "MESSAGE"]


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["--help"]])
def test_output_on_a_full_disk_is_one_sentence(site: Site, words: list[str]) -> None:
    site.configure(q={})
    where = [] if words == ["--help"] else ["-c", site.config]
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "brokerrun", *words, *where]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.stderr == b"brokerrun: error: standard output: No space left on device\n"
    assert done.returncode == 1


def test_ps_of_nobody_says_so(site: Site) -> None:
    site.configure(q={})
    done = site.run("ps")
    assert done.returncode == 3
    assert "no supervisor runs" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_stack_of_a_running_worker_is_shown_in_time_and_harms_nobody(
    common: Site, kind: str
) -> None:
    (ident,) = common.write("q", f"{kind} 1")
    common.noted(f"begun {kind} 1")
    before = common.pids()
    asked = [timed_stack(common, "q.1") for _ in range(3)]
    assert all(f"in {kind}" in row["stack"] for _, row in asked)
    assert all(row["stack"].count("most recent call first") == 1 for _, row in asked)
    assert {row["message"] for _, row in asked} == {str(ident)}
    assert max(seconds for seconds, _ in asked) < 0.5
    common.empty("q")
    assert common.notes()[-2:] == [f"begun {kind} 1", f"done {kind} 1"]
    assert (common.pids(), common.outcomes(ident)) == (before, [])


def test_the_stack_of_a_stopped_worker_is_missed_in_time(site: Site) -> None:
    site.handlers(HANGS)
    site.configure(q={"processes": 2})
    site.start()
    stopped = site.pids()[0]
    site.halt(stopped)
    done = site.run("stack", "q")
    assert done.returncode == 0
    assert "did not answer: is it stopped?" in done.stdout
    assert done.stdout.count("most recent call first") == 1
    assert site.run("stack", "q.1").returncode == 1
    os.kill(stopped, signal.SIGCONT)
    site.write("q", *["loop 0.01"] * 20)
    site.empty("q")


def test_a_worker_that_would_be_ended_by_the_signal_is_not_asked(site: Site) -> None:
    site.handlers("""
        def q(job):
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            note("begun")
            await_file("go")
            note("done")
    """)
    site.configure(q={})
    site.start()
    site.write("q", "m")
    site.noted("begun")
    row = site.ask({"do": "stack", "worker": "q"})["stacks"][0]
    assert (row["stack"], row["why"]) == (None, "it has no process that listens")
    site.release("go")
    site.noted("done")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"do": "stack", "worker": "nobody"}, "no worker 'nobody': expected one of q, "),
        ({"do": "stack", "worker": 7}, "request 'stack': Expected `str`, got `int`"),
        ({"do": "stack"}, "request 'stack': Object missing required field `worker`"),
        ({"do": ["ps"]}, "unknown request ['ps']: expected one of down, status, "),
        ({}, "unknown request None: expected one of down, status, "),
        ([], "expected one JSON object a line"),
    ],
)
def test_a_request_that_means_nothing_is_refused_and_costs_nothing(
    common: Site, request_: Any, reason: str
) -> None:
    assert reason in common.ask(request_)["error"]
    assert common.status()["state"] == "up"


def test_a_worker_that_does_not_exist_is_a_fault_of_usage(common: Site) -> None:
    done = common.run("stack", "nobody")
    assert done.returncode == 64
    assert "brokerrun: error: no worker 'nobody'" in done.stderr
