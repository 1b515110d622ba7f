"""What `brokerrun status` shows: its rows, and what the store alone tells. Loads no fleet."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, TypedDict

from brokerrun.core.backends import open_store
from brokerrun.core.model import Instance, QueueStats, Schedule
from brokerrun.core.store import Store
from brokerrun.errors import StoreMissing
from brokerrun.supervisor.processes import boot_number, is_stopped
from brokerrun.supervisor.schedules import ScheduleRow, ScheduleSpec, next_tick, row
from brokerrun.supervisor.slotfile import last_beat, slots_path
from brokerrun.supervisor.spec import Config, WorkerSpec

HUNG_SECONDS: Final = 2.0


class WorkerRow(TypedDict):
    """One process of a worker. Seconds, and epoch seconds; None where there is nothing to say."""

    worker: str
    number: int
    queue: str
    pid: int | None
    state: str
    message: str | None
    seconds: float | None  # how long that message has been in hand
    handled: int
    failed: int
    restarts: int
    rss_bytes: int | None
    reason: str | None  # of its last death
    next_start: float | None  # in so many seconds


class QueueRow(TypedDict):
    """One queue of a worker."""

    queue: str
    ready: int
    delayed: int
    running: int
    dead: int
    oldest_seconds: float | None


class InstanceRow(TypedDict):
    """A supervisor of the database under another name or on another host, or what it left.

    alive: None where that cannot be known from here.
    """

    name: str
    host: str
    pid: int
    alive: bool | None
    version: str
    started_at: float
    stopped_at: float | None
    workers: str  # "emails=2,thumbnails=1"
    socket: str


class Status(TypedDict):
    """The whole answer. state: starting, up, stopping, degraded, down, silent.

    spawned: Of each worker that is not forked, why.
    held: Messages whose holders are gone: who starts next, or lives, gives them back.
    """

    name: str
    database: str
    host: str
    state: str
    pid: int | None
    started_at: float | None
    stopped_at: float | None
    workers: list[WorkerRow]
    queues: list[QueueRow]
    schedules: list[ScheduleRow]
    spawned: dict[str, str]
    held: int
    instances: list[InstanceRow]


class Facts(NamedTuple):
    """What the store says."""

    stats: list[QueueStats]
    held: int
    others: list[InstanceRow]


def facts(store: Store, name: str, host: str) -> Facts:
    """Read what a status shows of the store, for the instance of that name and host."""
    return Facts(
        stats=store.queues(),
        held=sum(not store.alive(row.owner) for row in store.held()),
        others=[
            _instance_row(store, row, host)
            for row in store.instances()
            if (row.name, row.host) != (name, host)
        ],
    )


def status_down(config: Config) -> Status:
    """Describe what is left when no supervisor answers: the store and the instance's row.

    state is "silent" where the supervisor lives and does not answer.
    """
    spec, host = config.instance, socket.gethostname()
    found = Facts([], 0, [])
    schedules: list[Schedule] = []
    instance, alive = None, False
    store = open_store(spec.database, create=False)
    try:
        instance = store.instance(spec.name, host)
        found = facts(store, spec.name, host)
        schedules = store.schedules()
        alive = instance is not None and store.alive(instance.owner)
    except StoreMissing:
        pass  # nothing ever ran here
    finally:
        store.close()
    return Status(
        name=spec.name,
        database=spec.database,
        host=host,
        state="silent" if alive else "down",
        pid=instance.pid if instance and alive else None,
        started_at=instance.started_at / 1e9 if instance else None,
        stopped_at=instance.stopped_at / 1e9 if instance and instance.stopped_at else None,
        workers=[],
        queues=queue_rows(config.workers, found.stats),
        schedules=schedule_rows(config.schedules, schedules),
        spawned={},
        held=found.held,
        instances=found.others,
    )


def instance_of(config: Config) -> Instance | None:
    """Find the row of the supervisor that lives now; None where none does."""
    store = open_store(config.instance.database, create=False)
    try:
        row = store.instance(config.instance.name, socket.gethostname())
        return row if row is not None and store.alive(row.owner) else None
    except StoreMissing:
        return None
    finally:
        store.close()


def is_hung(config: Config) -> bool:
    """Tell whether the supervisor lives and does nothing: it is stopped, or its loop stands."""
    spec, instance = config.instance, instance_of(config)
    if instance is None:
        return False
    beat = last_beat(slots_path(spec.database, spec.name), boot_number())
    stands = beat is not None and time.monotonic_ns() - beat > HUNG_SECONDS * 1e9
    return stands or is_stopped(instance.pid)


def queue_rows(specs: tuple[WorkerSpec, ...], stats: list[QueueStats]) -> list[QueueRow]:
    """Count the queue of each worker: with what it shows elsewhere while it runs, and its dead."""
    found = {entry.queue: entry for entry in stats}
    rows = []
    for spec, queue in ((each, queue) for each in specs for queue in each.queues):
        own = found.get(queue) or QueueStats(queue, 0, 0, 0)
        shown, dead = found.get(spec.hold(queue) or ""), found.get(spec.dead_letters(queue) or "")
        ages = [entry.oldest_at for entry in (own, shown) if entry and entry.oldest_at]
        rows.append(
            QueueRow(
                queue=queue,
                ready=own.ready,
                delayed=own.delayed,
                running=own.running + (shown.running if shown else 0),
                dead=dead.pending if dead else 0,
                oldest_seconds=round(time.time() - min(ages) / 1e9, 1) if ages else None,
            )
        )
    return rows


def schedule_rows(specs: Sequence[ScheduleSpec], stored: list[Schedule]) -> list[ScheduleRow]:
    """Describe the schedules of a file by what the store remembers of them."""
    now, found = time.time_ns(), {entry.name: entry.last_at for entry in stored}
    return [
        row(spec, last_at, next_tick(spec, last_at or now, now))
        for spec, last_at in ((spec, found.get(spec.name)) for spec in specs)
    ]


def _instance_row(store: Store, row: Instance, host: str) -> InstanceRow:
    return InstanceRow(
        name=row.name,
        host=row.host,
        pid=row.pid,
        alive=store.alive(row.owner) if row.host == host else None,
        version=row.version,
        started_at=row.started_at / 1e9,
        stopped_at=row.stopped_at / 1e9 if row.stopped_at else None,
        workers=row.workers,
        socket=row.socket,
    )
