"""The rows in which a running fleet is shown."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from brokerrun.core.model import Instance
from brokerrun.supervisor.crew import Crew
from brokerrun.supervisor.fleet import Fleet
from brokerrun.supervisor.place import Place
from brokerrun.supervisor.slot import Phase
from brokerrun.supervisor.status import Facts, Status, WorkerRow, queue_rows


def status_up(fleet: Fleet, instance: Instance, found: Facts, stopping: bool) -> Status:
    """Describe a running fleet."""
    degraded = any(place.looping for place in fleet.roster.places)
    state = "degraded" if degraded else "up" if fleet.slots is not None else "starting"
    return Status(
        name=instance.name,
        database=fleet.config.instance.database,
        host=instance.host,
        state="stopping" if stopping else state,
        pid=instance.pid,
        started_at=instance.started_at / 1e9,
        stopped_at=None,
        workers=[worker_row(fleet, place) for place in fleet.roster.places],
        queues=queue_rows(fleet.config.workers, found.stats),
        schedules=list(fleet.keeper.scheduler.rows),
        spawned=fleet.templates.spawned(),
        held=found.held,
        instances=found.others,
    )


def worker_row(fleet: Fleet, place: Place) -> WorkerRow:
    """Describe one process of a worker; one that went meanwhile, too."""
    seen, crew = fleet.seen(place), fleet.roster.crews.get(place.spec.name)
    message = seen.message if seen else None
    row: dict[str, Any] = {"handled": place.handled, "failed": place.failed}
    if seen:
        row = {"handled": place.handled + seen.handled, "failed": place.failed + seen.failed}
    busy = seen is not None and message is not None
    waits = place.phase is Phase.WAITING
    return WorkerRow(
        worker=place.spec.name,
        number=place.number,
        queue=place.spec.queue,
        pid=place.pid or None,
        state=_state(place, crew, busy=busy),
        message=str(message) if busy else None,
        seconds=round((time.monotonic_ns() - seen.started) / 1e9, 1) if seen and busy else None,
        handled=row["handled"],
        failed=row["failed"],
        restarts=place.restarts,
        rss_bytes=rss_of(place.pid),
        reason=_reason(place, crew),
        next_start=round(max(place.deadline - time.monotonic(), 0), 1) if waits else None,
    )


def rss_of(pid: int) -> int | None:
    """Return the resident size of a process, in bytes."""
    with suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _reason(place: Place, crew: Crew | None) -> str | None:
    if crew is not None and crew.held and crew.spec.after:
        return f"comes after {', '.join(crew.spec.after)}"
    return (crew.reason if crew is not None else None) or place.reason


def _state(place: Place, crew: Crew | None, *, busy: bool) -> str:
    if place.phase is Phase.RUNNING:
        return "busy" if busy else "idle"
    if place.phase is Phase.DOWN and crew is not None and crew.paused:
        return "paused"
    if place.phase is Phase.DOWN and crew is not None and crew.held:
        return "waiting"
    if place.phase is Phase.WAITING and place.looping:
        return "backoff"
    return str(place.phase.value)
