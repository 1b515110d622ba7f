"""Claims inside a transaction: made, and ended by what their receipts prove."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brokerrun.core.backends.sqlite.rows import (
    SECOND,
    SQL,
    TAKABLE,
    due,
    listed,
    promote,
    queue_number,
    remember,
    rows,
    select,
    side_queue,
    touched,
)
from brokerrun.core.model import Claim, Effect, Selection, Settlement, Wanted
from brokerrun.core.owners import random_bits
from brokerrun.core.states import Event
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.backends.sqlite.access import Database, Row


def settle(db: Database, settlements: Sequence[Settlement], now: int) -> list[Effect]:
    """End claims, each where its receipt is the current one."""
    if not settlements:
        return []
    remember(db, max(settlement.id for settlement in settlements))
    acked = _ack_together(db, settlements)
    return [
        Effect.SETTLED if settlement.id in acked else _settle(db, settlement, now)
        for settlement in settlements
    ]


def by_receipt(held: Iterable[Claim | Settlement]) -> dict[int, list[int]]:
    """Group ids by the receipt that proves the hold."""
    found: dict[int, list[int]] = {}
    for each in held:
        found.setdefault(each.receipt, []).append(each.id)
    return found


def _ack_together(db: Database, settlements: Sequence[Settlement]) -> set[int]:
    """Ack what came in a batch and leaves no history, a statement a batch; return what was."""
    plain = (s for s in settlements if s.event is Event.ACK and s.attempt is None)
    return {
        ident
        for receipt, ids in by_receipt(plain).items()
        if len(ids) > 1
        for (ident,) in rows(db, "ack_together", ids=listed(ids), receipt=receipt)
    }


def _settle(db: Database, settlement: Settlement, now: int) -> Effect:
    proof = {"id": settlement.id, "receipt": settlement.receipt}
    ready_at = due(now, settlement.delay)
    if settlement.event is Event.ACK:
        ended = touched(db, "ack", **proof)
    elif settlement.event is Event.RETRY:
        ended = touched(db, "retry", ready_at=ready_at, crashes=settlement.crashes, **proof)
    elif settlement.event is Event.RELEASE:
        ended = touched(db, "release", ready_at=ready_at, **proof)
    elif settlement.event is Event.BURY and settlement.queue is not None:
        number = side_queue(db, settlement.queue)
        ended = touched(db, "bury", queue=number, **proof)
    else:
        raise ValueError(f"{settlement.event} settles nothing")
    if not ended:
        return Effect.LOST if rows(db, "present", id=settlement.id) else Effect.GONE
    if settlement.attempt is not None:
        db.execute(SQL["add_attempt"], settlement.attempt._asdict())
        db.execute(SQL["cap_attempts"], {"message": settlement.id})
    return Effect.SETTLED


def claim(db: Database, wanted: Wanted, now: int) -> list[Claim]:
    promote(db, now)
    number = queue_number(db, wanted.queue)
    if number is None:
        return []
    found = _batch(_ready(db, number, wanted))
    if not found:
        return []
    receipt = new_receipt()
    mark = {
        "hold": None if wanted.hold is None else side_queue(db, wanted.hold),
        "owner": wanted.owner,
        "receipt": receipt,
        "ends_at": None if wanted.lease is None else now + int(wanted.lease * SECOND),
    }
    touched(db, "claim", ids=listed(ident for ident, *_ in found), **mark)
    return [
        Claim(
            id=ident,
            body=body,
            queue=wanted.queue,
            receipt=receipt,
            attempts=attempts + 1,
            crashes=crashes,
            last_error=_last_error(db, ident) if attempts else None,
            priority=priority,
        )
        for ident, body, attempts, crashes, priority in found
    ]


def _ready(db: Database, queue: int, wanted: Wanted) -> list[Row]:
    """Select (id, body, attempts, crashes, priority) of what may be claimed."""
    if wanted.after is None and wanted.before is None and wanted.most_bytes is None:
        return rows(db, "ready", queue=queue, limit=wanted.limit)
    selection = Selection(wanted.limit, wanted.after, wanted.before, most_bytes=wanted.most_bytes)
    found = select(db, TAKABLE, queue, selection)
    return [
        (ident, body, tried, crashes, priority)
        for ident, body, _, _, tried, priority, crashes in found
    ]


def _last_error(db: Database, message: int) -> str | None:
    found = rows(db, "last_error", id=message)
    return found[0][0] if found else None


def _batch(found: list[Row]) -> list[Row]:
    """Cut a batch before its first message that was attempted before: such a one goes alone."""
    for place, (_, _, attempts, _, _) in enumerate(found):
        if attempts:
            return found[: max(place, 1)]
    return found


def new_receipt() -> int:
    return random_bits(62)
