"""Workers that are started by exec: at wish, and where an import left what no fork carries over."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest
from supervised import Site, gone, open_files
from support import eventually

HANDLER = """
    def q(job):
        note("begun", job.body)
        if job.body.startswith("wait"):
            await_file(job.body)
        note("done", job.body)
    """
THREAD = """
    THREAD = threading.Thread(target=threading.Event().wait, name="poller", daemon=True)
    THREAD.start()

    def q(job):
        note("done", job.body, THREAD.is_alive())
    """
STORE = """
    BROKER = Broker(HERE + "/.broker.db")
    BROKER.write("imports", "m")

    def q(job):
        BROKER.write("out", job.body)
    """


def test_a_thread_that_an_import_left_is_named_and_workers_have_one_of_their_own(
    site: Site,
) -> None:
    site.handlers(THREAD)
    site.configure(q={"processes": 2})
    site.start()
    site.write("q", "m")
    site.noted("done m True")
    why = "an import left threads: poller"
    assert json.loads(site.run("status", "--json").stdout)["spawned"] == {"q": why}
    assert f"q: spawned, not forked: {why}" in site.run("status").stdout
    assert site.log().count("event=workers_spawned") == 1
    assert site.stop() == 0


def test_a_store_that_an_import_left_open_loses_nothing(site: Site) -> None:
    site.handlers(STORE)
    site.configure(q={"processes": 2})
    site.start()
    bodies = [f"m{n}" for n in range(50)]
    site.write("q", *bodies)
    site.empty("q", 10)
    assert site.stop() == 0
    assert sorted(m.body for m in site.there("out")) == sorted(bodies)
    assert len(site.there("imports")) == 3  # the template's and each worker's
    assert f"an import left {site.database} open" in site.log()


def test_where_only_forking_is_allowed_that_is_refused(site: Site) -> None:
    site.handlers(THREAD)
    site.configure(instance={"start": "fork"}, q={})
    site.start(ready=False)
    assert site.ends() == 78
    sentence = 'brokerrun.preload: an import left threads: poller, and start = "fork"'
    assert sentence in site.log()
    assert sentence in site.run("check").stderr


def test_at_wish_all_are_spawned_and_live_and_die_as_forked_ones_do(site: Site) -> None:
    site.handlers(HANDLER)
    site.configure(instance={"start": "spawn"}, q={"processes": 2})
    site.start()
    assert "workers_spawned" not in site.log()
    assert site.status()["spawned"] == {"q": 'start = "spawn"'}
    first = site.pids()
    assert [open_files(pid).count("/dev/null") for pid in first] == [1, 1]
    assert {psutil.Process(pid).ppid() for pid in first} == {site.supervisor.pid}
    site.write("q", "wait-a")
    site.noted("begun wait-a")
    struck = next(row["pid"] for row in site.workers() if row["state"] == "busy")
    os.kill(struck, signal.SIGKILL)
    site.noted("begun wait-a", 5, times=2)
    site.release("wait-a")
    site.empty("q")
    eventually(lambda: len(site.pids()) == 2 and struck not in site.pids())
    pids = [child.pid for child in site.children()]
    site.supervisor.kill()
    eventually(gone(pids), 2)


def test_an_import_that_hangs_in_one_worker_is_ended_at_its_boot_timeout(site: Site) -> None:
    site.handlers("""
        if "brokerrun.supervisor.spawned" in sys.orig_argv and not os.path.exists(HERE + "/hung"):
            open(HERE + "/hung", "w").close()
            note("hung", os.getpid())
            time.sleep(60)

        def q(job):
            note("done", job.body)
        """)
    site.configure(instance={"start": "spawn"}, q={"boot_timeout": "2s"})
    site.write("q", "m")
    site.start(ready=False)
    site.noted("done m", 10)
    assert "event=worker_boot_timeout" in site.log()
    (hung,) = site.notes("hung")
    assert gone([int(hung.split()[1])])()
    assert site.stop() == 0


def test_an_import_that_fails_in_a_worker_alone_burns_nothing_and_is_told(site: Site) -> None:
    site.handlers("""
        if "brokerrun.supervisor.spawned" in sys.orig_argv:
            raise ValueError("only here")

        def q(job): ...
        """)
    site.configure(instance={"start": "spawn", "crash_limit": "1/30s"}, q={"processes": 4})
    site.write("q", "m")
    site.start(ready=False)
    eventually(lambda: {row["state"] for row in site.workers()} == {"backoff"}, 10)
    assert "only here" in site.log()
    reasons = {row["reason"] for row in site.workers()}
    assert reasons == {"worker left with exit status 78"}
    assert [m.attempts for m in site.there("q")] == [0]
    assert site.stop() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_supervisor_during_their_import_is_theirs(site: Site, signum: int) -> None:
    site.handlers("""
        if "brokerrun.supervisor.spawned" in sys.orig_argv:
            note("imports")
            time.sleep(60)

        def q(job): ...
        """)
    site.configure(instance={"start": "spawn"}, q={})
    site.start(ready=False)
    site.noted("imports", 10)
    pids = [child.pid for child in site.children()]
    if signum == signal.SIGKILL:
        site.supervisor.kill()
    else:
        assert site.stop(signum, within=3) == 0
    eventually(gone(pids), 1)
