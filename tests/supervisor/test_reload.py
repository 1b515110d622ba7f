"""`brokerrun reload` and SIGHUP: what changed is replaced, and nothing where it is at fault."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest
from supervised import Site, lives
from support import eventually

from brokerrun.core.backends import open_store
from brokerrun.core.model import Instance

CODE = """
    VERSION = {version!r}

    def q(job):
        note(VERSION, job.body, os.environ.get("COLOUR"))
        if job.body.startswith("wait"):
            await_file(job.body)

    other = q
"""


def code(site: Site, version: str) -> None:
    site.handlers(CODE.format(version=version))


def started(site: Site, **workers: Any) -> Site:
    code(site, "one")
    site.configure(**workers)
    site.start()
    return site


def reload(site: Site, *arguments: str) -> Any:
    """Reload, and return what becomes of each worker."""
    done = site.run("reload", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {c["worker"]: c["action"] for c in json.loads(done.stdout)["plan"]}


def handled_by(site: Site, queue: str, body: str) -> str:
    """Write a message, and return what its handler noted."""
    site.write(queue, body)
    eventually(lambda: [line for line in site.notes() if f" {body} " in line])
    return next(line for line in site.notes() if f" {body} " in line)


def test_a_reload_of_what_is_the_same_changes_nothing(site: Site) -> None:
    started(site, q={"processes": 2}, other={})
    before, templates = site.pids(), site.templates()
    for dry in ([], ["--dry-run"]) * 2:
        assert reload(site, *dry) == {"q": "same", "other": "same"}
    assert site.pids() == before
    eventually(lambda: len(site.templates()) == len(templates))


def test_processes_and_other_live_keys_restart_nobody(site: Site) -> None:
    started(site, q={"processes": 3}, other={})
    before = site.pids("q")
    site.configure(q={"processes": 2, "timeout": "1s", "grace": "9s"}, other={"processes": 2})
    assert reload(site) == {"q": "live", "other": "live"}
    eventually(lambda: site.pids("q") == before[:2])
    assert len(site.pids("other")) == 2
    site.write("q", "wait-a")  # the new timeout holds for a process that was there before
    eventually(lambda: "over its timeout of 1s" in site.log(), 10)


def test_the_env_of_one_worker_replaces_its_processes_only(site: Site) -> None:
    started(site, q={"processes": 2}, other={})
    before, others = site.pids("q"), site.pids("other")
    site.configure(q={"processes": 2, "env": {"COLOUR": "red"}}, other={})
    assert reload(site) == {"q": "roll", "other": "same"}
    eventually(lambda: not set(site.pids("q")) & set(before))
    assert site.pids("other") == others
    assert handled_by(site, "q", "m") == "one m red"


def test_new_code_comes_up_and_workers_come_and_go(site: Site) -> None:
    started(site, q={}, other={})
    code(site, "second")
    site.configure(q={}, third={"handler": "handlers:q"})
    assert reload(site, "--dry-run") == {"q": "roll", "third": "start", "other": "stop"}
    assert handled_by(site, "q", "m1") == "one m1 None"
    assert reload(site) == {"q": "roll", "third": "start", "other": "stop"}
    assert handled_by(site, "q", "m2") == "second m2 None"
    assert handled_by(site, "third", "m3") == "second m3 None"
    eventually(lambda: site.pids("other") == [])
    assert {row["queue"] for row in site.status()["queues"]} == {"q", "third"}


def test_an_old_process_finishes_its_message_while_the_new_one_works(site: Site) -> None:
    started(site, q={"grace": "50ms"})
    site.write("q", "wait-a")
    site.noted_first("one")
    code(site, "second")
    assert reload(site) == {"q": "roll"}
    assert handled_by(site, "q", "m") == "second m None"
    site.release("wait-a")
    site.empty("q")
    eventually(lambda: [row["state"] for row in site.workers("q")] == ["idle"])
    assert len(site.notes()) == 2


@pytest.mark.parametrize(
    "fault",
    ["1 / 0", pytest.param("os._exit(3)", marks=pytest.mark.slow), "time.sleep(99)"],
)
def test_code_that_cannot_be_imported_leaves_the_old_fleet(site: Site, fault: str) -> None:
    started(site, q={"boot_timeout": "1s"})
    before = site.pids()
    site.handlers(fault + "\n")
    done = site.run("reload")
    assert done.returncode == 70
    assert "workers.q.handler: " in done.stderr
    if fault == "1 / 0":
        assert done.stderr.count("Traceback") == 1
        assert "ZeroDivisionError: division by zero" in done.stderr
    assert site.pids() == before
    assert handled_by(site, "q", "m") == "one m None"
    os.kill(before[0], signal.SIGKILL)  # the old code is at hand for new processes, too
    assert handled_by(site, "q", "n") == "one n None"
    code(site, "healed")
    assert reload(site) == {"q": "roll"}
    assert handled_by(site, "q", "o") == "healed o None"


def test_a_file_with_faults_is_refused_with_all_of_them(site: Site) -> None:
    started(site, q={})
    before = site.pids()
    site.configure(q={"prosesses": 2, "grace": 7})
    done = site.run("reload")
    assert done.returncode == 78
    assert "workers.q.prosesses: unknown key" in done.stderr
    assert "workers.q.grace: expected a duration" in done.stderr
    site.supervisor.send_signal(signal.SIGHUP)
    eventually(lambda: "reload_refused" in site.log())
    site.configure(q={})
    assert site.pids() == before


def test_what_only_a_new_start_can_change_is_refused(site: Site) -> None:
    started(site, q={})
    before = site.pids()
    site.configure(instance={"control_mode": "0660"}, q={"env": {"A": "b"}})
    done = site.run("reload")
    assert done.returncode == 78
    assert "workers.toml:3: brokerrun.control_mode: cannot change while" in done.stderr
    assert site.pids() == before


def test_many_hups_are_few_reloads_and_the_last_file_counts(site: Site) -> None:
    started(site, q={})
    (before,) = site.pids()
    site.handlers(CODE.format(version="slow") + "    time.sleep(0.3)\n")
    for n in range(20):
        site.supervisor.send_signal(signal.SIGHUP)
        due = time.monotonic() + 0.02
        eventually(lambda: time.monotonic() > due)  # noqa: B023
        if n == 10:
            code(site, "last")
    assert reload(site) == {"q": "same"}  # it comes after all of them
    assert site.log().count("event=reloaded") <= 5
    eventually(lambda: before not in site.pids())
    assert handled_by(site, "q", "m") == "last m None"


def test_a_number_set_by_hand_and_a_pause_outlive_a_reload_of_other_keys(site: Site) -> None:
    started(site, q={}, other={})
    site.run("scale", "q=3")
    site.run("pause", "other")
    site.configure(q={"prefetch": 1}, other={"prefetch": 1})
    reload(site)
    eventually(lambda: len(site.pids("q")) == 3)
    assert [row["state"] for row in site.workers("other")] == ["paused"]
    site.configure(q={"prefetch": 1, "processes": 2}, other={"prefetch": 1})
    reload(site)
    eventually(lambda: len(site.pids("q")) == 2)


def test_a_stop_during_a_reload_is_obeyed(site: Site) -> None:
    started(site, q={})
    site.handlers("note('imports'); time.sleep(99)\n")
    ask = site.begin("reload")
    site.noted_first("imports")
    children = [child.pid for child in site.children()]
    assert site.stop(within=3) == 0
    eventually(lambda: not any(map(lives, children)), 2)
    assert ask.wait(5) == 3


def _versions(site: Site) -> int:
    return len({(words[0], words[2]) for words in map(str.split, site.notes())})


def reload_under_load(site: Site, seconds: float) -> None:
    """Reload new code and other settings all the while; count what became of the messages."""
    site.handlers("def handle(job): note('still', job.body, 'x')\n", "still")
    (site.folder / "apart").mkdir()
    still = {"handler": "still:handle", "cwd": "apart", "processes": 2}
    started(site, q={"processes": 2}, still=still)
    unchanged = site.pids("still")
    sent, begun, rounds, least = 0, time.monotonic(), 0, 10**9
    while (passed := time.monotonic() - begun) < seconds or (passed < 30 and _versions(site) < 3):
        code(site, "version" + "x" * (rounds % 7))
        env = {"COLOUR": str(rounds)} if rounds % 3 == 0 else {}
        site.configure(q={"processes": 2 + rounds % 2, "env": env}, still=still)
        site.supervisor.send_signal(signal.SIGHUP)
        before, due = len(site.notes()), time.monotonic() + 0.5
        while time.monotonic() < due:
            site.write("q", *[f"m{sent + n}" for n in range(5)])
            site.write("still", f"s{sent}")
            sent += 5
        rounds += 1
        least = min(least, len(site.notes()) - before)
    site.empty("q", 20)
    site.empty("still", 20)
    words = [line.split() for line in site.notes()]
    bodies = [f"m{n}" for n in range(sent)] + [f"s{n}" for n in range(0, sent, 5)]
    assert sorted(word[1] for word in words) == sorted(bodies)  # none lost, none doubled
    versions = _versions(site)
    assert versions > 2  # code of several rounds worked
    assert least > 0
    assert site.pids("still") == unchanged
    assert "worker_died" not in site.log()
    assert "message_settled" not in site.log()
    assert [site.ids(f"{queue}.dlq") for queue in ("q", "still")] == [[], []]
    print(f"{rounds} reloads, {site.log().count('event=reloaded')} carried out,")
    print(f"{sent} messages by {versions} versions, least in half a second: {least}")
    assert site.stop() == 0


def test_reloads_under_load_lose_double_and_burn_nothing(site: Site) -> None:
    reload_under_load(site, 5)


@pytest.mark.slow
def test_reloads_under_load_for_half_a_minute(site: Site) -> None:
    reload_under_load(site, 30)


def test_who_else_looks_sees_what_an_instance_serves_since(site: Site) -> None:
    started(site, q={})
    assert [row.workers for row in stored(site)] == ["q=1"]
    site.configure(q={"processes": 2}, stack={"handler": "handlers:q"})
    assert reload(site) == {"q": "live", "stack": "start"}
    assert [row.workers for row in stored(site)] == ["q=2,stack=1"]
    assert "event=reloaded workers=" in site.log()


def stored(site: Site) -> list[Instance]:
    store = open_store(site.database, create=False)
    try:
        return store.instances()
    finally:
        store.close()
