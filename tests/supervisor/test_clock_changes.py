from __future__ import annotations

import pytest

from brokerrun.supervisor.clock_changes import oddities
from brokerrun.supervisor.schedules import SECOND, CatchUp, Overlap, ScheduleSpec

JANUARY = 1_767_225_600 * SECOND  # 2026


def notes(cron: str | None, zone: str, now: int = JANUARY) -> list[str]:
    spec = ScheduleSpec(
        name="s",
        cron=cron,
        every=60.0,
        timezone=zone,
        queue="q",
        body="",
        catch_up=CatchUp.ONCE,
        overlap=Overlap.SKIP,
    )
    return oddities(spec, now)


SPRING = "2026-03-29: the clock goes from 02:00 to 03:00; what is due at "
AUTUMN = "2026-10-25: the clock goes from 03:00 to 02:00; what is due at "


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("30 2 * * *", "02:30 comes at 03:00", "02:30 comes the first time only"),
        ("0,30 2 * * *", "02:00, 02:30 comes at 03:00", "02:00, 02:30 comes the first time only"),
        ("0 * * * *", "02:00 is left out", "02:00 comes each time"),
        (
            "*/10 * * * *",
            "02:00, 02:10, 02:20, ... is left out",
            "02:00, 02:10, 02:20, ... comes each time",
        ),
        ("5 30 2 * * *", "02:30:05 is left out", "02:30:05 comes each time"),
    ],
)
def test_a_time_that_a_change_leaves_out_or_brings_twice_is_explained(
    cron: str, spring: str, autumn: str
) -> None:
    assert notes(cron, "Europe/Berlin") == [SPRING + spring, AUTUMN + autumn]


def test_the_half_hour_of_lord_howe_is_found() -> None:
    [note] = notes("45 1 * * *", "Australia/Lord_Howe")
    assert note == (
        "2026-04-05: the clock goes from 02:00 to 01:30; "
        "what is due at 01:45 comes the first time only"
    )


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("0 12 * * *", "Europe/Berlin"),
        ("30 2 * * MON", "Europe/Berlin"),  # the change is on a Sunday
        ("30 2 * * *", "UTC"),
        ("30 2 * * *", "Asia/Kolkata"),
        (None, "Europe/Berlin"),
    ],
)
def test_where_nothing_is_odd_nothing_is_said(cron: str | None, zone: str) -> None:
    assert notes(cron, zone) == []
