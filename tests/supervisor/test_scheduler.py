"""Schedules over a real store, by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from brokerrun import Broker
from brokerrun.core.backends import open_store
from brokerrun.core.model import Selection
from brokerrun.core.store import Store
from brokerrun.errors import AliasError
from brokerrun.supervisor.scheduler import Scheduler
from brokerrun.supervisor.schedules import SECOND, CatchUp, Overlap, ScheduleSpec

NOON = 1_780_315_200 * SECOND
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
MINUTELY = ScheduleSpec(
    name="s",
    cron="* * * * *",
    every=None,
    timezone="UTC",
    queue="q",
    body="x",
    catch_up=CatchUp.ONCE,
    overlap=Overlap.ALLOW,
)


class Log:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **facts: self.lines.append((level, event, facts))

    def events(self) -> list[str]:
        return [event for level, event, _ in self.lines if level != "debug"]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = open_store(database)
    yield store
    store.close()


@pytest.fixture
def begin(store: Store, clock: Clock, log: Log) -> Any:
    def begin(*specs: ScheduleSpec) -> Scheduler:
        scheduler = Scheduler(specs, log, clock)
        scheduler.begin(store)
        scheduler.run(store)
        return scheduler

    return begin


def count(store: Store, queue: str = "q") -> int:
    return store.stats(queue).total


def advance(clock: Clock, store: Store, by: int, *schedulers: Scheduler) -> int:
    """Let time pass, and return how many messages came of it."""
    before = count(store)
    clock.now += by
    for scheduler in schedulers:
        scheduler.run(store)
    return count(store) - before


def test_a_first_start_sends_nothing_for_the_past(begin: Any, store: Store, clock: Clock) -> None:
    scheduler = begin(MINUTELY)
    assert count(store) == 0
    assert scheduler.pause() == 60
    assert advance(clock, store, MINUTE - 1, scheduler) == 0
    assert advance(clock, store, 1, scheduler) == 1
    [message] = store.look("q", Selection(limit=None))
    assert (message.body, message.priority, message.ready_at) == ("x", 0, None)


def test_without_schedules_there_is_never_anything_to_do(begin: Any, clock: Clock) -> None:
    scheduler = begin()
    clock.now -= 400 * DAY
    assert scheduler.pause() > 10**9
    assert scheduler.rows == ()


def test_one_tick_is_one_message_however_many_run(begin: Any, store: Store, clock: Clock) -> None:
    several = [begin(MINUTELY) for _ in range(3)]
    for _ in range(5):
        assert advance(clock, store, MINUTE, *several, *several) == 1


def test_a_restart_between_ticks_loses_none_and_doubles_none(
    begin: Any, store: Store, clock: Clock
) -> None:
    begin(MINUTELY)
    for minute in range(1, 6):
        clock.now = NOON + minute * MINUTE + minute  # gone before the tick, back after it
        begin(MINUTELY)
        begin(MINUTELY)
        assert count(store) == minute


@pytest.mark.parametrize(
    ("catch_up", "sent", "event"),
    [("once", 1, "schedule_sent"), ("all", 180, "schedule_sent"), ("none", 0, "schedule_missed")],
)
def test_an_outage_is_made_up_for_as_is_said(
    begin: Any, store: Store, clock: Clock, log: Log, catch_up: str, sent: int, event: str
) -> None:
    spec = replace(MINUTELY, catch_up=CatchUp(catch_up))
    begin(spec)
    clock.now += 3 * HOUR + 30 * SECOND
    scheduler = begin(spec)
    assert count(store) == sent
    [(level, said, facts)] = log.lines
    assert (level, said, facts["missed"]) == ("info", event, 180)
    assert advance(clock, store, 30 * SECOND, scheduler) == 1


def test_an_outage_that_nobody_restarts_after_is_one_too(
    begin: Any, store: Store, clock: Clock
) -> None:
    scheduler = begin(MINUTELY)  # the machine slept
    assert advance(clock, store, 30 * DAY, scheduler) == 1
    assert advance(clock, store, MINUTE, scheduler) == 1


def test_all_that_were_missed_come_also_where_overlap_is_skipped(
    begin: Any, store: Store, clock: Clock
) -> None:
    spec = replace(MINUTELY, catch_up=CatchUp.ALL, overlap=Overlap.SKIP)
    scheduler = begin(spec)
    assert advance(clock, store, HOUR, scheduler) == 60
    assert advance(clock, store, HOUR, scheduler) == 0  # they wait


def test_overlap_is_skipped_and_said_once_until_it_ends(
    begin: Any, store: Store, clock: Clock, log: Log
) -> None:
    scheduler = begin(replace(MINUTELY, overlap=Overlap.SKIP))
    assert advance(clock, store, MINUTE, scheduler) == 1
    for _ in range(3):
        assert advance(clock, store, MINUTE, scheduler) == 0
    assert log.events() == ["schedule_overlaps"]
    store.delete("q")
    assert advance(clock, store, MINUTE, scheduler) == 1
    assert advance(clock, store, MINUTE, scheduler) == 0
    assert log.events() == ["schedule_overlaps"] * 2


# --------------------------------------------------------------------------------- clocks that jump


@pytest.mark.parametrize("back", [SECOND, HOUR, DAY - MINUTE])
def test_a_clock_set_back_repeats_no_tick(
    begin: Any, store: Store, clock: Clock, log: Log, back: int
) -> None:
    several = [begin(MINUTELY), begin(MINUTELY)]
    assert advance(clock, store, MINUTE, *several) == 1
    reached = clock.now
    clock.now -= back
    step = max(back // 10, 10 * SECOND)
    while clock.now + step < reached + MINUTE:
        assert advance(clock, store, step, *several, begin(MINUTELY)) == 0
    clock.now = reached
    assert advance(clock, store, MINUTE, *several) == 1
    assert log.events() == []


def test_a_clock_a_year_ahead_and_back_again_costs_one_message_and_stops_nothing(
    begin: Any, store: Store, clock: Clock, log: Log
) -> None:
    several = [begin(MINUTELY), begin(MINUTELY)]
    assert advance(clock, store, 365 * DAY, *several) == 1
    assert advance(clock, store, -365 * DAY, *several) == 0
    assert log.events() == ["schedule_sent", "schedule_set_back"]
    for _ in range(3):
        assert advance(clock, store, MINUTE, *several) == 1


def test_a_clock_a_year_behind_is_no_reason_to_wait_for_a_year(
    begin: Any, store: Store, clock: Clock
) -> None:
    scheduler = begin(MINUTELY)
    assert advance(clock, store, -365 * DAY, scheduler) == 0
    assert advance(clock, store, MINUTE, scheduler) == 1
    assert advance(clock, store, 365 * DAY, scheduler) == 1


# ----------------------------------------------------------------------------------- what changes


def test_a_changed_schedule_sends_nothing_for_the_past(
    begin: Any, store: Store, clock: Clock
) -> None:
    begin(MINUTELY)
    clock.now += HOUR
    begin(replace(MINUTELY, cron="30 * * * *"))  # half an hour ago, by the new line
    assert count(store) == 0
    assert advance(clock, store, 30 * MINUTE, begin(replace(MINUTELY, cron="30 * * * *"))) == 1


def test_what_changes_no_tick_begins_nothing_anew(begin: Any, store: Store, clock: Clock) -> None:
    begin(MINUTELY)
    clock.now += HOUR
    begin(replace(MINUTELY, queue="elsewhere", body="y"))
    assert (count(store), count(store, "elsewhere")) == (0, 1)


def test_a_schedule_that_is_taken_out_keeps_its_row_and_catches_up_when_it_is_back(
    begin: Any, store: Store, clock: Clock
) -> None:
    begin(MINUTELY)
    clock.now += HOUR
    begin()
    assert [schedule.name for schedule in store.schedules()] == ["s"]
    begin(MINUTELY)
    assert count(store) == 1


def test_an_alias_is_resolved_when_it_begins(
    begin: Any, store: Store, clock: Clock, database: str
) -> None:
    spec = replace(MINUTELY, queue="@a")
    with pytest.raises(AliasError, match="alias '@a' is not defined"):
        begin(spec)
    assert store.schedules() == []
    store.add_alias("a", "q")
    scheduler = begin(spec)
    assert advance(clock, store, MINUTE, scheduler) == 1
    with Broker(database) as broker:
        assert [stats.queue for stats in broker.queues()] == ["q"]


def test_one_that_was_stopped_sends_no_more(begin: Any, store: Store, clock: Clock) -> None:
    scheduler = begin(MINUTELY)
    scheduler.stop()
    for by in (HOUR, -400 * DAY):
        assert advance(clock, store, by, scheduler) == 0


def test_rows_show_the_last_and_the_next_tick(begin: Any, store: Store, clock: Clock) -> None:
    scheduler = begin(MINUTELY, replace(MINUTELY, name="t", cron=None, every=90.0))
    advance(clock, store, 90 * SECOND, scheduler)
    shown = [(r["schedule"], r["last_at"], r["next_at"]) for r in scheduler.rows]
    noon = NOON / SECOND
    assert shown == [("s", noon + 60, noon + 120), ("t", noon + 90, noon + 180)]
