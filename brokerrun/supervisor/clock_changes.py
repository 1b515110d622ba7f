"""What becomes of a cron line's times in the nights in which its clock is changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Final

from brokerrun.supervisor.schedules import SECOND, ScheduleSpec, ticks_between, zone

_DAYS: Final = 400
_CHANGES: Final = 2
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Change:
    """At the second *at*, the clock goes from one wall time to another."""

    at: int
    off: datetime
    on: datetime


def oddities(spec: ScheduleSpec, now: int) -> list[str]:
    """Write a sentence for each of the next two changes that a cron line's times fall into."""
    if spec.cron is None:
        return []
    changes = islice(_changes(zone(spec.timezone), now // SECOND), _CHANGES)
    return [said for change in changes if (said := _sentence(spec, spec.cron, change))]


def _sentence(spec: ScheduleSpec, cron: str, change: Change) -> str | None:
    low, high = sorted((change.off, change.on))
    times = _wall_times(cron, low, high)
    if not times:
        return None
    begins = f"{change.off:%Y-%m-%d}: the clock goes from {change.off:%H:%M} to {change.on:%H:%M}"
    begins += f"; what is due at {_listed(times)}"
    length = int((high - low).total_seconds())
    if change.on < change.off:
        reached = _count(spec, change.at - length - 1, change.at + length - 1)
        what = "each time" if reached > len(times) else "the first time only"
        return f"{begins} comes {what}"
    moved = _count(spec, change.at - 1, change.at) and not _wall_times(
        cron, high, high + timedelta(seconds=1)
    )
    what = f"comes at {change.on:%H:%M}" if moved else "is left out"
    return f"{begins} {what}"


def _wall_times(cron: str, low: datetime, high: datetime) -> list[datetime]:
    """List what the line says between two wall times, as if no clock were ever changed."""
    from cronsim import CronSim

    begin = low - timedelta(seconds=1)
    return list(takewhile(lambda moment: moment < high, CronSim(cron, begin)))


def _count(spec: ScheduleSpec, after: int, until: int) -> int:
    return len(ticks_between(spec, after * SECOND, until * SECOND))


def _listed(times: list[datetime]) -> str:
    shown = [f"{moment:%H:%M:%S}".removesuffix(":00") for moment in times[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(times) > _SHOWN else "")


def _changes(tz: tzinfo, at: int) -> Iterator[Change]:
    for day in range(_DAYS):
        low, high = at + day * 86_400, at + (day + 1) * 86_400
        if _offset(tz, low) == _offset(tz, high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(tz, middle) == _offset(tz, low) else (low, middle)
        utc = datetime.fromtimestamp(high, UTC).replace(tzinfo=None)
        yield Change(high, utc + _offset(tz, low), utc + _offset(tz, high))


def _offset(tz: tzinfo, at: int) -> timedelta:
    return datetime.fromtimestamp(at, tz).utcoffset() or timedelta()
