"""`brokerrun schedule`: each schedule in words, its last tick and its next ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final, TypedDict

import click

from brokerrun.core.backends import open_store
from brokerrun.core.model import Schedule
from brokerrun.errors import StoreMissing, UsageError
from brokerrun.supervisor.clock_changes import oddities
from brokerrun.supervisor.schedules import (
    MOST_TICKS,
    SECOND,
    CatchUp,
    ScheduleSpec,
    last_tick,
    plan,
    ticks_after,
    words,
    zone,
)
from brokerrun.supervisor.spec import Config

_MADE_UP: Final = {
    CatchUp.ONCE: "one message for all of them",
    CatchUp.ALL: "a message for each",
    CatchUp.NONE: "no message for them",
}


class Described(TypedDict):
    """One schedule as --json prints it. Times are ISO 8601, in the schedule's own zone.

    waiting: Whether its last message still waits, is delayed or runs.
    missed: Ticks that nobody sent so far, up to a thousand; what becomes of them *catch_up* says.
    notes: What becomes of its times when the clock is changed.
    """

    schedule: str
    words: str
    cron: str | None
    every: float | None
    timezone: str
    queue: str
    body: str
    catch_up: str
    overlap: str
    last: str | None
    message: str | None
    waiting: bool
    missed: int
    next: list[str]
    notes: list[str]


def show_schedules(config: Config, name: str | None, upcoming: int, *, as_json: bool) -> None:
    """Print the schedules of a file, or one of them, by what its store remembers.

    Raises:
        UsageError: There is none of that name.
    """
    chosen = [spec for spec in config.schedules if name in (None, spec.name)]
    if name is not None and not chosen:
        known = ", ".join(spec.name for spec in config.schedules) or "none"
        raise UsageError(f"no schedule {name!r} in {config.path}: there are {known}")
    remembered, now = _remembered(config.instance.database), time.time_ns()
    for number, spec in enumerate(chosen):
        described = _describe(spec, remembered.get(spec.name), now, upcoming)
        if as_json:
            click.echo(json.dumps(described))
        else:
            click.echo("\n" * (number > 0) + "\n".join(_lines(described, spec.catch_up)))
    if not chosen:
        click.echo(f"no schedules in {config.path}: write [schedule.NAME]", err=True)


def _remembered(database: str) -> dict[str, Schedule]:
    store = open_store(database, create=False)
    try:
        return {schedule.name: schedule for schedule in store.schedules()}
    except StoreMissing:
        return {}  # nothing ever ran here
    finally:
        store.close()


def _describe(spec: ScheduleSpec, seen: Schedule | None, now: int, upcoming: int) -> Described:
    over = seen.last_at if seen else now
    last = last_tick(spec, over) if seen else None
    due = plan(spec, over, now)
    following = islice(ticks_after(spec, max(over, now)), upcoming)
    return Described(
        schedule=spec.name,
        words=words(spec),
        cron=spec.cron,
        every=spec.every,
        timezone=spec.timezone,
        queue=spec.queue,
        body=spec.body,
        catch_up=spec.catch_up.value,
        overlap=spec.overlap.value,
        last=None if last is None else _wall(spec, last),
        message=str(seen.message) if seen and seen.message else None,
        waiting=seen is not None and seen.queue is not None,
        missed=due.missed if due else 0,
        next=[_wall(spec, tick) for tick in following],
        notes=oddities(spec, now),
    )


def _wall(spec: ScheduleSpec, tick: int) -> str:
    return datetime.fromtimestamp(tick / SECOND, zone(spec.timezone)).isoformat(" ")


def _lines(found: Described, catch_up: CatchUp) -> Iterator[str]:
    yield f"{found['schedule']}: {found['words']}"
    yield f"  to {found['queue']}, catch_up {found['catch_up']}, overlap {found['overlap']}"
    yield f"  last  {found['last'] or '-'}{_fate(found)}"
    if found["missed"]:
        many = f"{MOST_TICKS} or so" if found["missed"] > MOST_TICKS // 2 else found["missed"]
        yield f"  missed {many}; when a supervisor starts: {_MADE_UP[catch_up]}"
    for place, moment in enumerate(found["next"]):
        yield f"  {'    ' if place else 'next'}  {moment}"
    yield from (f"  {note}" for note in found["notes"])


def _fate(found: Described) -> str:
    if found["message"] is None:
        return ""
    return f", message {found['message']} {'is not done' if found['waiting'] else 'is over'}"
