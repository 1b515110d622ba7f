"""What stands inside a transaction: the named statements, put together to selections and counts."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence

from brokerrun.core.ids import GREATEST
from brokerrun.core.model import Message, QueueStats, Selection
from brokerrun.core.statements import beside, load_statements
from brokerrun.core.states import State
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final

SQL: Final = load_statements(beside(__file__, "statements.sql"))
SECOND: Final = 10**9
TAKABLE: Final = ("ready",)
PRESENT: Final = ("ready", "delayed", "leased")
_LEAST_PRIORITY: Final = -(2**63)
_DONE_KEPT: Final = 1000  # rows that were read and may stay until more come

Database = sqlite3.Connection
Row = tuple["Any", ...]


def rows(db: Database, name: str, /, **parameters: Any) -> list[Row]:
    return db.execute(SQL[name], parameters).fetchall()


def one(db: Database, name: str, /, **parameters: Any) -> Row:
    row: Row = db.execute(SQL[name], parameters).fetchone()
    return row


def touched(db: Database, name: str, /, **parameters: Any) -> int:
    return db.execute(SQL[name], parameters).rowcount


def queue_number(db: Database, name: str, *, add: bool = False) -> int | None:
    found = rows(db, "queue_number", name=name)
    if found:
        return int(found[0][0])
    return db.execute(SQL["add_queue"], {"name": name}).lastrowid if add else None


def due(now: int, delay: float) -> int | None:
    return now + int(delay * SECOND) if delay > 0 else None


def next_due(db: Database) -> int:
    """Return when something becomes ready by itself; far away if nothing does."""
    times = [one(db, name)[0] for name in ("next_due", "next_expiry")]
    return min((at for at in times if at is not None), default=GREATEST)


def promote(db: Database, now: int) -> None:
    """Make ready what has waited long enough, and what a lease held too long."""
    if next_due(db) <= now:
        while touched(db, "promote", now=now) or touched(db, "expire", now=now):
            pass


def remember(db: Database, greatest: int) -> None:
    db.execute(SQL["remember"], {"id": greatest})


def select(db: Database, kinds: Sequence[str], queue: int, selection: Selection) -> list[Row]:
    """Select rows by priority and id, from the indexes of *kinds*: a seek for each priority."""
    limit = -1 if selection.limit is None else selection.limit
    bounds = {
        "after": -1 if selection.after is None else selection.after,
        "before": GREATEST if selection.before is None else selection.before,
    }
    found: list[Row] = []
    for priority in _priorities(db, kinds, queue):
        left = -1 if limit < 0 else limit - len(found)
        if left == 0:
            break
        pages = [
            rows(db, f"{kind}_page", queue=queue, priority=priority, limit=left, **bounds)
            for kind in kinds
        ]
        merged = list(heapq.merge(*pages))
        found += merged if left < 0 else merged[:left]
    return found


def _priorities(db: Database, kinds: Sequence[str], queue: int) -> Iterator[int]:
    priority = _LEAST_PRIORITY
    while True:
        heads = [one(db, f"{k}_priority", queue=queue, priority=priority)[0] for k in kinds]
        found = [head for head in heads if head is not None]
        if not found:
            return
        priority = min(found)
        yield priority


def as_message(
    queue: str, row: Row, state: State | None = None, attempts: int | None = None
) -> Message:
    ident, body, stored, ready_at, tried, priority = row
    return Message(
        id=ident,
        body=body,
        queue=queue,
        state=State(stored) if state is None else state,
        ready_at=ready_at,
        attempts=tried if attempts is None else attempts,
        priority=priority,
    )


def bring_back(db: Database, queue: str, target: str, ident: int) -> list[Row]:
    number = queue_number(db, queue)
    found = rows(db, "done_one", id=ident, queue=number)
    if found:
        to = queue_number(db, target, add=True)
        db.execute(SQL["bring_back"], {"id": ident, "queue": number, "target": to})
    return found


def empty(db: Database, number: int) -> int:
    names = ("delete_ready", "delete_delayed", "delete_leased", "delete_done")
    return sum(touched(db, name, queue=number) for name in names)


def count(db: Database, number: int, name: str) -> QueueStats:
    ready, delayed, leased = (
        one(db, f"count_{kind}", queue=number) for kind in ("ready", "delayed", "leased")
    )
    done = one(db, "count_done", queue=number)[0]
    pending = ready[0] + delayed[0] + leased[0]
    oldest = [least for _, least in (ready, delayed, leased) if least is not None]
    return QueueStats(
        queue=name,
        pending=pending,
        claimed=done,
        total=pending + done,
        delayed=delayed[0],
        running=leased[0],
        oldest_at=min(oldest, default=None),
    )


def many_done(db: Database) -> bool:
    return bool(one(db, "many_done", limit=_DONE_KEPT + 1)[0] > _DONE_KEPT)


def vacuum(db: Database) -> None:
    """Drop a slice of DONE rows where there are many."""
    if many_done(db):
        remember(db, one(db, "newest_done")[0])
        db.execute(SQL["vacuum"])
