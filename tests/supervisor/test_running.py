"""A fleet that starts, stops, drains, loses its parts, and says how it is."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import until
from supervised import Site, gone, lives, open_files
from support import eventually, sleeps

ONE = """
    def q(job):
        note("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
        note("done", job.body)
"""

# ---------------------------------------------------------------------- several processes at once


def test_what_waits_behind_a_hanging_message_is_handled_by_the_other_process(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"processes": 2, "prefetch": 8})
    site.write("q", "wait-a", *[f"m{n}" for n in range(7)])
    begun = time.monotonic()
    site.start(ready=False)
    site.noted("begun wait-a", 10)
    begun = time.monotonic()
    for n in range(7):
        site.noted(f"done m{n}")
    assert time.monotonic() - begun < 2.5
    assert "done wait-a" not in site.notes()
    site.release("wait-a")
    site.empty("q")
    assert sorted(site.notes("done")) == sorted(["done wait-a", *[f"done m{n}" for n in range(7)]])
    assert site.stop() == 0


def test_what_was_done_before_a_hanging_message_is_acknowledged_meanwhile(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"prefetch": 8})
    site.write("q", "m0", "m1", "wait-a", "m2")
    site.start(ready=False)
    eventually(lambda: [m.body for m in site.there("q")] == ["wait-a", "m2"], 10)
    os.kill(site.pids()[0], signal.SIGKILL)
    site.release("wait-a")
    site.empty("q")
    assert [site.notes().count(f"done m{n}") for n in range(3)] == [1, 1, 1]


def test_of_many_idle_processes_the_first_takes_what_comes(site: Site) -> None:
    site.handlers("def q(job):\n    note('by', os.getpid())\n")
    site.configure(q={"processes": 8})
    site.start()
    for n in range(20):
        until(time.monotonic() + 0.03)  # all sleep again
        site.write("q", str(n))
        eventually(lambda: len(site.notes("by")) == n + 1)  # noqa: B023
    first = next(row["pid"] for row in site.workers() if row["number"] == 1)
    assert site.notes("by").count(f"by {first}") > 12


def test_a_worker_finds_its_slot_also_where_the_name_of_their_file_is_gone(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"prefetch": 8})
    site.start()
    os.remove(f"{site.database}.default.slots")
    before = site.pids()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: site.pids() not in ([], before), 10)
    site.write("q", "m0", "m1", "wait-a", "m2")
    # What was done before the one that hangs is told by the slot alone.
    eventually(lambda: [m.body for m in site.there("q")] == ["wait-a", "m2"], 10)
    site.release("wait-a")
    site.empty("q")
    assert site.stop() == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_keep_nobody_from_work(site: Site, closed: str) -> None:
    site.handlers("""
        def q(job):
            print(job.body, flush=True)
            note("opened", *[os.readlink(f"/proc/self/fd/{n}") == "/dev/null" for n in range(3)])
    """)
    site.configure(q={})
    site.write("q", "m")
    up = f"exec {sys.executable} -m brokerrun up -c {site.config} --drain {closed}"
    ended = subprocess.run(up, shell=True, stdin=subprocess.DEVNULL, timeout=20)
    assert (ended.returncode, site.ids("q"), len(site.notes("opened"))) == (0, [], 1)
    if "<&-" in closed:
        assert site.notes() == ["opened True True True"]


def test_two_supervisors_of_different_names_share_the_work_without_doubles(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"processes": 2})
    bodies = [f"m{n}" for n in range(400)]
    site.start()
    other = site.start(ready=False, BROKERRUN_NAME="second")
    eventually(lambda: site.log().count("event=supervisor_started") == 2, 10)
    for body in bodies:
        site.write("q", body)
    site.empty("q", 20)
    assert sorted(site.notes("done")) == sorted(f"done {body}" for body in bodies)
    other.terminate()
    assert other.wait(10) == 0


def test_each_of_two_supervisors_recovers_its_own(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    first = site.start()
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    second = site.start(ready=False, BROKERRUN_NAME="second")
    eventually(lambda: site.log().count("event=supervisor_started") == 2, 10)
    site.write("q", "m1")
    site.noted("done m1")  # the second one works beside the first, and takes nothing from it
    assert site.notes().count("begun wait-a") == 1
    first.kill()
    site.noted("begun wait-a", 5, times=2)  # and inherits when it is gone
    site.release("wait-a")
    site.empty("q")
    second.terminate()
    assert second.wait(10) == 0


def test_a_second_supervisor_of_the_same_name_is_refused(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    done = site.run("up")
    assert done.returncode == 75
    assert "another supervisor runs" in done.stderr
    site.write("q", "m")
    site.noted("done m")


# -------------------------------------------------------------------------------------- stopping


def test_term_to_the_whole_group_in_the_middle_of_a_job_lets_it_finish(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("begun", job.body)
            child = subprocess.Popen(["sleep", "0.3"])
            while not job.stopping:
                time.sleep(0.005)
            note("stopping", job.body)
            note("status", child.wait())
        """)
    site.configure(q={"processes": 2})
    site.write("q", "a", "b")
    process = site.start()
    site.noted("begun a")
    site.noted("begun b")
    site.write("q", "never")
    pids = [child.pid for child in site.children()]
    os.killpg(process.pid, signal.SIGTERM)
    assert site.ends() == 0
    assert sorted(site.notes("stopping")) == ["stopping a", "stopping b"]
    assert site.notes("status") == ["status 0", "status 0"]
    assert gone(pids)()
    assert [(m.body, m.attempts) for m in site.there("q")] == [("never", 0)]


def test_what_was_claimed_and_not_begun_is_released_unburned_on_term(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"prefetch": 8})
    site.write("q", "wait-a", "m1", "m2")
    site.start(ready=False)
    site.noted("begun wait-a", 10)
    site.supervisor.terminate()
    eventually(lambda: "supervisor_stopping" in site.log())
    site.release("wait-a")
    assert site.ends() == 0
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m1", 0), ("m2", 0)]
    assert site.notes() == ["begun wait-a", "done wait-a"]


def test_a_message_that_outlasts_its_grace_is_killed_and_released_unburned(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"grace": "200ms"})
    ident = site.write("q", "wait-a")[0]
    site.start(ready=False)
    site.noted("begun wait-a", 10)
    assert site.stop(within=3) == 0
    assert [(m.body, m.attempts) for m in site.there("q")] == [("wait-a", 0)]
    assert site.outcomes(ident) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_and_burns_nothing(site: Site, signum: int) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.write("q", "wait-a")
    site.start(ready=False)
    site.noted("begun wait-a", 10)
    pids = [child.pid for child in site.children()]
    site.supervisor.send_signal(signum)
    eventually(lambda: "supervisor_stopping" in site.log())
    begun = time.monotonic()
    assert site.stop(signum) == 0
    assert time.monotonic() - begun < 1.5
    assert gone(pids)()
    assert [(m.body, m.attempts) for m in site.there("q")] == [("wait-a", 0)]


def fill_disk(site: Site) -> None:
    """Let nobody of the fleet write to the database any more, as where its disk is full."""
    size = os.path.getsize(site.database + "-wal")
    for pid in (site.supervisor.pid, *site.pids()):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_on_a_full_disk_is_bounded_and_the_next_start_gives_back(
    site: Site, signals: int
) -> None:
    site.handlers(ONE)
    site.configure(q={"grace": "500ms"})
    site.start()
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    fill_disk(site)
    begun = time.monotonic()
    for _ in range(signals):
        site.supervisor.send_signal(signal.SIGTERM)
        eventually(lambda: "supervisor_stopping" in site.log())
    assert site.ends() == 69
    assert time.monotonic() - begun < (8 if signals == 1 else 3)
    assert site.log().count("event=store_failed") == 1
    site.release("wait-a")
    site.start()
    site.empty("q")
    assert site.notes("done") == ["done wait-a"]


def test_that_the_store_is_waited_for_is_said_once(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    fill_disk(site)
    site.release("wait-a")
    site.noted("done wait-a")
    eventually(lambda: "store_waited_for" in site.log())
    until(time.monotonic() + 1)
    assert site.log().count("store_waited_for") == 1


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6])
def test_term_during_the_import_of_slow_handlers_ends_soon(site: Site, seconds: float) -> None:
    site.handlers("note('imports'); time.sleep(30)\n" + "def q(job): ...\n")
    site.configure(q={})
    site.start(ready=False)
    site.noted("imports", 10)
    pids = [child.pid for child in site.children()]
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > seconds)
    assert site.stop(within=2) == 0
    eventually(gone(pids), 1)


def test_a_stop_while_a_message_is_over_its_timeout_is_obeyed(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("begun")
            signal.signal(signal.SIGTERM, lambda number, frame: note("termed"))
            while True:
                time.sleep(0.01)
        """)
    site.configure(q={"timeout": "300ms"})
    site.write("q", "m")
    site.start(ready=False)
    site.noted("termed", 10)
    assert site.stop(within=3) == 0


def test_down_stops_gracefully_and_returns_when_all_is_gone(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.write("q", "m")
    site.start()
    site.noted("done m")
    pids = [child.pid for child in site.children()]
    assert site.run("down").returncode == 0
    assert site.ends(1) == 0
    assert gone(pids)()
    assert site.run("down").returncode == 3


def test_nothing_is_left_beside_the_database_but_the_slots_and_the_lock(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    site.write("q", "m")
    site.empty("q")
    assert site.stop() == 0
    site.broker.close()
    left = {path.name for path in site.folder.iterdir() if path.name.startswith(".broker")}
    assert left == {".broker.db", ".broker.db.lock", ".broker.db.default.slots"}
    assert not list((site.folder / "run").iterdir())


# ------------------------------------------------------------------------------- handlers' imports


def test_handlers_that_cannot_be_imported_end_the_first_start_and_burn_nothing(site: Site) -> None:
    site.handlers("import nowhere_to_be_found\n")
    site.configure(q={}, other={"handler": "absent:handle"})
    site.write("q", "m")
    site.start(ready=False)
    assert site.ends() == 78
    assert "workers.q.handler: cannot import module 'handlers'" in site.log()
    assert "workers.other.handler: cannot import module 'absent'" in site.log()
    assert site.log().count("Traceback") == 1
    assert site.log().count('File "') == 1  # the one where it is
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m", 0)]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit(1)"])
def test_an_import_that_ends_its_process_is_named(site: Site, end: str) -> None:
    site.handlers(end + "\n")
    site.configure(q={})
    site.start(ready=False)
    assert site.ends() == 78
    assert "workers.q.handler: " in site.log()


def test_env_and_folder_of_each_worker_are_seen_while_its_module_is_imported(site: Site) -> None:
    (site.folder / "elsewhere").mkdir()
    text = """
        SEEN = (os.environ.get("COLOUR"), os.getcwd())

        def a(job):
            note("seen", job.queue, *SEEN)

        b = c = a
        """
    site.handlers(text)
    site.configure(
        a={"env": {"COLOUR": "red"}},
        b={"env": {"COLOUR": "blue"}, "cwd": "elsewhere"},
        c={},
    )
    for queue in "abc":
        site.write(queue, "m")
    site.start()
    site.noted(f"seen a red {site.folder}")
    site.noted(f"seen b blue {site.folder / 'elsewhere'}")
    site.noted(f"seen c None {site.folder}")


# ------------------------------------------------------------------------ a template that is lost


def test_a_killed_template_costs_no_worker_and_new_ones_can_start(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={"processes": 2})
    site.start()
    before, template = site.pids(), site.templates()[0]
    os.kill(template, signal.SIGKILL)
    eventually(lambda: site.templates() not in ([], [template]))
    assert site.pids() == before
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(site.pids()) == 2 and before[0] not in site.pids())
    site.write("q", *[f"m{n}" for n in range(20)])
    site.empty("q")
    assert site.stop() == 0


def test_a_template_that_is_told_to_end_goes_on_while_its_supervisor_lives(site: Site) -> None:
    """A service manager signals every process: those that finish their work may need it yet."""
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    template = site.templates()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(template[0], signum)
    os.kill(site.pids()[0], signal.SIGKILL)
    site.write("q", "m")
    site.noted("done m")
    assert site.templates() == template


def test_an_import_that_fails_after_the_start_holds_its_worker_and_heals(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={}, other={"handler": "others:handle"})
    site.handlers("def handle(job): note('other', job.body)\n", "others")
    site.start()
    before = site.pids("q")
    site.handlers("1 / 0\n", "others")
    os.kill(site.templates()[0], signal.SIGKILL)
    os.kill(site.pids("other")[0], signal.SIGKILL)
    ident = site.write("other", "m")[0]
    eventually(lambda: "ZeroDivisionError" in site.log(), 10)
    assert site.pids("q") == before
    assert [(m.id, m.attempts) for m in site.there("other")] == [(ident, 0)]
    site.handlers("def handle(job): note('other', job.body)\n", "others")
    site.noted("other m", 15)
    assert site.stop() == 0


SLOW_FORK = """
    def slowly():
        note("forked", os.getpid(), os.getppid())
        if os.path.exists(HERE + "/slow"):
            time.sleep(0.4)

    os.register_at_fork(after_in_child=slowly)

    def q(job):
        note("done", job.body)
"""


@pytest.mark.parametrize("forks", [1, 2])
def test_what_a_template_forked_and_did_not_announce_does_not_survive_it(
    site: Site, forks: int
) -> None:
    """The template dies between its forks, or between the second one and the worker's hello."""
    site.handlers(SLOW_FORK)
    site.configure(q={})
    site.start()
    template = site.templates()[0]
    known = len(site.notes("forked"))
    site.release("slow")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: len(site.notes("forked")) == known + forks)
    forked = [int(line.split()[1]) for line in site.notes("forked")[known:]]
    os.kill(template, signal.SIGKILL)
    (site.folder / "slow").unlink()
    eventually(gone(forked))
    eventually(lambda: len(site.pids()) == 1 and site.workers()[0]["state"] == "idle")
    site.write("q", "m")
    site.noted("done m")
    assert site.supervisor.poll() is None
    assert site.stop() == 0


def test_a_hello_that_comes_together_with_the_end_of_the_template_harms_nobody(site: Site) -> None:
    """Both are heard in one round of the loop: the supervisor is stopped meanwhile."""
    site.handlers(SLOW_FORK)
    site.configure(q={})
    site.start()
    template = site.templates()[0]
    known = len(site.notes("forked"))
    site.release("slow")
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: len(site.notes("forked")) == known + 2)
    worker = int(site.notes("forked")[-1].split()[1])
    site.halt(site.supervisor.pid)
    os.kill(template, signal.SIGKILL)
    (site.folder / "slow").unlink()
    eventually(lambda: _waits_for_go(worker))
    site.supervisor.send_signal(signal.SIGCONT)
    eventually(lambda: len(site.pids()) == 1 and site.workers()[0]["state"] == "idle")
    site.write("q", "m")
    site.noted("done m")
    assert site.stop() == 0


def _waits_for_go(pid: int) -> bool:
    """Tell whether a worker said hello: it has its store open and sleeps."""
    return lives(pid) and any(".lock" in path for path in open_files(pid)) and sleeps(pid)


# ---------------------------------------------------------------------------------------- status


def status(site: Site, **env: str) -> tuple[int, Any]:
    done = site.run("status", "--json", **env)
    return done.returncode, json.loads(done.stdout)


def test_status_tells_workers_and_queues_while_it_runs_and_when_it_does_not(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("begun", job.body)
            if job.body == "fails":
                raise Dead("no")
            await_file(job.body)
        """)
    site.configure(q={"processes": 2})
    code, found = status(site)
    assert (code, found["state"], found["workers"]) == (3, "down", [])
    site.start()
    ident = site.write("q", "wait-a")[0]
    site.noted("begun wait-a")
    site.write("q", "fails")
    eventually(lambda: site.ids("q.dlq"))
    site.write("q", "later", delay=600)
    code, found = status(site)
    assert (code, found["state"], found["pid"]) == (0, "up", site.supervisor.pid)
    assert sorted(row["state"] for row in found["workers"]) == ["busy", "idle"]
    busy = next(row for row in found["workers"] if row["state"] == "busy")
    assert (busy["message"], busy["handled"], busy["restarts"]) == (str(ident), 0, 0)
    assert sum(row["failed"] for row in found["workers"]) == 1
    assert {row["pid"] for row in found["workers"]} == set(site.pids())
    row = found["queues"][0]
    assert (row["queue"], row["ready"], row["delayed"], row["running"], row["dead"]) == (
        "q",
        0,
        1,
        1,
        1,
    )
    assert row["oldest_seconds"] >= 0
    site.release("wait-a")
    eventually(lambda: sum(row["handled"] for row in site.workers()) == 1)
    assert site.stop() == 0
    code, found = status(site)
    assert (code, found["state"], found["pid"], found["workers"]) == (3, "down", None, [])
    assert (found["queues"][0]["delayed"], found["queues"][0]["dead"]) == (1, 1)
    assert found["stopped_at"] > found["started_at"]


def test_status_counts_restarts_and_names_the_reason(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    os.kill(site.pids()[0], signal.SIGKILL)
    eventually(lambda: site.workers()[0]["restarts"] == 1)
    row = site.workers()[0]
    assert row["reason"] == "worker killed by SIGKILL"


def test_status_of_a_supervisor_that_does_not_answer_says_so_in_time(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start()
    site.halt(site.supervisor.pid)
    begun = time.monotonic()
    code, found = status(site)
    assert (code, found["state"]) == (4, "silent")
    assert time.monotonic() - begun < 5
    site.supervisor.send_signal(signal.SIGCONT)
    code, found = status(site)
    assert (code, found["state"]) == (0, "up")


def test_status_of_a_supervisor_that_was_killed_is_down(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start().kill()
    eventually(lambda: status(site)[0] == 3)


def test_a_crash_loop_backs_off_floods_no_log_and_leaves_the_others_alone(site: Site) -> None:
    site.handlers("""
        def sick(job):
            note("struck", job.body)
            os._exit(7)

        def well(job):
            note("well", job.body)
        """)
    site.configure(
        instance={"crash_limit": "3/30s"},
        sick={"crashes": 1, "prefetch": 1},
        well={},
    )
    site.write("sick", *[f"m{n}" for n in range(500)])
    begun = time.monotonic()
    site.start(ready=False)
    row = eventually(
        lambda: next((r for r in site.workers("sick") if r["state"] == "backoff"), None)
    )
    assert row["reason"] == "worker left with exit status 7"
    assert 0 < row["next_start"] <= 60
    assert status(site)[0] == 4
    for n in range(20):
        site.write("well", f"w{n}")
        site.noted(f"well w{n}")
    eventually(lambda: time.monotonic() - begun > 6, 10)
    assert len(site.log().splitlines()) <= 20
    assert len(site.notes("struck")) <= 10
    assert site.stop() == 0


def test_a_module_that_ends_each_new_worker_holds_its_queue_and_burns_nothing(site: Site) -> None:
    site.handlers("""
        os.register_at_fork(after_in_child=lambda: os.path.exists(HERE + "/sick") and os._exit(9))

        def q(job):
            note("done", job.body)
        """)
    site.configure(instance={"crash_limit": "3/30s"}, q={"boot_timeout": "1s"})
    site.release("sick")
    site.write("q", "m")
    begun = time.monotonic()
    site.start(ready=False)
    eventually(lambda: any(row["state"] == "backoff" for row in site.workers()), 10)
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m", 0)]
    (site.folder / "sick").unlink()
    site.noted("done m", 20)
    assert len(site.log().splitlines()) <= 30
    assert time.monotonic() - begun < 20
    assert site.stop() == 0


# ----------------------------------------------------------------------------------------- drain


def test_a_drain_waits_for_retries_and_snoozes_but_not_for_delayed_messages(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("run", job.body, job.attempt)
            if job.body == "again" and job.attempt == 1:
                raise ValueError("once")
            if job.body == "tired" and not os.path.exists(HERE + "/awake"):
                open(HERE + "/awake", "w").close()
                raise Snooze(0.6)
        """)
    site.configure(q={"backoff": ["600ms"], "processes": 2})
    site.write("q", "again", "tired", *[f"m{n}" for n in range(20)])
    site.write("q", "later", delay=600)
    site.start("--drain", ready=False)
    assert site.ends(20) == 0
    assert site.notes().count("run again 2") == 1
    assert site.notes().count("run tired 1") == 2
    assert [m.body for m in site.there("q")] == ["later"]
    assert not any("later" in note for note in site.notes())


def test_a_drain_in_which_messages_died_says_so(site: Site) -> None:
    site.handlers("def q(job):\n    raise Dead('no')\n")
    site.configure(q={})
    site.write("q", "m")
    site.start("--drain", ready=False)
    assert site.ends(20) == 4
    assert len(site.ids("q.dlq")) == 1
    site.start("--drain", ready=False)
    assert site.ends(20) == 0  # the dead of another run are not its own


def test_a_drain_of_nothing_ends_soon(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.start("--drain", ready=False)
    assert site.ends(5) == 0


def test_a_drain_that_is_told_to_stop_stops(site: Site) -> None:
    site.handlers(ONE)
    site.configure(q={})
    site.write("q", "later-wait", "wait-a")
    site.start("--drain", ready=False)
    site.noted("begun wait-a", 10)
    site.supervisor.terminate()
    site.release("wait-a")
    assert site.ends() == 0


# ------------------------------------------------------------------------------- signals at boot


def test_terms_at_random_moments_of_boot_leave_no_worker_behind(site: Site, tmp_path: Path) -> None:
    """Signals are blocked over the fork: a worker hears each that comes after it."""
    site.handlers(ONE)
    site.configure(instance={"crash_limit": "1000/1s"}, q={"processes": 4})
    site.start()
    draw, seen = random.Random(7), set[int]()
    for _ in range(100):
        pids = [c.pid for c in site.children() if c.pid not in site.templates()]
        if pids:
            victim = draw.choice(pids)
            seen.add(victim)
            try:
                os.kill(victim, signal.SIGTERM)
            except ProcessLookupError:
                continue
    eventually(gone(list(seen)), 10)
    eventually(lambda: len(site.pids()) == 4 and not seen & set(site.pids()))
    site.write("q", *[f"m{n}" for n in range(40)])
    site.empty("q", 10)
    assert site.stop() == 0
