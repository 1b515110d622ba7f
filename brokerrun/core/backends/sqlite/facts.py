"""What a store tells without taking anything: counts, aliases, attempts, instances, schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brokerrun.core.backends.sqlite.queues import count, has_rows, summary
from brokerrun.core.backends.sqlite.rows import SQL, one, queue_number, rows, touched
from brokerrun.core.backends.sqlite.schedules import send_ticks
from brokerrun.core.ids import next_id, now_ns
from brokerrun.core.model import Attempt, FleetEvent, Instance, QueueStats, Schedule, Sent, Summary
from brokerrun.errors import AliasError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Access


class Facts:
    """The part of the store that other rows than messages, and numbers, are about."""

    def __init__(self, access: Access):
        self.connection = access

    def queues(self) -> list[QueueStats]:
        with self.connection.looking() as db:
            counted = [count(db, number, name) for number, name, _ in rows(db, "queue_names")]
        return [stats for stats in counted if stats.total]

    def stats(self, queue: str) -> QueueStats:
        with self.connection.looking() as db:
            number = queue_number(db, queue)
            return QueueStats(queue, 0, 0, 0) if number is None else count(db, number, queue)

    def exists(self, queue: str) -> bool:
        with self.connection.looking() as db:
            number = queue_number(db, queue)
            return number is not None and has_rows(db, number)

    def summary(self) -> Summary:
        with self.connection.looking() as db:
            return summary(db)

    def newest(self) -> int:
        with self.connection.looking() as db:
            return int(one(db, "newest")[0])

    def stamp(self) -> int:
        with self.connection.writing(late=True) as db:
            ident = next_id(one(db, "newest")[0], now_ns())
            db.execute(SQL["stamp"], {"id": ident})
        return ident

    # ------------------------------------------------------------------------------ the aliases

    def aliases(self) -> list[tuple[str, str]]:
        with self.connection.looking() as db:
            return [(name, target) for name, target in rows(db, "aliases")]

    def alias(self, name: str) -> str | None:
        with self.connection.looking() as db:
            found = rows(db, "alias_target", name=name)
        return found[0][0] if found else None

    def add_alias(self, name: str, target: str) -> bool:
        with self.connection.writing() as db:
            if rows(db, "alias_target", name=target):
                raise AliasError(
                    f"{target!r} is itself an alias: name the queue that it stands for"
                )
            return touched(db, "add_alias", name=name, target=target) > 0

    def remove_alias(self, name: str) -> bool:
        with self.connection.writing() as db:
            return touched(db, "remove_alias", name=name) > 0

    # ----------------------------------------------------------------------------- the attempts

    def history(self, message: int) -> list[Attempt]:
        with self.connection.looking() as db:
            found = rows(db, "history", message=message)
        return [Attempt(*row) for row in found]

    def last_attempt(self) -> int:
        with self.connection.looking() as db:
            return int(one(db, "last_attempt")[0])

    def died_since(self, mark: int, queues: Sequence[str]) -> int:
        with self.connection.looking() as db:
            return sum(one(db, "died_since", mark=mark, queue=queue)[0] for queue in queues)

    def put_instance(self, instance: Instance) -> None:
        with self.connection.writing(late=True) as db:
            db.execute(SQL["put_instance"], instance._asdict())

    def instance(self, name: str, host: str) -> Instance | None:
        with self.connection.looking() as db:
            found = rows(db, "instance", name=name, host=host)
        return Instance(*found[0]) if found else None

    def instances(self) -> list[Instance]:
        with self.connection.looking() as db:
            return [Instance(*row) for row in rows(db, "instances")]

    def put_pauses(self, name: str, host: str, paused: Mapping[str, bool]) -> None:
        with self.connection.writing() as db:
            for worker, word in paused.items():
                touched(db, "put_pause", name=name, host=host, worker=worker, paused=int(word))

    def pauses(self, name: str, host: str) -> dict[str, bool]:
        with self.connection.looking() as db:
            found = rows(db, "pauses", name=name, host=host)
        return {worker: bool(paused) for worker, paused in found}

    # ---------------------------------------------------------------------------- the schedules

    def schedules(self) -> list[Schedule]:
        with self.connection.looking() as db:
            return [Schedule(*row) for row in rows(db, "schedules")]

    def begin_schedule(self, name: str, timing: str, at: int) -> None:
        with self.connection.writing() as db:
            db.execute(SQL["begin_schedule"], {"name": name, "timing": timing, "at": at})

    def set_schedule(self, name: str, at: int, *, seen: int) -> bool:
        with self.connection.writing() as db:
            return touched(db, "set_schedule", name=name, at=at, seen=seen) > 0

    def send_ticks(
        self, name: str, ticks: Sequence[int], queue: str, body: str, *, overlap: bool
    ) -> Sent:
        with self.connection.writing() as db:
            return send_ticks(db, name, ticks, queue, body, overlap)

    # ------------------------------------------------------------------------------- the events

    def add_events(self, events: Sequence[FleetEvent]) -> None:
        with self.connection.writing(late=True) as db:
            db.executemany(SQL["add_event"], [event._asdict() for event in events])
            db.execute(SQL["cap_events"])

    def events(self, limit: int, after: int | None = None) -> list[FleetEvent]:
        with self.connection.looking() as db:
            if after is None:
                found = rows(db, "newest_events", limit=limit)[::-1]
            else:
                found = rows(db, "events_after", after=after, limit=limit)
        return [FleetEvent(*row) for row in found]
