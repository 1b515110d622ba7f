"""One worker that takes from several queues, the first of them first."""

from __future__ import annotations

import os
import signal

from supervised import Site
from support import eventually

NOTES = """
    def urgent_first(job):
        note(job.queue, job.body)
        if job.body == "wait":
            await_file("go")
        if job.body == "fail":
            raise ValueError
        if job.body == "die":
            os.kill(os.getpid(), signal.SIGKILL)
"""
QUEUES = {"queues": ["urgent", "normal", "idle"], "backoff": ["1ms"]}


def start(site: Site, **keys: object) -> None:
    site.handlers(NOTES)
    site.configure(urgent_first={**QUEUES, **keys})


def test_the_first_queue_that_has_something_is_taken_from(site: Site) -> None:
    start(site, prefetch=1)
    site.write("normal", "wait", "a", "b")
    site.start()
    site.noted("normal wait")
    site.write("urgent", "u", "v")
    site.release("go")
    site.noted("normal b")
    assert site.notes() == ["normal wait", "urgent u", "urgent v", "normal a", "normal b"]
    site.write("idle", "late")  # while it sleeps
    site.noted("idle late")
    site.write("urgent", "late")
    site.noted("urgent late")


def test_what_fails_or_dies_goes_home_and_to_the_dead_of_its_own_queue(site: Site) -> None:
    start(site, max_attempts=2, crashes=2, mode="move")
    failed = site.write("normal", "fail") + site.write("urgent", "fail")
    died = site.write("normal", "die") + site.write("urgent", "die")
    site.start()
    for queue in ("normal", "urgent"):
        eventually(lambda queue=queue: len(site.there(f"{queue}.dlq")) == 2, 10)
        assert {message.body for message in site.there(f"{queue}.dlq")} == {"fail", "die"}
    for ident in failed:
        assert site.outcomes(ident) == ["failed", "failed"]
    for ident in died:
        assert site.outcomes(ident) == ["died", "died"]
    assert site.stop() == 0


def test_a_killed_supervisors_message_comes_back_to_its_own_queue(site: Site) -> None:
    start(site)
    site.write("normal", "wait")
    site.start()
    site.noted("normal wait")
    site.supervisor.kill()
    site.supervisor.wait()
    site.release("go")
    site.start()
    site.noted("normal wait", times=2)
    site.empty("normal")
    assert site.stop(signal.SIGTERM) == 0


def test_status_counts_each_queue_and_a_drain_waits_for_all(site: Site) -> None:
    start(site)
    site.write("normal", *"abc")
    site.write("idle", "d")
    site.start(ready=True)
    site.empty("normal")
    site.empty("idle")
    found = site.status()
    assert [row["queue"] for row in found["queues"]] == QUEUES["queues"]
    assert {row["queue"] for row in found["workers"]} == {"urgent,normal,idle"}
    assert site.stop() == 0
    site.write("urgent", "x")
    site.write("idle", "y")
    done = site.run("up", "--drain")
    assert (done.returncode, os.path.exists(site.database)) == (0, True)
    assert site.there("urgent") == site.there("idle") == []
    assert site.notes()[-2:] == ["urgent x", "idle y"]


def test_the_backlog_of_all_its_queues_counts(site: Site) -> None:
    start(site, processes={"min": 0, "max": 3, "backlog": 1, "up": "1ms"}, prefetch=1)
    site.write("normal", "wait", "wait")
    site.write("idle", "wait", "wait", "wait")
    site.start(ready=False)
    site.noted("idle wait", 10)
    site.noted("normal wait", times=2)
    site.release("go")
    assert site.stop() == 0
