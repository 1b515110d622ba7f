"""What an operator ends: one message, or the fleet at once; and what can be waited for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from supervised import Site, gone
from support import eventually

HANDLERS = """
    def q(job):
        note("begun", job.body, job.attempt)
        if job.body.startswith("wait"):
            await_file(job.body)
        if job.body == "once" and job.attempt == 1:
            raise ValueError("once")
        note("done", job.body)
"""


# A supervisor that declares a message late only when the next one is in hand.
BEHIND_TIME = """
import sys, time
from brokerrun.supervisor.slotfile import Slot
from brokerrun.cli.run import main

declare = Slot.declare_late

def declare_when_it_is_over(slot, seen):
    open("wait-a", "w").close()
    end = time.monotonic() + 5
    while slot.read().index == seen.index and time.monotonic() < end:
        time.sleep(0.001)
    declare(slot, seen)

Slot.declare_late = declare_when_it_is_over
sys.exit(main())
"""


def fleet(site: Site, **keys: Any) -> None:
    site.handlers(HANDLERS)
    site.configure(q={"backoff": ["100ms"], **keys})


# ---------------------------------------------------------------------------------------- cancel


def test_a_cancelled_message_is_tried_again_and_history_says_where_it_was(site: Site) -> None:
    fleet(site)
    site.start()
    (ident,) = site.write("q", "wait-a")
    site.noted("begun wait-a 1")
    begun = time.monotonic()
    done = site.run("cancel", str(ident))
    assert (done.returncode, time.monotonic() - begun < 3) == (0, True)
    assert done.stdout == f"message {ident} was cancelled in q.1: again in 0.1 s\n"
    attempt = site.last(ident)
    assert (attempt.outcome, attempt.error, attempt.died) == ("cancelled", "cancelled", 0)
    assert "in await_file\n" in (attempt.traceback or "")
    site.noted("begun wait-a 2")
    site.release("wait-a")
    site.empty("q")
    assert site.outcomes(ident) == ["cancelled"]


def test_a_cancelled_message_can_go_to_the_dead(site: Site) -> None:
    fleet(site)
    site.start()
    (ident,) = site.write("q", "wait-a")
    site.noted("begun wait-a 1")
    done = site.run("cancel", str(ident), "--dead", "--json")
    said = json.loads(done.stdout)
    assert said == {
        "id": str(ident),
        "process": "q.1",
        "then": "bury",
        "queue": "q.dlq",
        "delay": 0.0,
    }
    assert site.ids("q.dlq") == [ident]
    assert site.last(ident).outcome == "dead"


def test_cancels_are_no_crash_loop(site: Site) -> None:
    site.handlers(HANDLERS)
    site.configure(instance={"crash_limit": "1/30s"}, q={"prefetch": 1})
    site.start()
    for n in range(4):
        (ident,) = site.write("q", f"wait-{n}")
        site.noted(f"begun wait-{n} 1")
        site.ask({"do": "cancel", "id": ident, "dead": True})
    site.write("q", "m")
    site.noted("done m", 2)
    assert "crash_loop_began" not in site.log()


def test_what_no_handler_has_in_hand_is_refused_with_what_helps(site: Site) -> None:
    fleet(site, prefetch=2)
    site.write("q", "wait-a", "m")
    site.start()
    site.noted("begun wait-a 1")
    (waits,) = site.write("q", "m2", delay=600)
    claimed = site.ids("q")[1]
    early = site.run("cancel", str(claimed))
    assert early.returncode == 1
    refused = site.run("cancel", str(waits))
    assert refused.returncode == 1
    advice = f"broker -f {site.database} delete q -m {waits}"
    assert f"waits in q: `{advice}` deletes it" in refused.stderr
    done = subprocess.run([sys.executable, "-m", "brokerrun.cli.broker", *advice.split()[1:]])
    assert done.returncode == 0
    assert waits not in site.ids("q")
    unknown = site.run("cancel", str(waits))
    assert (unknown.returncode, f"there is no message {waits}" in unknown.stderr) == (1, True)
    assert site.run("cancel", "x").returncode == 64
    site.release("wait-a")
    site.empty("q")


def test_the_message_that_follows_a_cancelled_one_pays_nothing(site: Site) -> None:
    """The one to be cancelled ended between the look and the word: the next is in hand."""
    fleet(site, prefetch=2)
    first, second = site.write("q", "wait-a", "wait-b")
    with open(site.folder / "log", "ab") as log:
        command = [sys.executable, "-c", BEHIND_TIME, "up", "-c", site.config]
        site.adopted(subprocess.Popen(command, cwd=site.folder, stdout=log, stderr=log))
    site.noted("begun wait-a 1", 10)
    answer = site.ask({"do": "cancel", "id": first})
    assert "ended by itself meanwhile" in json.dumps(answer)
    site.noted("done wait-a")
    site.noted("begun wait-b 1", times=2)
    site.release("wait-b")
    site.empty("q")
    assert (site.outcomes(first), site.outcomes(second)) == ([], [])
    assert site.stop() == 0


def test_a_cancel_that_comes_too_late_harms_nobody(site: Site) -> None:
    """Messages end while they are cancelled: each runs to its end or is cancelled, never both."""
    site.handlers("""
        def q(job):
            note("begun", job.id)
            time.sleep(0.002)
            note("done", job.id)
    """)
    site.configure(instance={"crash_limit": "1000/1s"}, q={"max_attempts": 1, "prefetch": 8})
    site.start()
    idents = site.write("q", *["m"] * 300)
    cancelled = []
    for _ in range(100):
        row = site.workers()[0]
        if row["message"]:
            answer = site.ask({"do": "cancel", "id": int(row["message"])})
            cancelled += [int(answer["id"])] if "id" in answer else []
    site.empty("q", 10)
    done = [int(note.split()[1]) for note in site.notes("done")]
    assert sorted(site.ids("q.dlq")) == sorted(cancelled)
    assert set(done) | set(cancelled) == set(idents)
    assert len(done) == len(set(done))
    assert cancelled


# ------------------------------------------------------------------------------------------ down


def test_down_now_gives_back_what_is_in_hand_unburned(site: Site) -> None:
    fleet(site)
    site.write("q", "wait-a")
    site.start()
    site.noted("begun wait-a 1")
    pids = [child.pid for child in site.children()]
    done = site.run("down", "--now", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"pid": site.supervisor.pid})
    assert site.ends(1) == 0
    assert gone(pids)()
    assert [(m.body, m.attempts) for m in site.there("q")] == [("wait-a", 0)]


def test_down_says_when_it_takes_too_long(site: Site) -> None:
    fleet(site)
    site.write("q", "wait-a")
    site.start()
    site.noted("begun wait-a 1")
    assert site.run("down", "--timeout", "300ms").returncode == 124
    assert site.run("down", "--timeout", "3").returncode == 64
    assert site.run("down", "--now", "--timeout", "5s").returncode == 0


# ------------------------------------------------------------------------------------------ wait


def test_a_wait_ends_when_what_it_waits_for_is_so(site: Site) -> None:
    fleet(site, backoff=["700ms"])
    waiting = subprocess.Popen(
        [sys.executable, "-m", "brokerrun", "wait", "--ready", "-c", site.config],
    )
    site.start(ready=False)
    assert waiting.wait(15) == 0
    assert site.workers()[0]["state"] == "idle"
    site.write("q", "wait-a")
    assert site.run("wait", "--idle", "--timeout", "300ms").returncode == 124
    site.release("wait-a")
    done = site.run("wait", "--idle", "--json")
    assert (done.returncode, json.loads(done.stdout)["for"]) == (0, "idle")
    site.write("q", "once")
    eventually(lambda: site.notes("begun") == ["begun wait-a 1", "begun once 1"])
    assert site.run("wait", "--idle").returncode == 0
    assert site.run("wait", "--drained").returncode == 0
    assert "done once" in site.notes()


def test_what_waits_for_a_paused_worker_is_waited_for_by_nobody(site: Site) -> None:
    fleet(site)
    site.start()
    assert site.run("pause", "q").returncode == 0
    site.write("q", "once")
    for what in ("--ready", "--idle", "--drained"):
        done = site.run("wait", what, "--timeout", "5s")
        assert (done.returncode, done.stderr) == (0, "")
    assert site.run("resume", "q").returncode == 0
    assert site.run("wait", "--drained").returncode == 0
    assert "done once" in site.notes()


@pytest.mark.parametrize(("what", "status"), [("--ready", 124), ("--idle", 3), ("--drained", 3)])
def test_a_wait_for_nobody_ends_in_time(site: Site, what: str, status: int) -> None:
    fleet(site)
    assert site.run("wait", what, "--timeout", "300ms").returncode == status


# ------------------------------------------------------------------------- a fleet that changes


def test_a_message_of_a_process_that_has_its_successor_is_cancelled_too(site: Site) -> None:
    fleet(site)
    site.start()
    (ident,) = site.write("q", "wait-a")
    site.noted("begun wait-a 1")
    assert site.run("restart", "q").returncode == 0  # the old one finishes its message
    assert sorted(row["state"] for row in site.workers()) == ["idle", "retiring"]
    done = site.run("cancel", str(ident))
    assert (done.returncode, done.stderr) == (0, "")
    assert site.last(ident).outcome == "cancelled"
    site.noted("begun wait-a 2")
    site.release("wait-a")
    site.empty("q")
    assert site.stop() == 0


def test_a_worker_without_processes_is_ready_and_has_no_stack(site: Site) -> None:
    fleet(site)
    site.start()
    assert site.run("scale", "q=0").returncode == 0
    assert site.run("wait", "--ready").returncode == 0
    shown = site.run("stack", "q")
    assert (shown.returncode, shown.stdout, shown.stderr) == (1, "", "")
    assert site.run("stack", "q.1").returncode == 64
