"""The SQLite store: the promises of `core.store` in named statements, one transaction each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from brokerrun.core.backends.sqlite.claims import by_receipt, claim, new_receipt, settle
from brokerrun.core.backends.sqlite.facts import Facts
from brokerrun.core.backends.sqlite.queues import (
    empty,
    has_rows,
    load,
    rename,
)
from brokerrun.core.backends.sqlite.rows import (
    PRESENT,
    SECOND,
    SQL,
    TAKABLE,
    as_message,
    bring_back,
    due,
    listed,
    main_queue,
    next_due,
    one,
    promote,
    queue_number,
    remember,
    rows,
    select,
    touched,
)
from brokerrun.core.backends.sqlite.runner import CHECKPOINT_BYTES, Connection
from brokerrun.core.backends.sqlite.vacuum import (
    enough_done,
    free_pages,
    vacuum_due,
    vacuum_slice,
)
from brokerrun.core.ids import GREATEST, next_id, now_ns
from brokerrun.core.model import (
    Claim,
    Draft,
    Effect,
    Held,
    Message,
    Selection,
    Settlement,
    Wanted,
)
from brokerrun.core.settings import Settings
from brokerrun.core.states import State
from brokerrun.errors import StoreError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Access, Database, Row
    from brokerrun.core.backends.sqlite.waiting import Waiter
    from brokerrun.core.sqlrunner import SQLRunner

_SLICE_PAGES = 10_000  # given back at once


def open_store(path: str, *, create: bool = True, settings: Settings | None = None) -> SqliteStore:
    """Name the store in the file at *path*; it is opened at its first use."""
    return SqliteStore(path, create=create, settings=settings or Settings())


def open_runner(runner: SQLRunner, settings: Settings) -> SqliteStore:
    """Give the store whose statements a caller's runner runs."""
    from brokerrun.core.backends.sqlite.through import through

    return SqliteStore(through(runner, settings), settings=settings)


class SqliteStore(Facts):
    """One database, by its path or through an access to it.

    See `brokerrun.core.store.Store` for what each method promises.
    """

    def __init__(
        self,
        place: str | Access,
        *,
        create: bool = True,
        settings: Settings = Settings(),  # noqa: B008
    ):
        super().__init__(
            Connection(place, create=create, settings=settings) if isinstance(place, str) else place
        )
        self.settings = settings
        self._flushed = -1  # the data version at the last upkeep
        self._changed = 0
        self._waiter: Waiter | None = None

    def within(self, connection: object) -> SqliteStore:
        from brokerrun.core.backends.sqlite.guest import Guest

        settings = self.settings._replace(auto_vacuum=False)
        return SqliteStore(Guest(self.connection.path, settings, connection), settings=settings)

    def awaited(self, connection: object, message: int, receipt: int) -> bool:
        with suppress(sqlite3.Error, StoreError):  # closed, or of another thread
            if getattr(connection, "in_transaction", False):
                theirs = self.within(connection).holding(message, receipt)
                return theirs is None and self.holding(message, receipt) is not None
        return False

    # ------------------------------------------------------------------------------ put, look

    def put(
        self, queue: str, bodies: Sequence[str], *, delay: float = 0.0, priority: int = 0
    ) -> list[int]:
        return self.put_drafts(queue, [Draft(body, delay, priority) for body in bodies])

    def put_drafts(self, queue: str, drafts: Sequence[Draft]) -> list[int]:
        with self.connection.writing() as db:
            now = now_ns()
            number = main_queue(db, queue)
            first = next_id(one(db, "newest")[0], now)
            db.executemany(
                SQL["put"],
                (
                    {
                        "id": ident,
                        "queue": number,
                        "ready_at": due(now, draft.delay),
                        "priority": draft.priority,
                        "body": draft.body,
                    }
                    for ident, draft in enumerate(drafts, first)
                ),
            )
            vacuum = self._vacuum_due(db, len(drafts))
        if vacuum:
            self.vacuum()
        return list(range(first, first + len(drafts)))

    def broadcast(self, body: str, chosen: Callable[[str, bool], bool]) -> list[tuple[str, int]]:
        with self.connection.writing() as db:
            now = now_ns()
            first = next_id(one(db, "newest")[0], now)
            queues = [
                (number, name)
                for number, name, side in rows(db, "queue_names")
                if chosen(name, bool(side)) and has_rows(db, number)
            ]
            for ident, (number, _) in enumerate(queues, first):
                facts = {"id": ident, "queue": number, "ready_at": None, "priority": 0}
                db.execute(SQL["put"], {**facts, "body": body})
        return [(name, ident) for ident, (_, name) in enumerate(queues, first)]

    def load(self, messages: Iterable[Message], aliases: Sequence[tuple[str, str]] = ()) -> None:
        with self.connection.writing() as db:
            load(db, messages, aliases)

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
            touched(db, "read", ids=listed(row[0] for row in found))
            due = self._vacuum_due(db, len(found))
        if due:
            self.vacuum()
        return [as_message(queue, row, State.DONE) for row in found]

    def finish(self, claims: Sequence[Claim], target: str | None = None) -> int:
        with self.connection.writing() as db:
            to = None if target is None else main_queue(db, target)
            step, done = "finish_read" if to is None else "finish_move", 0
            for receipt, ids in by_receipt(claims).items():
                done += touched(db, step, ids=listed(ids), receipt=receipt, target=to)
            due = to is None and self._vacuum_due(db, done)
        if due:
            self.vacuum()
        return done

    def unread(self, queue: str, ids: Sequence[int]) -> int:
        with self.connection.writing() as db:
            return sum(bool(bring_back(db, queue, queue, ident)) for ident in ids)

    def move(self, queue: str, target: str, selection: Selection) -> list[Message]:
        with self.connection.writing() as db:
            found = self._due_rows(db, queue, selection)
            if found:
                to = main_queue(db, target)
                touched(db, "move", ids=listed(row[0] for row in found), target=to)
            elif selection.id is not None:
                found = bring_back(db, queue, target, selection.id)
        return [as_message(target, row, State.READY, attempts=0) for row in found]

    def unmove(self, queue: str, target: str, ids: Sequence[int]) -> int:
        with self.connection.writing() as db:
            home, there = main_queue(db, queue), queue_number(db, target)
            back = [ident for ident in ids if rows(db, "ready_one", id=ident, queue=there)]
            return touched(db, "move", ids=listed(back), target=home)

    def rename(self, queue: str, new: str) -> bool:
        with self.connection.writing() as db:
            return rename(db, queue, new)

    def delete(self, queue: str | None, message: int | None = None) -> int:
        with self.connection.writing() as db:
            remember(db, GREATEST if message is None else message)
            if queue is None and message is not None:
                return touched(db, "delete_anywhere", id=message)
            if queue is None:
                return sum(empty(db, number) for number, *_ in rows(db, "queue_names"))
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

    def _vacuum_due(self, db: Database, changed: int) -> bool:
        """Count what was written or read, and tell whether rows should go: asked now and then."""
        before, every = self._changed, self.settings.auto_vacuum_interval
        self._changed += changed
        if not changed or not self.settings.auto_vacuum:
            return False
        asked = enough_done(db, self.settings) if before == 0 else False
        return (asked or before // every < self._changed // every) and vacuum_due(db, self.settings)

    # ------------------------------------------------------------------------------ the claims

    def work(
        self, settlements: Sequence[Settlement], *wanted: Wanted, late: bool = False
    ) -> tuple[list[Effect], list[Claim]]:
        with self.connection.writing(late=late) as db:
            now = now_ns()
            effects = settle(db, settlements, now)
            return effects, next(filter(None, (claim(db, each, now) for each in wanted)), [])

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

    def holding(self, message: int, receipt: int | None = None) -> Held | None:
        with self.connection.looking() as db:
            found = rows(db, "holding", id=message, receipt=receipt)
        return Held(*found[0]) if found else None

    def held(self) -> list[Held]:
        with self.connection.looking() as db:
            return [Held(*row) for row in rows(db, "held")]

    def begin_life(self, owner: int) -> None:
        self.connection.lockfile.begin_life(owner)

    def end_life(self, owner: int) -> None:
        self.connection.lockfile.end_life(owner)

    def attend(self) -> None:
        self.connection.lockfile.attend()

    def alive(self, owner: int) -> bool:
        return self.connection.lockfile.alive(owner)

    # ------------------------------------------------------------------------ upkeep and waiting

    def upkeep(self, history_before: int) -> None:
        self.connection.check_file()
        version = self.connection.data_version()
        if version != self._flushed:  # a worker's late ack, whose next handler takes long
            self.connection.flush(others=True)
            self._flushed = version
        self.connection.checkpoint(CHECKPOINT_BYTES)
        with self.connection.looking() as db:
            vacuum = self.settings.auto_vacuum and enough_done(db, self.settings)
            vacuum = vacuum and vacuum_due(db, self.settings)
            old = rows(db, "oldest_attempt", before=history_before)
            old += rows(db, "oldest_event", before=history_before)
        if vacuum or old:
            with self.connection.writing(late=True) as db:
                if vacuum:
                    vacuum_slice(db, self.settings.vacuum_batch_size)
                db.execute(SQL["prune"], {"before": history_before})
                db.execute(SQL["prune_events"], {"before": history_before})
                free_pages(db, 1000)

    def vacuum(self, *, compact: bool = False) -> int:
        gone, limit = 0, self.settings.vacuum_batch_size
        while True:
            with self.connection.writing(late=True) as db:
                went = vacuum_slice(db, limit)
            gone += went
            if went < limit:
                break
        while compact:
            with self.connection.writing(late=True) as db:
                compact = free_pages(db, _SLICE_PAGES) == _SLICE_PAGES
            self.connection.checkpoint(0)
        return gone

    def wait(
        self,
        queues: Sequence[str],
        timeout: float,
        fds: Sequence[int] = (),
        *,
        stand_back: float = 0.0,
    ) -> None:
        def probe() -> bool:
            return any(self.ready(queue) for queue in queues)

        self._waiting().wait(probe, timeout, fds, stand_back)

    def wait_until(
        self, probe: Callable[[], bool], timeout: float, fds: Sequence[int] = ()
    ) -> bool:
        return self._waiting().wait(probe, timeout, fds)

    def _waiting(self) -> Waiter:
        self.flush()
        if self._waiter is None:
            from brokerrun.core.backends.sqlite.waiting import Waiter  # ctypes: not for commands

            self._waiter = Waiter(self.connection)
        return self._waiter

    def ready(self, queue: str, selection: Selection = Selection()) -> bool:  # noqa: B008
        with self.connection.looking() as db:
            if next_due(db) <= now_ns():
                return True
            number = queue_number(db, queue)
            return number is not None and bool(select(db, TAKABLE, number, selection))

    def unfinished(self, queues: Sequence[str]) -> bool:
        with self.connection.looking() as db:
            now, numbers = now_ns(), [queue_number(db, queue) for queue in queues]
            return any(
                rows(db, name, queue=number, now=now)
                for number in numbers
                if number is not None
                for name in ("any_ready", "any_leased", "any_due", "any_retry")
            )

    def flush(self) -> None:
        self.connection.flush()

    def close(self) -> None:
        if self._waiter is not None:
            self._waiter.close()
        self.connection.close()
