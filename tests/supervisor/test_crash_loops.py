"""Workers that die again and again, and imports that fail or hang once the fleet runs."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest
from supervised import Site
from support import eventually

SICK = """
    os.register_at_fork(after_in_child=lambda: os.path.exists(HERE + "/sick") and os._exit(9))

    def q(job):
        note("done", job.body)
"""


def looping(site: Site, *arguments: str, **instance: Any) -> Site:
    site.handlers(SICK)
    site.configure(instance={"crash_limit": "3/30s", **instance}, q={})
    site.release("sick")
    site.start(*arguments, ready=False)
    return site


def states(site: Site) -> list[str]:
    return [row["state"] for row in site.workers("q")]


def test_a_crash_loop_pauses_its_worker_where_it_is_to(site: Site) -> None:
    looping(site, on_crash_loop="pause")
    eventually(lambda: states(site) == ["paused"], 10)
    row = site.workers("q")[0]
    assert "crash loop of q.1: worker ended before it was ready" in row["reason"]
    (site.folder / "sick").unlink()
    assert site.run("resume", "q").returncode == 0
    assert states(site) == ["idle"]
    assert site.workers("q")[0]["reason"] != row["reason"]


def test_a_crash_loop_ends_the_instance_where_it_is_to(site: Site) -> None:
    looping(site, on_crash_loop="exit")
    assert site.ends(10) == 70
    assert "crash loop of " in site.log()


def test_a_drain_ends_where_a_worker_crashes_again_and_again(site: Site) -> None:
    site.write("q", "m")
    looping(site, "--drain")
    assert site.ends(10) == 70
    assert "crash loop of " in site.log()
    assert [(m.body, m.attempts) for m in site.there("q")] == [("m", 0)]


def test_a_drain_ends_where_a_handler_can_be_imported_no_more(site: Site) -> None:
    site.handlers("""
        def q(job):
            note("begun", job.body)
            await_file("go")
        """)
    site.configure(q={})
    site.write("q", "a", "b")
    site.start("--drain", ready=False)
    site.noted_first("begun")
    site.handlers("1 / 0\n")
    os.kill(site.templates()[0], signal.SIGKILL)
    eventually(lambda: "supervisor_failed" in site.log(), 10)
    site.release("go")
    assert site.ends(10) == 70
    assert "cannot be drained: q: " in site.log()


def costs(site: Site, seconds: float) -> float:
    """Let four processes crash; return the share of a core, after the first so many seconds."""
    site.handlers(SICK)
    site.configure(q={"processes": 4}, instance={"crash_backoff": "1s..4s"})
    site.release("sick")
    begun = time.monotonic()
    site.start(ready=False)
    eventually(lambda: states(site).count("backoff") == 4, 20)
    supervisor = psutil.Process(site.supervisor.pid)
    since, used = time.monotonic(), sum(supervisor.cpu_times()[:2])
    eventually(lambda: time.monotonic() - begun > seconds, seconds + 1)
    share = (sum(supervisor.cpu_times()[:2]) - used) / (time.monotonic() - since)
    assert len(site.log().splitlines()) <= 12
    (site.folder / "sick").unlink()
    healed = time.monotonic()
    eventually(lambda: states(site) == ["idle"] * 4, 10)
    assert time.monotonic() - healed < 4 + 1
    return share


@pytest.mark.slow
def test_a_crash_loop_of_fifteen_seconds(site: Site) -> None:
    share = costs(site, 15)
    print(f"{share:.2%} of a core, {len(site.log().splitlines())} lines")
    assert share < 0.01


def test_a_module_that_hangs_at_import_is_replaced_and_the_others_do_not_notice(
    site: Site,
) -> None:
    site.handlers("def q(job): note('done', job.body)\n")
    (site.folder / "apart").mkdir()
    hangs = "note('imports'); os.path.exists(HERE + '/sick') and time.sleep(99)\n"
    site.handlers(hangs + "def handle(job): note('done', job.body)\n", "hangs")
    site.configure(q={}, other={"handler": "hangs:handle", "boot_timeout": "700ms", "cwd": "apart"})
    site.start(ready=False)
    eventually(lambda: len(site.pids()) == 2, 20)
    before = site.pids("q")
    site.release("sick")
    for template in site.templates():
        if psutil.Process(template).cwd().endswith("apart"):
            os.kill(template, signal.SIGKILL)
    os.kill(site.pids("other")[0], signal.SIGKILL)
    eventually(lambda: "longer than boot_timeout" in site.log(), 10)  # it hung, and was ended
    site.write("q", "m")
    site.noted("done m")
    assert site.pids("q") == before
    (site.folder / "sick").unlink()
    site.write("other", "n")
    site.noted("done n", 15)
