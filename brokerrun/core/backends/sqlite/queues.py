"""Whole queues inside a transaction: counted, emptied, renamed, loaded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from brokerrun.core.backends.sqlite.rows import (
    SQL,
    main_queue,
    one,
    queue_number,
    rows,
    touched,
)
from brokerrun.core.model import Message, QueueStats, Summary
from brokerrun.errors import AliasError, IntegrityError, MessageError, UsageError
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Database

_LOADED = ("id", "queue", "ready_at", "priority", "attempts", "body")


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


def has_rows(db: Database, number: int) -> bool:
    return bool(rows(db, "any_row", queue=number))


def summary(db: Database) -> Summary:
    queues = [count(db, number, name) for number, name, _ in rows(db, "queue_names")]
    pages, size = (
        db.execute(f"pragma {fact}").fetchone()[0] for fact in ("page_count", "page_size")
    )
    return Summary(sum(queue.total for queue in queues), one(db, "newest")[0], pages * size)


def empty(db: Database, number: int) -> int:
    names = ("delete_ready", "delete_delayed", "delete_leased", "delete_done")
    return sum(touched(db, name, queue=number) for name in names)


def rename(db: Database, queue: str, new: str) -> bool:
    """Give a queue another name, with all that stands in it and its aliases."""
    number, there = queue_number(db, queue), queue_number(db, new)
    if number is None or not _in_use(db, number):
        return False
    if there is not None:
        if _in_use(db, there):
            raise UsageError(
                f"cannot rename {queue!r} to {new!r}: there are messages in it; "
                f"`broker move {queue} {new} --all` joins the two"
            )
        db.execute(SQL["drop_queue"], {"id": there})
    db.execute(SQL["rename_queue"], {"id": number, "new": new})
    db.execute(SQL["retarget_aliases"], {"old": queue, "new": new})
    return True


def _in_use(db: Database, number: int) -> bool:
    return has_rows(db, number) or bool(rows(db, "any_home", queue=number))


def load(db: Database, messages: Iterable[Message], aliases: Sequence[tuple[str, str]]) -> None:
    """Store messages with the ids that they have, and aliases; what contradicts is refused."""
    numbers: dict[str, int] = {}
    for message in messages:
        if message.queue not in numbers:
            numbers[message.queue] = main_queue(db, message.queue)
        facts = message._asdict() | {"queue": numbers[message.queue]}
        try:
            db.execute(SQL["load"], {key: facts[key] for key in _LOADED})
        except (sqlite3.IntegrityError, IntegrityError) as error:
            raise MessageError(
                f"message {message.id} is there already: nothing was stored"
            ) from error
    for name, target in aliases:
        added = touched(db, "add_alias", name=name, target=target)
        if not added and rows(db, "alias_target", name=name) != [(target,)]:
            raise AliasError(f"alias {name!r} stands for another queue already: nothing was stored")
