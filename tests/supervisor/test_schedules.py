"""Which ticks there are, and what is due of them. Time is passed in."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerrun.supervisor.schedules import (
    AHEAD,
    LATE,
    MOST_TICKS,
    SECOND,
    CatchUp,
    Overlap,
    Plan,
    ScheduleSpec,
    next_tick,
    plan,
    row,
    ticks_after,
    ticks_between,
)

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> int:
    """Read an instant: ISO; where it names no offset, the wall clock of *zone*."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return int(moment.timestamp()) * SECOND


NOON = at("2026-06-01T12:00:00")


def spec(
    cron: str | None = None,
    every: float | None = None,
    timezone: str = "UTC",
    catch_up: str = "once",
    overlap: str = "skip",
) -> ScheduleSpec:
    return ScheduleSpec(
        name="s",
        cron=cron,
        every=every if cron is None else None,
        timezone=timezone,
        queue="q",
        body="x",
        catch_up=CatchUp(catch_up),
        overlap=Overlap(overlap),
    )


def minutely(**more: Any) -> ScheduleSpec:
    return spec("* * * * *", **more)


def walls(spec: ScheduleSpec, after: str, until: str) -> list[str]:
    """List the ticks between two wall-clock times of the schedule's zone, as its clock shows."""
    zone = ZoneInfo(spec.timezone)
    ticks = ticks_between(spec, at(after, spec.timezone), at(until, spec.timezone))
    return [datetime.fromtimestamp(tick // SECOND, zone).isoformat() for tick in ticks]


# --------------------------------------------------------------------------------------- ticks


def test_a_cron_line_ticks_by_the_clock_of_its_zone() -> None:
    found = walls(spec("0 3 * * *", timezone=BERLIN), "2026-01-01", "2026-01-03T03:00")
    assert found == [f"2026-01-0{day}T03:00:00+01:00" for day in (1, 2, 3)]


def test_an_interval_is_counted_from_1970_so_that_all_name_the_same_ticks() -> None:
    quarter = spec(every=900.0)
    assert list(islice(ticks_after(quarter, NOON), 2)) == [NOON + 15 * MINUTE, NOON + 30 * MINUTE]
    assert next(ticks_after(quarter, NOON - 1)) == NOON
    assert next(ticks_after(spec(every=1.5), 4 * SECOND)) == 4_500_000_000
    assert next(ticks_after(spec(every=0.1), 2**60)) % 10**8 == 0


def test_six_fields_begin_with_the_seconds() -> None:
    ticks = islice(ticks_after(spec("*/20 * * * * *"), NOON), 3)
    assert [(tick - NOON) // SECOND for tick in ticks] == [20, 40, 60]


def test_the_bounds_are_after_the_first_and_up_to_the_last() -> None:
    assert ticks_between(minutely(), NOON, NOON + 2 * MINUTE) == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert ticks_between(minutely(), NOON, NOON) == []
    assert ticks_between(minutely(), NOON + DAY, NOON) == []


@pytest.mark.parametrize("spec", [minutely(), spec(every=60.0), spec("*/1 0-23 * * *")])
def test_of_very_many_ticks_the_newest_are_found(spec: ScheduleSpec) -> None:
    found = ticks_between(spec, NOON - 400 * DAY, NOON)
    assert (len(found), found[-1]) == (MOST_TICKS, NOON)
    assert found == sorted(set(found))
    assert found[0] == NOON - (MOST_TICKS - 1) * MINUTE


def test_rare_ticks_are_found_far_back_and_a_date_that_never_comes_is_none() -> None:
    leap = spec("0 0 29 2 *")
    assert len(ticks_between(leap, at("1999-01-01T00:00"), NOON)) == 7
    never = spec("0 0 LW * */7")  # the last weekday of a month, if it is a Sunday
    assert next_tick(never, 0, NOON) is None
    assert plan(never, NOON - DAY, NOON) is None


# ----------------------------------------------------------------------------- daylight saving

# Europe/Berlin: 2026-03-29 02:00 -> 03:00, 2026-10-25 03:00 -> 02:00.
SPRING, AUTUMN = ("2026-03-29", "2026-03-30"), ("2026-10-25", "2026-10-26")


def test_a_time_that_spring_leaves_out_comes_when_the_clock_goes_on() -> None:
    found = walls(spec("30 2 * * *", timezone=BERLIN), *SPRING)
    assert found == ["2026-03-29T03:00:00+02:00"]


def test_a_time_that_autumn_has_twice_comes_once() -> None:
    found = walls(spec("30 2 * * *", timezone=BERLIN), *AUTUMN)
    assert found == ["2026-10-25T02:30:00+02:00"]


def test_who_looks_between_the_two_times_finds_no_second_one() -> None:
    nightly = spec("30 2 * * *", timezone=BERLIN)
    first = at("2026-10-25T02:30:00+02:00")
    for between in range(first, first + HOUR + 30 * MINUTE, 5 * MINUTE):
        assert next(ticks_after(nightly, between)) == at("2026-10-26T02:30:00+01:00")
    assert plan(nightly, first, at("2026-10-25T02:31:00+01:00")) is None


@pytest.mark.parametrize(("night", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_what_ticks_all_day_ticks_by_real_time_on_a_long_and_on_a_short_day(
    night: tuple[str, str], hours: int
) -> None:
    begin, end = (at(f"{day}T00:00", BERLIN) for day in night)
    for line in ("*/15 * * * *", "0 * * * *"):
        found = ticks_between(spec(line, timezone=BERLIN), begin, end)
        steps = {late - early for early, late in pairwise(found)}
        assert steps == {15 * MINUTE if line.startswith("*") else HOUR}
        assert len(found) == hours * HOUR // min(steps)


ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Sydney",
    "Pacific/Apia",
]
CRONS = [
    "30 2 * * *",
    "0 0 * * *",
    "0,30 0-3 * * *",
    "30 */2 * * *",
    "*/20 0 * * *",
    "0 * * * *",
    "* 2 * * *",
    "0 12 * * MON#1",
]
CHANGES = [  # of the clocks of ZONES, or near them
    at(f"2026-{day}T00:00:00")
    for day in ("03-08", "03-29", "04-05", "04-24", "09-06", "10-04", "10-25", "10-30", "11-01")
]


@settings(max_examples=80, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    cron=st.sampled_from(CRONS),
    change=st.sampled_from(CHANGES),
    cuts=st.lists(st.integers(-30 * 3600, 30 * 3600), max_size=6),
)
def test_the_ticks_do_not_depend_on_when_somebody_looked(
    zone: str, cron: str, change: int, cuts: list[int]
) -> None:
    wanted = spec(cron, timezone=zone)
    begin, end = change - 2 * DAY, change + 2 * DAY
    bounds = [begin, *sorted(change + cut * SECOND for cut in cuts), end]
    parts = [
        tick for after, until in pairwise(bounds) for tick in ticks_between(wanted, after, until)
    ]
    assert parts == ticks_between(wanted, begin, end)
    assert parts == sorted(set(parts))


# ------------------------------------------------------------------------------------ catching up


@pytest.mark.parametrize("catch_up", ["once", "all", "none"])
def test_a_tick_in_time_is_sent(catch_up: str) -> None:
    wanted = minutely(catch_up=catch_up)
    for late in (0, 1, LATE):
        assert plan(wanted, NOON - MINUTE, NOON + late) == Plan((NOON,), NOON, 0)
    assert plan(wanted, NOON, NOON + MINUTE - 1) is None


HOUR_OF_TICKS = tuple(range(NOON + MINUTE, NOON + HOUR + MINUTE, MINUTE))


@pytest.mark.parametrize("overlap", ["skip", "allow"])
@pytest.mark.parametrize(
    ("catch_up", "send"),
    [("once", HOUR_OF_TICKS[-1:]), ("all", HOUR_OF_TICKS), ("none", ())],
)
def test_after_an_outage_of_an_hour(catch_up: str, overlap: str, send: tuple[int, ...]) -> None:
    wanted = minutely(catch_up=catch_up, overlap=overlap)
    now = NOON + HOUR + LATE + 1
    assert plan(wanted, NOON, now) == Plan(send, NOON + HOUR, 60)


@pytest.mark.parametrize(("catch_up", "sent"), [("once", 1), ("all", 60), ("none", 1)])
def test_a_tick_in_time_after_an_outage_is_no_missed_one(catch_up: str, sent: int) -> None:
    found = plan(minutely(catch_up=catch_up), NOON, NOON + HOUR + LATE)
    assert found == Plan(HOUR_OF_TICKS[-sent:], NOON + HOUR, 59)


@pytest.mark.parametrize("catch_up", ["once", "all", "none"])
def test_a_stall_of_seconds_is_no_outage(catch_up: str) -> None:
    ticks = tuple(range(NOON + SECOND, NOON + 6 * SECOND, SECOND))
    for overlap, sent in (("allow", ticks), ("skip", ticks[-1:])):
        found = plan(spec(every=1.0, catch_up=catch_up, overlap=overlap), NOON, NOON + 5 * SECOND)
        assert found == Plan(sent, ticks[-1], 0)


def test_all_is_bounded_to_the_newest_thousand() -> None:
    found = plan(spec(every=1.0, catch_up="all"), NOON - 30 * DAY, NOON)
    assert found is not None
    assert (len(found.send), found.send[-1], found.upto) == (MOST_TICKS, NOON, NOON)
    assert found.missed == MOST_TICKS - LATE // SECOND - 1


# --------------------------------------------------------------------------------- clocks that jump


def test_a_clock_set_back_a_little_is_waited_for() -> None:
    assert plan(minutely(), NOON, NOON - 5 * HOUR) is None
    assert plan(minutely(), NOON, NOON - AHEAD) is None
    assert next_tick(minutely(), NOON, NOON - 5 * HOUR) == NOON + MINUTE


def test_a_clock_set_back_from_another_year_is_not() -> None:
    now = NOON - 365 * DAY
    found = plan(minutely(), NOON, now)
    assert found == Plan((), now)
    assert plan(minutely(), now, now + MINUTE) == Plan((now + MINUTE,), now + MINUTE)


def test_a_clock_set_forward_is_an_outage() -> None:
    now = NOON + 365 * DAY
    found = plan(minutely(), NOON, now)
    assert found is not None
    assert found.send == (now,)
    assert plan(minutely(catch_up="none"), NOON, now + 30 * SECOND) == Plan((), now, MOST_TICKS)


# ------------------------------------------------------------------------------------ description


def test_a_row_says_when_it_ran_and_when_it_will() -> None:
    known = {"schedule": "s", "queue": "q"}
    assert row(minutely(), NOON, NOON + MINUTE) == {
        **known,
        "last_at": NOON / SECOND,
        "next_at": NOON / SECOND + 60,
    }
    assert row(minutely(), NOON + 1, None) == {**known, "last_at": None, "next_at": None}
    assert row(minutely(), None, None) == {**known, "last_at": None, "next_at": None}


def test_the_timing_is_what_decides_the_ticks() -> None:
    lines = [
        minutely(),
        minutely(timezone=BERLIN),
        spec("0 3 * * *"),
        spec(every=60.0),
        spec(every=61.0),
    ]
    assert len({line.timing for line in lines}) == len(lines)
    assert spec(every=60.0, timezone=BERLIN).timing == spec(every=60.0).timing
    assert minutely(catch_up="all", overlap="allow").timing == minutely().timing


def test_zones_and_utc_agree() -> None:
    assert walls(spec("0 3 * * *", timezone="Etc/UTC"), "2026-01-01", "2026-01-02") == [
        datetime(2026, 1, 1, 3, tzinfo=UTC).isoformat()
    ]
