"""The claims of a queue: those that a SQLiteQueue made, and any other by the id of its message."""

from __future__ import annotations

from brokerrun.core.broker import Broker
from brokerrun.core.model import Effect, Held, Selection, Settlement, Wanted
from brokerrun.core.owners import new_guardian
from brokerrun.core.retry import release
from brokerrun.core.states import State
from brokerrun.sqqueue.record import Record, was_lost
from brokerrun.sqqueue.result import QueueError


class Claims:
    """Makes claims, finds and ends them.

    A message that was dequeued here is known by the receipt of that, and by no other. Any other
    stands for whoever holds it now. Each is ended only while it is the current claim.
    """

    def __init__(self, broker: Broker, queue: str, record: Record):
        self._broker, self._queue, self._record = broker, queue, record

    def make(self, limit: int, lease: float, only: int | None = None) -> list[tuple[int, str]]:
        """Hold pending messages for *lease* seconds, or that one only; return ids and payloads."""
        wanted = Wanted(
            self._queue,
            new_guardian(),
            limit,
            lease=lease,
            after=None if only is None else only - 1,
            before=None if only is None else only + 1,
        )
        claims = self._broker.claim(wanted)
        self._record.dequeued(claims)
        return [(claim.id, claim.body) for claim in claims]

    def find(self, ident: int) -> Held | None:
        """Find the claim of a message; None where nobody holds it.

        Raises:
            QueueError: It was dequeued here, and that claim is not the current one.
        """
        receipt = self._record.receipt(ident)
        held = self._broker.store.holding(ident, receipt)
        if receipt is not None:
            if held is None:
                raise was_lost(ident)
            return held
        return held if held is not None and held.queue == self._queue else None

    def get(self, ident: int) -> Held:
        """Find the claim of a message; a QueueError where there is none."""
        held = self.find(ident)
        if held is None:
            raise self.missing(ident)
        return held

    def proof(self, ident: int) -> int:
        """Return the receipt of a claim; of one that was made here without a look at the file."""
        receipt = self._record.receipt(ident)
        return self.get(ident).receipt if receipt is None else receipt

    def end(self, settlement: Settlement) -> None:
        """End a claim. One that was lost stays known: a second answer is no better."""
        effect = self._broker.store.work([settlement])[0][0]
        if effect is not Effect.LOST:
            self._record.forget(settlement.id, settlement.receipt)
        if effect is not Effect.SETTLED:
            raise was_lost(settlement.id)

    def give_back(self, held: list[tuple[int, int]]) -> None:
        """Release what is still held of these ids and receipts."""
        self._broker.store.work([release(ident, receipt) for ident, receipt in held])
        for ident, receipt in held:
            self._record.gave_back(ident, receipt)

    def missing(self, ident: int) -> QueueError:
        """Say why there is no claim of a message."""
        found = self._broker.peek(self._queue, Selection(id=ident))
        if not found:
            return QueueError(f"message {ident} is not there: it was completed, died or never was")
        if found[0].state is State.READY:
            return QueueError(f"message {ident} is pending: dequeue it first")
        return QueueError(f"message {ident} was dequeued just now: try again")
