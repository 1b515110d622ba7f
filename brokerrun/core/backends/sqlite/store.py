"""The SQLite store: the promises of `core.store` in named statements, one transaction each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from brokerrun.core.backends.sqlite.claims import claim, new_receipt, settle
from brokerrun.core.backends.sqlite.rows import (
    PRESENT,
    SECOND,
    SQL,
    TAKABLE,
    Database,
    Row,
    as_message,
    bring_back,
    count,
    due,
    empty,
    many_done,
    next_due,
    one,
    promote,
    queue_number,
    remember,
    rows,
    select,
    touched,
    vacuum,
)
from brokerrun.core.backends.sqlite.runner import CHECKPOINT_BYTES, Connection
from brokerrun.core.ids import GREATEST, next_id, now_ns
from brokerrun.core.model import (
    Attempt,
    Claim,
    Effect,
    Held,
    Instance,
    Message,
    QueueStats,
    Selection,
    Settlement,
    Wanted,
)
from brokerrun.core.owners import random_bits
from brokerrun.core.states import State
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final

_NET: Final = 5.0  # longest sleep, were a notice lost
_STEP: Final = 0.02  # longest sleep where the kernel tells of nothing
_LEAST_DEAF, _MOST_DEAF = 0.001, 0.005


def open_store(path: str, *, create: bool = True) -> SqliteStore:
    """Name the store in the file at *path*; it is opened at its first use."""
    return SqliteStore(path, create=create)


class SqliteStore:
    """One database file. See `brokerrun.core.store.Store` for what each method promises."""

    def __init__(self, path: str, *, create: bool = True):
        self.connection = Connection(path, create=create)
        self._owner: int | None = None
        self._flushed = -1  # the data version at the last upkeep
        self._watch: Any = None
        self._watched = 0  # the opening of the connection whose log is watched

    # ------------------------------------------------------------------------------ put, look

    def put(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        with self.connection.writing() as db:
            now = now_ns()
            number = queue_number(db, queue, add=True)
            ready_at = due(now, delay)
            newest = one(db, "newest")[0]
            first = next_id(newest, now)
            db.executemany(
                SQL["put"],
                (
                    {
                        "id": ident,
                        "queue": number,
                        "ready_at": ready_at,
                        "priority": priority,
                        "body": body,
                    }
                    for ident, body in enumerate(bodies, first)
                ),
            )
        return list(range(first, first + len(bodies)))

    def look(self, queue: str, selection: Selection) -> list[Message]:
        with self.connection.looking() as db:
            number = queue_number(db, queue)
            if number is None:
                return []
            if selection.id is not None:
                found = rows(db, "look_one", id=selection.id, queue=number)
            else:
                found = select(db, PRESENT, number, selection)
        return [as_message(queue, row) for row in found]

    def take(self, queue: str, selection: Selection) -> list[Message]:
        with self.connection.writing() as db:
            found = self._due_rows(db, queue, selection)
            for row in found:
                db.execute(SQL["read"], {"id": row[0]})
            if found and random_bits(6) == 0:
                vacuum(db)
        return [as_message(queue, row, State.DONE) for row in found]

    def move(self, queue: str, target: str, selection: Selection) -> list[Message]:
        with self.connection.writing() as db:
            found = self._due_rows(db, queue, selection)
            if found:
                to = queue_number(db, target, add=True)
                for row in found:
                    db.execute(SQL["move"], {"id": row[0], "target": to})
            elif selection.id is not None:
                found = bring_back(db, queue, target, selection.id)
        return [as_message(target, row, State.READY, attempts=0) for row in found]

    def delete(self, queue: str | None, message: int | None = None) -> int:
        with self.connection.writing() as db:
            remember(db, GREATEST if message is None else message)
            if queue is None and message is not None:
                return touched(db, "delete_anywhere", id=message)
            if queue is None:
                return sum(empty(db, number) for number, _ in rows(db, "queue_names"))
            number = queue_number(db, queue)
            if number is None:
                return 0
            if message is None:
                return empty(db, number)
            return touched(db, "delete_one", id=message, queue=number)

    def _due_rows(self, db: Database, queue: str, selection: Selection) -> list[Row]:
        """Select what is ready now of a queue."""
        promote(db, now_ns())
        number = queue_number(db, queue)
        if number is None:
            return []
        if selection.id is not None:
            return rows(db, "ready_one", id=selection.id, queue=number)
        return select(db, TAKABLE, number, selection)

    # ------------------------------------------------------------------------------ the claims

    def work(
        self, settlements: Sequence[Settlement], wanted: Wanted | None = None, *, late: bool = False
    ) -> tuple[list[Effect], list[Claim]]:
        with self.connection.writing(late=late) as db:
            now = now_ns()
            effects = settle(db, settlements, now)
            return effects, claim(db, wanted, now) if wanted else []

    def renew(self, ids: Sequence[int], receipt: int) -> tuple[int, set[int]]:
        renewed = new_receipt()
        with self.connection.writing(late=True) as db:
            ours = {
                ident
                for ident in ids
                if touched(db, "renew", id=ident, old=receipt, receipt=renewed)
            }
        return renewed, ours

    def extend(self, message: int, receipt: int, lease: float) -> bool:
        with self.connection.writing() as db:
            ends_at = now_ns() + int(lease * SECOND)
            return touched(db, "extend", id=message, receipt=receipt, ends_at=ends_at) > 0

    def held(self) -> list[Held]:
        with self.connection.looking() as db:
            return [Held(*row) for row in rows(db, "held")]

    def begin_life(self, owner: int) -> None:
        self.connection.lockfile.begin_life(owner)
        self._owner = owner

    def attend(self) -> None:
        self.connection.lockfile.attend()

    def alive(self, owner: int) -> bool:
        return self.connection.lockfile.alive(owner)

    # ----------------------------------------------------------------------------- the lookers

    def queues(self) -> list[QueueStats]:
        with self.connection.looking() as db:
            counted = [count(db, number, name) for number, name in rows(db, "queue_names")]
        return [stats for stats in counted if stats.total]

    def history(self, message: int) -> list[Attempt]:
        with self.connection.looking() as db:
            found = rows(db, "history", message=message)
        return [Attempt(*row) for row in found]

    def unfinished(self, queues: Sequence[str]) -> bool:
        with self.connection.looking() as db:
            now, numbers = now_ns(), [queue_number(db, queue) for queue in queues]
            return any(
                rows(db, name, queue=number, now=now)
                for number in numbers
                if number is not None
                for name in ("any_ready", "any_leased", "any_due", "any_retry")
            )

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

    # ------------------------------------------------------------------------ upkeep and waiting

    def upkeep(self, history_before: int) -> None:
        self.connection.check_file()
        version = self.connection.data_version()
        if version != self._flushed:  # a worker's late ack, whose next handler takes long
            self.connection.flush(others=True)
            self._flushed = version
        self.connection.checkpoint(CHECKPOINT_BYTES)
        with self.connection.looking() as db:
            many = many_done(db)
            old = rows(db, "oldest_attempt", before=history_before)
        if many or old:
            with self.connection.writing(late=True) as db:
                vacuum(db)
                db.execute(SQL["prune"], {"before": history_before})
                db.execute("pragma incremental_vacuum(1000)").fetchall()

    def wait(self, queues: Sequence[str], timeout: float, fds: Sequence[int] = ()) -> None:
        self.flush()
        deadline = time.monotonic() + timeout
        deaf, in_vain = _LEAST_DEAF, False
        while True:
            seen = self.connection.data_version()
            watch = self._watching()
            left = deadline - time.monotonic()
            if left <= 0 or self._anything(queues):
                return
            if in_vain:  # the traffic of others: be deaf for a moment
                if watch.sleep(min(deaf, left), fds):
                    return
                deaf, in_vain = min(deaf * 2, _MOST_DEAF), False
                continue
            if watch.wait(min(left, self._until_due()), fds) or self._await_commit(seen, fds):
                return
            in_vain = self.connection.data_version() != seen
            deaf = deaf if in_vain else _LEAST_DEAF
            self.connection.check_file()

    def flush(self) -> None:
        self.connection.flush()

    def close(self) -> None:
        self._stop_watching()
        if self._owner is not None:
            self.connection.lockfile.end_life(self._owner)
            self._owner = None
        self.connection.close()

    def _watching(self) -> Any:
        """Watch the log of the open connection. After a fork it is another file, in parent and
        child, and they may not share the descriptor: each would hear half.
        """
        if self._watch is None or self._watched != self.connection.openings:
            from brokerrun.core.backends.sqlite.wakeup import LogWatch  # ctypes: not for commands

            self._stop_watching()
            self._watch = LogWatch(self.connection.path + "-wal")
            self._watched = self.connection.openings
        return self._watch

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _anything(self, queues: Sequence[str]) -> bool:
        """Tell whether a claim of one of *queues* would look at more than nothing."""
        with self.connection.looking() as db:
            if next_due(db) <= now_ns():
                return True
            numbers = [queue_number(db, queue) for queue in queues]
            return any(rows(db, "any_ready", queue=n) for n in numbers if n is not None)

    def _until_due(self) -> float:
        """Return the seconds until a delayed message or the end of a lease, at most the net."""
        net = _NET if self._watching().hears else _STEP
        with self.connection.looking() as db:
            return min(max(next_due(db) - now_ns(), 0) / SECOND, net)

    def _await_commit(self, seen: int, fds: Sequence[int]) -> bool:
        """After a notice, look until its commit is there: the write precedes it. Tell of *fds*."""
        pause = 0.0001
        while pause <= 0.004 and self.connection.data_version() == seen:
            if self._watching().sleep(pause, fds):
                return True
            pause *= 2
        return False
