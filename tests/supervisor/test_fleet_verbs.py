"""A running fleet is scaled, paused, drained and restarted by command."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from supervised import Site, gone, lives, open_files
from support import eventually

from brokerrun.supervisor.config import load
from brokerrun.supervisor.control import ask
from brokerrun.supervisor.status import instance_of

ONE = """
    def q(job):
        note("begun", job.body, os.getpid())
        if job.body.startswith("wait"):
            await_file(job.body)
        note("done", job.body)

    other = q
"""


def test_what_runs_by_one_file_is_not_changed_by_another(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={}, other={})
    site.start()
    other = site.folder / "other.toml"
    other.write_text(Path(site.config).read_text())
    for words in (["reload"], ["scale", "q=2", "--save"], ["scale", "q=2"]):
        done = site.run(*words, config=str(other))
        assert done.returncode == 78, words
        assert done.stderr.endswith(f"runs {site.config}\n")
    assert other.read_text() == Path(site.config).read_text()
    assert len(site.workers("q")) == 1
    (site.folder / "link.toml").symlink_to(site.config)
    assert site.run("scale", "q=2", config=str(site.folder / "link.toml")).returncode == 0


@pytest.mark.parametrize("output", ["inherit", "prefix"])
def test_where_descriptors_are_too_few_the_rest_of_the_fleet_waits_for_them(
    site: Site, output: str
) -> None:
    site.handlers(ONE)
    site.configure(q={"output": output})
    site.start()
    supervisor = site.supervisor.pid
    most = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    few = len(open_files(supervisor)) + 30
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (few, most[1]))
    assert site.run("scale", "q=20", "--timeout", "1s").returncode == 124
    rows = site.workers("q")
    assert 1 < sum(row["state"] == "idle" for row in rows) < 20
    assert "Too many open files" in {row["reason"] for row in rows}
    assert len(open_files(supervisor)) < few
    site.write("q", "a")
    site.noted("done a")
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, most)
    eventually(lambda: [row["state"] for row in site.workers("q")] == ["idle"] * 20)
    assert "Traceback" not in site.log()


def site_of(site: Site, **workers: Any) -> Site:
    site.handlers(ONE)
    site.configure(**workers)
    site.start(ready=not any(keys.get("paused") for keys in workers.values()))
    return site


def does(site: Site, *arguments: str) -> Any:
    done = site.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def states(site: Site, worker: str = "q") -> list[str]:
    return [row["state"] for row in site.workers(worker)]


# ----------------------------------------------------------------------------------------- scale


def test_scale_up_and_down_leaves_those_that_stay_alone(site: Site) -> None:
    site_of(site, q={"processes": 2}, other={})
    before, others = site.pids("q"), site.pids("other")
    assert does(site, "scale", "q=5")["workers"]["q"] == {"processes": 5, "paused": False}
    assert site.pids("q")[:2] == before
    assert len(site.pids("q")) == 5
    does(site, "scale", "q=-4")
    eventually(lambda: site.pids("q") == before[:1])
    does(site, "scale", "q=+1", "other=2")
    assert (len(site.pids("q")), len(site.pids("other"))) == (2, 2)
    assert site.pids("other")[:1] == others
    assert site.stop() == 0
    assert "worker_died" not in site.log()


def test_who_is_scaled_away_finishes_its_message_beyond_its_grace(site: Site) -> None:
    site_of(site, q={"grace": "50ms"})
    site.write("q", "wait-a")
    site.noted_first("begun")
    does(site, "scale", "q=0")
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 0.3)
    assert states(site) == ["retiring"]
    site.release("wait-a")
    site.empty("q")
    eventually(lambda: site.workers("q") == [])
    site.write("q", "m")
    does(site, "scale", "q=1")
    site.empty("q")
    assert "worker_died" not in site.log()


def test_the_slots_of_scaled_workers_survive_a_kill_of_the_supervisor(site: Site) -> None:
    site_of(site, q={"prefetch": 1})
    does(site, "scale", "q=9")
    idents = site.write("q", *[f"wait-{n}" for n in range(9)])
    eventually(lambda: len(site.notes("begun")) == 9)
    pids = site.pids("q")
    site.supervisor.kill()
    eventually(gone(pids))
    for n in range(9):
        site.release(f"wait-{n}")
    site.start()
    site.empty("q", 10)
    for ident in idents:  # each was in the hand of one, and that is known from its slot
        assert site.outcomes(ident) == ["lost"]
    assert all(site.notes().count(f"done wait-{n}") == 1 for n in range(9))


@pytest.mark.slow
def test_a_kill_at_any_moment_of_scaling_loses_nothing(site: Site) -> None:
    site_of(site, q={"processes": 2})
    bodies = [f"m{n}" for n in range(2000)]
    for round_ in range(20):
        site.write("q", *bodies[round_ * 100 : round_ * 100 + 100])
        ask = site.begin("scale", f"q={10 + round_}")
        seen = len(site.pids("q")) + round_ % 5
        eventually(lambda: len(site.pids("q")) > seen or ask.poll() is not None)  # noqa: B023
        site.supervisor.kill()
        ask.wait(20)
        site.start()
    site.empty("q", 20)
    done = [line.split()[1] for line in site.notes("done")]
    assert set(done) == set(bodies)
    assert len(done) <= len(bodies) + 20 * 30  # each process repeats one at most


@pytest.mark.parametrize("boot_timeout", ["1s", "30s"])
def test_who_was_never_started_for_want_of_a_template_can_go(site: Site, boot_timeout: str) -> None:
    site_of(site, q={"boot_timeout": boot_timeout})
    before = site.pids("q")
    site.handlers("1 / 0\n")
    os.kill(site.templates()[0], signal.SIGKILL)
    eventually(lambda: "ZeroDivisionError" in site.log(), 10)
    site.begin("scale", "q=60")
    eventually(lambda: len(states(site)) == 60)
    if boot_timeout == "1s":
        eventually(lambda: "worker_boot_timeout" in site.log())
    does(site, "scale", "q=1")
    eventually(lambda: site.pids("q") == before)
    assert len(site.workers("q")) == 1
    assert site.stop() == 0


WRONG = {
    "nobody=2": "no worker 'nobody'",
    "q=many": "expected a number like 4, +2 or -1, got 'many'",
    "q=-9": "expected 0 to 1000 processes, got -8",
    "q": "expected NAME=4",
}


def test_what_cannot_be_scaled_is_said(site: Site) -> None:
    site_of(site, q={})
    for change, reason in WRONG.items():
        done = site.run("scale", change)
        assert done.returncode == 64
        assert reason in done.stderr
        assert done.stdout == ""


def test_save_changes_one_number_and_keeps_the_comments(site: Site) -> None:
    site_of(site, q={"processes": 1}, other={})
    file = site.folder / "workers.toml"
    text = "# ours\n" + file.read_text()
    text = text.replace("processes = 1", "processes = 1   # as many as the mail server bears")
    file.write_text(text)
    does(site, "scale", "q=3", "--save")
    assert file.read_text() == text.replace("processes = 1 ", "processes = 3 ")
    site.stop()
    site.start()
    assert len(site.pids("q")) == 3


# ------------------------------------------------------------------------------ pause and resume


def test_a_paused_worker_finishes_and_takes_nothing_until_resumed(site: Site) -> None:
    site_of(site, q={"prefetch": 4}, other={})
    site.write("q", "wait-a", "m1", "m2")
    site.noted_first("begun")
    ask = site.begin("pause", "q")
    eventually(lambda: states(site) == ["retiring"])
    site.write("other", "o1")
    site.noted("done o1")
    assert ask.poll() is None  # it waits for what is in hand
    site.release("wait-a")
    assert ask.wait(5) == 0
    assert states(site) == ["paused"]
    assert site.status()["state"] == "up"
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m1", 0), ("m2", 0)]
    site.write("q", "m3")
    site.write("other", "o2")
    site.noted("done o2")
    assert len(site.there("q")) == 3
    does(site, "resume", "q")
    site.empty("q")
    assert site.notes().count("done wait-a") == 1
    assert "worker_died" not in site.log()


def test_a_message_over_its_timeout_ends_though_its_worker_is_paused(site: Site) -> None:
    site_of(site, q={"timeout": "700ms", "max_attempts": 1})
    (ident,) = site.write("q", "wait-a")
    site.noted_first("begun")
    does(site, "pause", "q")
    assert states(site) == ["paused"]
    assert site.outcomes(ident) == ["timeout"]


def test_a_pause_survives_a_killed_supervisor_and_so_does_a_resume(site: Site) -> None:
    site_of(site, q={"paused": True}, other={})
    eventually(lambda: states(site) == ["paused"])
    does(site, "resume", "q")
    does(site, "pause", "other")
    site.stop(signal.SIGKILL)
    site.start(ready=False)
    eventually(lambda: states(site, "q") == ["idle"], 10)
    assert states(site, "other") == ["paused"]


@pytest.mark.parametrize(("before", "said"), [("pause", "resume"), ("resume", "pause")])
def test_what_is_said_during_the_start_goes_before_what_was_said_before_it(
    site: Site, before: str, said: str
) -> None:
    site_of(site, q={})
    instance = instance_of(load(site.config))
    assert instance is not None
    ask(instance.socket, {"do": before, "names": ["q"]}, 10)
    site.stop()
    known = len(site.log())
    with closing(sqlite3.connect(site.database, isolation_level=None)) as other:
        other.execute("begin immediate")  # so that the start takes its time
        site.start(ready=False)
        eventually(lambda: os.path.exists(instance.socket), 10)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(instance.socket)
            connection.sendall(json.dumps({"do": said, "names": ["q"]}).encode() + b"\n")
            eventually(lambda: f"worker_{said.rstrip('e')}ed" in site.log()[known:], 4)
        other.execute("rollback")
    wanted = ["paused" if said == "pause" else "idle"]
    eventually(lambda: (site.status() or {}).get("state") == "up", 10)
    eventually(lambda: states(site) == wanted)
    site.stop(signal.SIGKILL)
    site.start(ready=False)
    eventually(lambda: states(site) == wanted, 10)


def test_a_drain_of_one_worker_empties_its_queue_and_pauses_it(site: Site) -> None:
    site_of(site, q={}, other={})
    site.write("q", "wait-a", *[f"m{n}" for n in range(50)])
    ask = site.begin("drain", "q")
    site.noted_first("begun")
    assert ask.poll() is None
    site.release("wait-a")
    assert ask.wait(10) == 0
    assert not site.there("q")
    assert states(site) == ["paused"]
    assert site.run("drain", "q").returncode == 64
    site.write("other", "o")
    site.noted("done o")


def test_a_drain_that_takes_too_long_pauses_nothing(site: Site) -> None:
    site_of(site, q={})
    site.write("q", "wait-a")
    done = site.run("drain", "q", "--timeout", "300ms")
    assert done.returncode == 124
    assert "nothing was paused" in done.stderr
    site.release("wait-a")
    site.empty("q")
    eventually(lambda: states(site) == ["idle"])


def test_a_drain_of_all_ends_the_supervisor(site: Site) -> None:
    site_of(site, q={}, other={})
    site.write("q", *[f"m{n}" for n in range(50)])
    assert site.run("drain").returncode == 0
    assert site.ends(5) == 0
    assert not site.there("q")


def test_a_run_that_drains_does_not_wait_for_a_paused_worker(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"paused": True}, other={})
    site.write("q", "m")
    site.write("other", "o")
    site.start("--drain", ready=False)
    assert site.ends(10) == 0
    assert site.notes("done") == ["done o"]
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m", 0)]


# --------------------------------------------------------------------------------------- restart


def test_a_restart_rolls_without_a_gap_and_burns_nothing(site: Site) -> None:
    site_of(site, q={"processes": 4}, other={})
    before, others = site.pids("q"), site.pids("other")
    site.write("q", *[f"m{n}" for n in range(200)])
    does(site, "restart", "q")
    eventually(lambda: len(site.pids("q")) == 4 and not set(site.pids("q")) & set(before))
    assert site.pids("other") == others
    site.empty("q", 10)
    assert sorted(site.notes("done")) == sorted(f"done m{n}" for n in range(200))
    assert "worker_died" not in site.log()


def test_one_process_is_restarted(site: Site) -> None:
    site_of(site, q={"processes": 3})
    first, second, third = site.pids("q")
    does(site, "restart", "q.2")
    eventually(lambda: not lives(second))
    assert {first, third} < set(site.pids("q"))
    assert site.run("restart", "q.9").returncode == 64


def test_a_restart_waits_for_messages_and_one_now_gives_them_back(site: Site) -> None:
    site_of(site, q={})
    (ident,) = site.write("q", "wait-a")
    site.noted_first("begun")
    does(site, "restart", "q")  # its successor is ready; the old one finishes
    assert sorted(states(site)) == ["idle", "retiring"]
    old = site.pids("q")
    does(site, "restart", "q", "--now")
    eventually(gone(old))
    eventually(lambda: len(site.notes("begun")) == 2)
    site.release("wait-a")
    site.empty("q")
    assert site.outcomes(ident) == []
    assert "worker_died" not in site.log()


def test_a_process_is_ready_before_the_one_it_follows_is_told(site: Site) -> None:
    """The successors hang before they are ready: the old ones go on working."""
    site.handlers("""
        os.register_at_fork(
            after_in_child=lambda: os.path.exists(HERE + "/slow") and time.sleep(0.7)
        )

        def q(job):
            note("done", job.body)
        """)
    site.configure(q={"processes": 2})
    site.start()
    before = site.pids("q")
    site.release("slow")
    ask = site.begin("restart", "q")
    eventually(lambda: "booting" in states(site))
    site.write("q", "m")
    site.noted("done m")
    assert set(before) <= set(site.pids("q"))
    (site.folder / "slow").unlink()
    assert ask.wait(10) == 0
