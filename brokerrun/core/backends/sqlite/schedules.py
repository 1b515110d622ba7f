"""Ticks inside a transaction: what makes one tick one message, whoever sends it."""

from __future__ import annotations

from collections.abc import Sequence

from brokerrun.core.backends.sqlite.rows import SQL, main_queue, one, queue_number, rows, touched
from brokerrun.core.ids import next_id, now_ns
from brokerrun.core.model import Sent
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Database


def send_ticks(
    db: Database, name: str, ticks: Sequence[int], queue: str, body: str, overlap: bool
) -> Sent:
    waiting = None if overlap else _waiting(db, name, queue)
    if waiting is not None:
        passed = touched(db, "tick", name=name, tick=ticks[-1], message=waiting)
        return Sent(waiting=waiting if passed else None)
    number = main_queue(db, queue)
    first = ident = next_id(one(db, "newest")[0], now_ns())
    for tick in ticks:
        if touched(db, "tick", name=name, tick=tick, message=ident):
            facts = {"id": ident, "queue": number, "ready_at": None, "priority": 0}
            db.execute(SQL["put"], {**facts, "body": body})
            ident += 1
    return Sent(tuple(range(first, ident)))


def _waiting(db: Database, name: str, queue: str) -> int | None:
    found = rows(db, "unfinished_tick", name=name, queue=queue_number(db, queue))
    return int(found[0][0]) if found else None
