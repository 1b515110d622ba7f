"""When a schedule sends: the ticks of a cron line or an interval, and what is due of them.

Pure; time is passed in. Ticks are instants in nanoseconds since 1970, whole milliseconds, and the
same for all who name them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import Enum
from itertools import count, takewhile
from typing import Final, TypedDict

from brokerrun.supervisor.units import written

SECOND: Final = 10**9
LATE: Final = 10 * SECOND  # a tick that old was missed; a busy disk or a restart misses none
AHEAD: Final = 86_400 * SECOND  # beyond that, a clock that ran ahead wrote what is remembered
MOST_TICKS: Final = 1_000
_REACH: Final = 3_600 * SECOND


class CatchUp(Enum):
    """What becomes of ticks that nobody sent in time."""

    ONCE = "once"  # one message for all of them
    ALL = "all"  # one each
    NONE = "none"


class Overlap(Enum):
    """What becomes of a tick while the last message still waits, is delayed or runs."""

    SKIP = "skip"  # no message
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """One [schedule.NAME], complete.

    cron: Five fields, or six of which the first are the seconds; None: *every* says it.
    every: Seconds from tick to tick, counted from 1970-01-01 00:00 UTC.
    queue: A name, or "@alias".
    """

    name: str
    cron: str | None
    every: float | None
    timezone: str
    queue: str
    body: str
    catch_up: CatchUp
    overlap: Overlap

    @property
    def timing(self) -> str:
        """Write what decides the ticks, for who compares it with what a store remembers."""
        return f"cron {self.cron} {self.timezone}" if self.cron else f"every {self.every}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one schedule.

    send: The ticks that get a message each, oldest first.
    upto: All until then are over, whether or not they got one.
    missed: How many came late; counted up to MOST_TICKS.
    """

    send: tuple[int, ...]
    upto: int
    missed: int = 0


class ScheduleRow(TypedDict):
    """One schedule as `brokerrun status` shows it: epoch seconds, None where there is nothing."""

    schedule: str
    queue: str
    last_at: float | None
    next_at: float | None


def zone(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        ValueError, KeyError, OSError: There is none of that name.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # only who names a zone needs it

    return ZoneInfo(name)


def ticks_after(spec: ScheduleSpec, at: int) -> Iterator[int]:
    """Yield the ticks after *at*; they end where no date fits within 50 years."""
    if spec.cron is not None:
        return _cron_ticks(spec.cron, zone(spec.timezone), at)
    step = round((spec.every or 0) * 1_000) * 10**6
    return count(at // step * step + step, step)


def ticks_between(spec: ScheduleSpec, after: int, until: int) -> list[int]:
    """List the ticks after *after* and not after *until*: the last MOST_TICKS of them."""
    reach = _REACH
    while True:
        begin = max(after, until - reach)
        found = takewhile(lambda tick: tick <= until, ticks_after(spec, begin))
        newest = list(deque(found, MOST_TICKS))
        if len(newest) == MOST_TICKS or begin == after:
            return newest
        reach *= 4


def plan(spec: ScheduleSpec, last_at: int, now: int) -> Plan | None:
    """Decide what is due of a schedule whose ticks until *last_at* are over; None: nothing.

    A clock that was set back a little is waited for: its ticks had their messages. Where it was set
    back by more than a day, the schedule goes on from *now*.
    """
    if last_at > now + AHEAD:
        return Plan((), now)
    due = ticks_between(spec, last_at, now)
    if not due:
        return None
    missed = sum(tick < now - LATE for tick in due)
    return Plan(tuple(_chosen(spec, due, missed, now)), due[-1], missed)


def _chosen(spec: ScheduleSpec, due: list[int], missed: int, now: int) -> list[int]:
    newest = due[-1:]
    if missed and spec.catch_up is CatchUp.NONE:
        return newest if newest[0] >= now - LATE else []
    if missed and spec.catch_up is CatchUp.ONCE:
        return newest
    # Of those that came together the second would find the first waiting. But who wants all that
    # were missed means it.
    together = spec.overlap is Overlap.ALLOW or (missed and spec.catch_up is CatchUp.ALL)
    return due if together else newest


def next_tick(spec: ScheduleSpec, last_at: int, now: int) -> int | None:
    """Return the next tick that gets a message, if the ticks until *last_at* are over."""
    return next(ticks_after(spec, max(last_at, now)), None)


def last_tick(spec: ScheduleSpec, last_at: int) -> int | None:
    """Return *last_at* if it is a tick, and not the time at which the schedule began."""
    return last_at if next(ticks_after(spec, last_at - 1), None) == last_at else None


def words(spec: ScheduleSpec) -> str:
    """Write in words when a schedule sends."""
    if spec.cron is None:
        return f"every {written(spec.every or 0)}, counted from 1970-01-01 00:00 UTC"
    from cronsim import CronSim

    told = CronSim(spec.cron, datetime.now(UTC)).explain()
    return f"{told[0].lower()}{told[1:]} ({spec.cron}), {spec.timezone}"


def row(spec: ScheduleSpec, last_at: int | None, next_at: int | None) -> ScheduleRow:
    """Describe a schedule whose ticks until *last_at* are over; None: it never ran."""
    last = None if last_at is None else last_tick(spec, last_at)
    return ScheduleRow(
        schedule=spec.name,
        queue=spec.queue,
        last_at=None if last is None else last / SECOND,
        next_at=None if next_at is None else next_at / SECOND,
    )


def _cron_ticks(cron: str, tz: tzinfo, at: int) -> Iterator[int]:
    from cronsim import CronSim  # only who has such a schedule needs it

    last = at
    for moment in CronSim(cron, datetime.fromtimestamp(at // SECOND, tz)):
        tick = int(moment.timestamp()) * SECOND
        # Who begins between the two 02:30 of an autumn night is shown the first one again.
        if tick > last:
            last = tick
            yield tick
