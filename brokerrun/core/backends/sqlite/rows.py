"""What stands inside a transaction: the named statements, put together to selections and counts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from brokerrun.core.ids import GREATEST
from brokerrun.core.model import Message, Selection
from brokerrun.core.statements import beside, load_statements
from brokerrun.core.states import State
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final

    from brokerrun.core.backends.sqlite.access import Cursor, Database, Row

SQL: Final = load_statements(beside(__file__, "statements.sql"))
SECOND: Final = 10**9
TAKABLE: Final = ("ready",)
PRESENT: Final = ("ready", "delayed", "leased")
_LEAST_PRIORITY: Final = -(2**63)


def rows(db: Database, name: str, /, **parameters: Any) -> list[Row]:
    return db.execute(SQL[name], parameters).fetchall()


def one(db: Database, name: str, /, **parameters: Any) -> Row:
    row: Row = db.execute(SQL[name], parameters).fetchone()
    return row


def touched(db: Database, name: str, /, **parameters: Any) -> int:
    return db.execute(SQL[name], parameters).rowcount


def listed(ids: Iterable[int]) -> str:
    """Write ids as the statements read them: a JSON array."""
    return f"[{','.join(map(str, ids))}]"


def queue_number(db: Database, name: str) -> int | None:
    found = rows(db, "queue_number", name=name)
    return int(found[0][0]) if found else None


def main_queue(db: Database, name: str) -> int:
    """Return the number of a queue that somebody writes to; make it where it is missing."""
    found = rows(db, "queue_number", name=name)
    if not found:
        return _added(db, name, side=0)
    number, side = found[0]
    if side:
        db.execute(SQL["main_queue"], {"id": number})
    return int(number)


def side_queue(db: Database, name: str) -> int:
    """Return the number of a queue for a hold or a burial; make it where it is missing."""
    number = queue_number(db, name)
    return _added(db, name, side=1) if number is None else number


def _added(db: Database, name: str, *, side: int) -> int:
    return int(db.execute(SQL["add_queue"], {"name": name, "side": side}).lastrowid or 0)


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
    if selection.newest:
        return _newest(db, kinds, queue)
    limit = selection.limit
    room = GREATEST if selection.most_bytes is None else selection.most_bytes
    found: list[Row] = []
    for place in _places(db, kinds, queue, selection):
        place["limit"] = -1 if limit is None else limit - len(found)
        for row in _merged([db.execute(SQL[f"{kind}_page"], place) for kind in kinds]):
            found.append(row)
            room -= len(row[1])
            if len(found) == limit or room <= 0:
                return found
    return found


def _places(
    db: Database, kinds: Sequence[str], queue: int, selection: Selection
) -> Iterator[dict[str, int]]:
    """Yield where to look: each priority with the ids that are meant there."""
    least = -1 if selection.after is None else selection.after
    before = GREATEST if selection.before is None else selection.before
    first, beyond = selection.beyond or (_LEAST_PRIORITY + 1, -1)
    for priority in _priorities(db, kinds, queue, first):
        after = max(least, beyond) if priority == first else least
        yield {"queue": queue, "priority": priority, "after": after, "before": before}


def _merged(pages: list[Cursor]) -> Iterable[Row]:
    return pages[0] if len(pages) == 1 else heapq.merge(*pages)


def _newest(db: Database, kinds: Sequence[str], queue: int) -> list[Row]:
    """Select the row with the greatest id, whatever its priority."""
    heads = [
        row
        for priority in _priorities(db, kinds, queue, _LEAST_PRIORITY + 1)
        for kind in kinds
        for row in rows(db, f"{kind}_newest", queue=queue, priority=priority)
    ]
    return [max(heads)] if heads else []


def _priorities(db: Database, kinds: Sequence[str], queue: int, first: int) -> Iterator[int]:
    priority = first - 1
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
    ident, body, stored, ready_at, tried, priority, _ = row
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
        to = main_queue(db, target)
        db.execute(SQL["bring_back"], {"id": ident, "queue": number, "target": to})
    return found
