"""Schedules of real supervisors: one tick is one message, whoever runs and whoever dies."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from typing import Any

import pytest
from supervised import Site
from support import eventually

HANDLER = """
    def q(job):
        note("did", job.body)

    def slow(job):
        await_file("go")
        note("did", job.body)
"""
TICK = {"every": "1s", "queue": "ticks", "overlap": "allow"}


def configure(site: Site, worker: str = "q", **schedules: dict[str, Any]) -> None:
    """Write workers.toml: a worker, and the schedules."""
    site.handlers(HANDLER)
    site.configure(**{worker: {}})
    with open(site.config, "a") as file:
        for name, keys in schedules.items():
            lines = [f"{key} = {json.dumps(value)}\n" for key, value in keys.items()]
            file.write(f"\n[schedule.{name}]\n{''.join(lines)}")


def remembered(site: Site) -> int:
    """Return the last tick that is over, in whole seconds; 0 where the schedule has not begun."""
    found = site.broker.store.schedules()
    return found[0].last_at // 10**9 if found else 0


def began(site: Site) -> int:
    return int(eventually(lambda: remembered(site), 10))


def begin(site: Site) -> int:
    """Begin the schedule TICK before anybody runs, and return when, in whole seconds."""
    site.broker.store.begin_schedule("t", "every 1.0", time.time_ns())
    return remembered(site)


def messages(site: Site) -> int:
    return site.broker.stats("ticks").total


def each_tick_is_one_message(site: Site, first: int, count: int, within: float) -> None:
    """Wait until so many ticks after *first* are over, end all supervisors, and compare."""
    eventually(lambda: remembered(site) >= first + count, within)
    for process in site._processes:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
    assert messages(site) == remembered(site) - first >= count


def of_two_supervisors_each_tick_is_one_message(site: Site, count: int) -> None:
    configure(site, t=TICK)
    first = begin(site)
    site.start(ready=False)
    site.start(ready=False, BROKERRUN_NAME="second")
    eventually(lambda: site.log().count("event=supervisor_started") == 2, 10)
    each_tick_is_one_message(site, first, remembered(site) - first + count, count + 15)


def test_two_supervisors_and_one_schedule_make_one_message_a_tick(site: Site) -> None:
    of_two_supervisors_each_tick_is_one_message(site, 3)


@pytest.mark.slow
def test_two_supervisors_and_one_schedule_make_sixty_messages_of_sixty_ticks(site: Site) -> None:
    of_two_supervisors_each_tick_is_one_message(site, 60)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_supervisor_killed_again_and_again_loses_no_tick_and_doubles_none(
    site: Site, rounds: int
) -> None:
    configure(site, t=TICK)
    first = begin(site)
    site.start(ready=False)
    for _ in range(rounds):
        # Around a tick: that is where one could be lost or doubled.
        moment = random.gauss(0, 0.01) % 1
        eventually(lambda: abs(time.time() % 1 - moment) < 0.005, 5)  # noqa: B023
        site.supervisor.kill()
        site.supervisor.wait()
        site.start(ready=False)
    each_tick_is_one_message(site, first, remembered(site) - first + 2, 15)


def test_a_tick_comes_on_time(site: Site) -> None:
    # Not in step with the second in which the keeper does its other work.
    configure(site, t={**TICK, "every": "1400ms"})
    site.start(ready=False)
    step = 1_400 * 10**6

    def three_in_a_row() -> bool:
        late = [message.id % step / 10**9 for message in site.there("ticks")]
        return any(max(late[i : i + 3]) < 0.5 for i in range(len(late) - 2))

    eventually(three_in_a_row, 30)


def test_an_outage_of_an_hour_is_one_message(site: Site) -> None:
    configure(site, t={**TICK, "every": "20m"})
    site.start(ready=False)
    began(site)
    site.supervisor.kill()
    site.supervisor.wait()
    [seen] = site.broker.store.schedules()
    an_hour_ago = seen.last_at - 3_600 * 10**9
    assert site.broker.store.set_schedule("t", an_hour_ago, seen=seen.last_at)
    before = messages(site)
    site.start(ready=False)
    eventually(lambda: "event=schedule_sent schedule=t count=1 missed=" in site.log(), 10)
    assert messages(site) == before + 1
    eventually(lambda: "schedule_sent" in [event.event for event in site.broker.store.events(99)])


@pytest.mark.slow
def test_a_supervisor_that_slept_sends_one_message_for_what_it_missed(site: Site) -> None:
    configure(site, t=TICK)
    process = site.start(ready=False)
    began(site)
    site.halt(process.pid)
    asleep, seen, sent = time.monotonic(), remembered(site), messages(site)
    eventually(lambda: time.monotonic() > asleep + 15, 20)
    process.send_signal(signal.SIGCONT)
    eventually(lambda: "missed=" in site.log(), 5)
    eventually(lambda: remembered(site) >= seen + 17, 10)
    assert messages(site) - sent <= remembered(site) - seen - 10


@pytest.mark.slow
def test_a_store_that_stays_locked_for_seconds_stops_no_schedule(site: Site) -> None:
    configure(site, t=TICK)
    site.start(ready=False)
    first = began(site)
    other = sqlite3.connect(site.database, isolation_level=None)
    other.execute("begin immediate")
    locked = time.monotonic()
    eventually(lambda: time.monotonic() > locked + 17, 20)  # several busy timeouts
    other.execute("rollback")
    other.close()
    eventually(lambda: remembered(site) > first + 15, 15)
    assert messages(site) > 0
    assert "store_failed" not in site.log()


def test_nothing_is_sent_while_the_last_one_still_runs(site: Site) -> None:
    configure(site, worker="slow", t={"every": "1s", "queue": "slow", "body": "x"})
    site.start()
    first = began(site)
    eventually(lambda: remembered(site) >= first + 2, 10)
    eventually(lambda: "event=schedule_overlaps" in site.log(), 5)
    eventually(lambda: remembered(site) >= first + 3, 10)
    assert site.broker.stats("slow").total == 1
    assert site.log().count("event=schedule_overlaps") == 1
    site.release("go")
    eventually(lambda: len(site.notes("did")) >= 2, 5)


def test_a_drain_handles_what_is_due_and_waits_for_no_tick(site: Site) -> None:
    configure(site, t={"every": "1s", "queue": "q", "body": "x", "overlap": "allow"})
    site.broker.store.begin_schedule("t", "every 1.0", time.time_ns() - 3_600 * 10**9)
    site.start("--drain", ready=False)
    assert site.ends() == 0
    assert site.notes() == ["did x"]


def test_a_drain_that_takes_longer_than_a_tick_still_ends(site: Site) -> None:
    site.handlers("""
        def q(job):
            time.sleep(0.7)
            note("did", job.body)
        """)
    site.configure(q={})
    with open(site.config, "a") as file:
        file.write('[schedule.t]\nevery = "1s"\nqueue = "q"\noverlap = "allow"\n')
    site.write("q", "x", "y")
    site.start("--drain", ready=False)
    assert site.ends() == 0
    # A tick in the moment of the start is due; those after it are not.
    assert {"did x", "did y"} <= set(site.notes())
    assert len(site.notes()) <= 3


def test_status_shows_the_last_and_the_next_run_up_and_down(site: Site) -> None:
    configure(site, often=TICK, yearly={"cron": "@yearly"})
    down = json.loads(site.run("status", "--json").stdout)["schedules"]
    assert [(row["schedule"], row["last_at"]) for row in down] == [
        ("often", None),
        ("yearly", None),
    ]
    site.start()
    eventually(lambda: messages(site) > 0, 5)

    def shown() -> Any:
        rows = (site.status() or {}).get("schedules")
        return rows if rows and rows[0]["last_at"] else None

    often, yearly = eventually(shown, 5)
    assert often["next_at"] == often["last_at"] + 1
    assert yearly["last_at"] is None
    assert yearly["next_at"] % 86_400 == 0
    table = site.run("status").stdout
    assert table.splitlines()[-3].split() == ["SCHEDULE", "QUEUE", "LAST", "NEXT"]
    assert site.stop() == 0
    after = json.loads(site.run("status", "--json").stdout)["schedules"][0]
    assert after["last_at"] >= often["last_at"]


def test_an_alias_that_is_not_there_is_a_fault_of_the_file(site: Site) -> None:
    configure(site, t={"every": "1s", "queue": "@a"})
    for command in ("check", "up"):
        done = site.run(command)
        assert done.returncode == 78
        assert f"{site.config}:9: schedule.t.queue: alias '@a' is not defined" in done.stderr
    site.broker.store.add_alias("a", "ticks")
    assert site.run("check").returncode == 0
    site.start()
    eventually(lambda: messages(site) > 0, 5)


# ------------------------------------------------------------------------------ brokerrun schedule


def test_schedule_explains_itself_without_a_supervisor_and_makes_no_database(site: Site) -> None:
    nightly = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "queue": "reports"}
    configure(site, nightly=nightly, often={"every": "90s", "body": "x"})
    done = site.run("schedule")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "nightly: at 02:30 every day (30 2 * * *), Europe/Berlin",
        "  to reports, catch_up once, overlap skip",
        "  last  -",
    ]
    assert lines[3].startswith("  next  20")
    assert "what is due at 02:30 comes at 03:00" in done.stdout
    assert "what is due at 02:30 comes the first time only" in done.stdout
    assert "often: every 1m30s, counted from 1970-01-01 00:00 UTC" in lines
    assert not (site.folder / ".broker.db").exists()


def test_schedule_shows_one_as_json(site: Site) -> None:
    configure(site, a={"every": "1s"}, b={"cron": "@daily", "body": "x"})
    done = site.run("schedule", "b", "--next", "2", "--json")
    shown = json.loads(done.stdout)
    assert (shown["schedule"], shown["cron"], shown["body"]) == ("b", "0 0 * * *", "x")
    assert [moment[11:] for moment in shown["next"]] == ["00:00:00+00:00"] * 2
    assert (shown["last"], shown["missed"], shown["waiting"]) == (None, 0, False)


def test_schedule_shows_the_last_message_and_what_was_missed(site: Site) -> None:
    configure(site, t={"every": "1m", "queue": "ticks"})
    store = site.broker.store
    tick = time.time_ns() // (60 * 10**9) * 60 * 10**9 - 600 * 10**9
    store.begin_schedule("t", "every 60.0", tick - 1)
    [sent] = store.send_ticks("t", [tick], "ticks", "x", overlap=True).ids
    shown = site.run("schedule").stdout
    assert f", message {sent} is not done" in shown
    assert "; when a supervisor starts: one message for all of them" in shown
    store.delete("ticks")
    assert f", message {sent} is over" in site.run("schedule").stdout
    assert json.loads(site.run("schedule", "--json").stdout)["missed"] in (9, 10)


def test_schedule_refuses_a_name_that_is_not_there(site: Site) -> None:
    configure(site, a={"every": "1s"}, b={"every": "1s"})
    done = site.run("schedule", "c")
    assert (done.returncode, done.stdout) == (64, "")
    assert "no schedule 'c'" in done.stderr
    assert "there are a, b" in done.stderr
    configure(site)
    assert site.run("schedule").stderr.startswith("no schedules in ")
